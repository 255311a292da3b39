"""Checkpoints that a running vLLM server can read again in place.

The output head is always written out. Where a model shares it with its input embedding, vLLM on a CPU keeps a packed
copy of it that a reload does not renew (seen in vLLM 0.32: `ParallelLMHead: Failed to load weights`), and would go on
sampling from the old head. A head of its own is renewed as every other layer is.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from masksearch_agent.errors import ModelError

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

__all__ = ("write_served_weights",)


def write_served_weights(
    model: PreTrainedModel,
    state: Mapping[str, torch.Tensor],
    tokenizer: PreTrainedTokenizerBase,
    directory: Path,
) -> None:
    """Write a checkpoint folder for `VLLMClient.reload_weights`, and for a server to start from.

    Args:
        model: Says how the weights belong together; its own values are not read.
        state: The weights by name, as `model.state_dict()` names them.

    Raises:
        ModelError: The model has no output head.
    """
    from huggingface_hub import save_torch_state_dict

    head, embedding = model.get_output_embeddings(), model.get_input_embeddings()
    names = {id(module): name for name, module in model.named_modules()}
    if head is None:
        raise ModelError(f"{type(model).__name__} has no output head, so it cannot be served for sampling")
    config = copy.deepcopy(model.config)
    weights = {name: tensor.detach() for name, tensor in state.items()}
    if config.tie_word_embeddings:
        # A copy: tensors that share memory are written once.
        weights[f"{names[id(head)]}.weight"] = weights[f"{names[id(embedding)]}.weight"].clone()
        config.tie_word_embeddings = False
    config.save_pretrained(directory)
    tokenizer.save_pretrained(directory)
    save_torch_state_dict(weights, directory, metadata={"format": "pt"})
