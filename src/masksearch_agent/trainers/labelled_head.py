"""SFT on a CPU that projects to the vocabulary only where a label stands.

Most of a trajectory is prompt and passages, which carry no loss. On a GPU TRL leaves them out of its head; on
a CPU it projects all of them, and twice, which is half of a step where a small model has a large vocabulary
(`benchmarks/sft_step.py`).
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from trl import SFTTrainer
from trl.trainer.utils import FusedCausalLMOutput

__all__ = ("LabelledHeadTrainer",)

_IGNORED = -100


class LabelledHeadTrainer(SFTTrainer):  # type: ignore[misc]
    """TRL's trainer with the same loss and metrics, computed from the logits of labelled positions alone."""

    def compute_loss(self, model: Any, inputs: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        """Return the loss of a batch whose rows are padded at their end."""
        return super().compute_loss(partial(_score_labels, model), inputs, *args, **kwargs)


def _score_labels(
    model: Any,
    input_ids: torch.Tensor,
    labels: torch.Tensor,
    attention_mask: torch.Tensor,
    fused_lm_head: bool,
    **kwargs: Any,
) -> FusedCausalLMOutput:
    """Return what TRL's fused head returns, zero where no label stands.

    Args:
        model: The model or the wrapper around it.
        input_ids: `(B, T)`.
        labels: `(B, T)`, -100 where no loss is taken.
        attention_mask: `(B, T)`, not read: padding at the end of a row is behind all that could attend to it, and
            attention without a mask takes half the time.
        fused_lm_head: Always true.
        kwargs: Passed on.
    """
    targets = torch.nn.functional.pad(labels[:, 1:], (0, 1), value=_IGNORED)
    is_labelled = targets != _IGNORED
    logits = model(input_ids=input_ids, logits_to_keep=is_labelled, **kwargs).logits
    log_probs = torch.log_softmax(logits.float(), dim=-1)
    chosen = targets[is_labelled]
    with torch.no_grad():
        entropy = -(log_probs.exp() * log_probs).sum(dim=-1)
        is_top1 = log_probs.argmax(dim=-1) == chosen
    log_probs = log_probs.gather(-1, chosen.unsqueeze(-1)).squeeze(-1)
    return FusedCausalLMOutput(
        log_probs=_placed(log_probs, is_labelled),
        entropy=_placed(entropy, is_labelled),
        is_top1=_placed(is_top1, is_labelled),
        label_mask=is_labelled,
    )


def _placed(values: torch.Tensor, is_labelled: torch.Tensor) -> torch.Tensor:
    return values.new_zeros(is_labelled.shape).masked_scatter(is_labelled, values)
