"""How the weights that are trained reach what samples the rollouts.

A trainer calls `refresh` before each batch of rollouts, so rollouts are always sampled from the newest weights, also
where a run goes on from a checkpoint. Afterwards the chat model's version is that of the weights which the sampler
really has; every turn records it. Rollouts that are under way go on with the new weights from their next turn
(`RecordingChatModel.exchange`), but for `SharedWeights`, with which there are none.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import torch
from transformers import PreTrainedModel

from masksearch_agent.errors import TrainingError
from masksearch_agent.models.local import LocalChatModel
from masksearch_agent.models.served_weights import write_served_weights
from masksearch_agent.models.vllm import VLLMChatModel

__all__ = (
    "CopiedWeights",
    "DiskSync",
    "NCCLSync",
    "SharedWeights",
    "WeightSync",
    "check_ahead",
    "check_server",
    "merge_adapters",
)


class WeightSync(Protocol):
    """Keeps a sampler's weights equal to those that are trained."""

    def refresh(self, trainer: Any, step: int) -> None:
        """Bring the weights of a `DAPOTrainer` to the sampler, after so many optimizer steps; every rank calls it."""
        ...


class SharedWeights:
    """The sampler reads the very tensors that are trained; only its `model_version` changes."""

    def __init__(self, chat_model: Any) -> None:
        self.chat_model = chat_model

    def refresh(self, trainer: Any, step: int) -> None:
        """Name the weights after the step."""
        self.chat_model.model_version = _version_at(self.chat_model, step)


class CopiedWeights:
    """The sampler, in this process, has a copy of the weights, and samples while they are trained."""

    def __init__(self, chat_model: LocalChatModel) -> None:
        self.chat_model = chat_model

    def refresh(self, trainer: Any, step: int) -> None:
        """Copy the weights, adapters merged, and name them after the step."""
        state = trainer.accelerator.get_state_dict(trainer.model)
        model = trainer.accelerator.unwrap_model(trainer.model)
        if hasattr(model, "peft_config"):
            state = merge_adapters(model, state)
        with self.chat_model.exchange():
            self.chat_model.model.load_state_dict(state)
            self.chat_model.model_version = _version_at(self.chat_model, step)


class DiskSync:
    """Writes a checkpoint that the server reads again in place; works on any device.

    Adapters are merged into what is written; the trained weights are not touched. The newest checkpoint is kept in
    `directory`, which the server's machine has to see under the same path.
    """

    def __init__(self, chat_model: VLLMChatModel, directory: Path) -> None:
        self.chat_model = chat_model
        self.directory = directory
        self._current: Path | None = None

    def refresh(self, trainer: Any, step: int) -> None:
        """Write the weights and have the server read them."""
        version, target = _version_at(self.chat_model, step), self.directory / f"step-{step}"
        # Sharded weights are gathered, in which every rank has to take part.
        state = trainer.accelerator.get_state_dict(trainer.model)
        is_main = trainer.accelerator.is_main_process
        if is_main:
            self._write(trainer, state, target)
        with self.chat_model.exchange():
            if is_main:
                self.chat_model.client.reload_weights(target, version)
            trainer.accelerator.wait_for_everyone()
            _take_version(self.chat_model, version)
        if is_main and self._current is not None and self._current != target:
            shutil.rmtree(self._current)
        self._current = target

    def _write(self, trainer: Any, state: Mapping[str, torch.Tensor], target: Path) -> None:
        model = trainer.accelerator.unwrap_model(trainer.model)
        if hasattr(model, "peft_config"):
            state = merge_adapters(model, state)
            model = model.get_base_model()
        shutil.rmtree(target, ignore_errors=True)
        write_served_weights(model, state, trainer.processing_class, target)


class NCCLSync:
    """Sends the weights from GPU to GPU, through TRL's client of vLLM's weight transfer engine.

    Never run by us, because it needs two GPUs. The server has to be started with `VLLM_SERVER_DEV_MODE=1` and
    `--weight-transfer-config '{"backend": "nccl"}'`; see `docs/gpu.md`.
    """

    def __init__(self, chat_model: VLLMChatModel) -> None:
        self.chat_model = chat_model
        self._transfer: Any = None

    def refresh(self, trainer: Any, step: int) -> None:
        """Send the weights; TRL gathers sharded ones and merges adapters."""
        from trl.generation.vllm_generation import VLLMGeneration

        version = _version_at(self.chat_model, step)
        if self._transfer is None:
            self._transfer = VLLMGeneration(
                model=trainer.model,
                accelerator=trainer.accelerator,
                processing_class=trainer.processing_class,
                mode="server",
                server_base_url=self.chat_model.client.base_url,
            )
        with self.chat_model.exchange():
            self._transfer.sync_weights()
            if trainer.accelerator.is_main_process:
                self.chat_model.client.label_weights(version)
            trainer.accelerator.wait_for_everyone()
            _take_version(self.chat_model, version)


def merge_adapters(model: PreTrainedModel, state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return the weights of the model without adapters that does what a PEFT model with LoRA adapters does.

    The model only says how they are scaled; its weights are those of `state`.
    """
    prefix = "base_model.model."
    adapted = ((name, module) for name, module in model.named_modules() if hasattr(module, "lora_A"))
    scalings = {name.removeprefix(prefix): module.scaling["default"] for name, module in adapted}
    plain = {name.removeprefix(prefix): tensor for name, tensor in state.items()}
    merged = {}
    for name, tensor in plain.items():
        if ".lora_" in name:
            continue
        layer, separator, parameter = name.partition(".base_layer.")
        if separator and parameter == "weight":
            down, up = (plain[f"{layer}.lora_{side}.default.weight"].float() for side in "AB")
            tensor = (tensor.float() + scalings[layer] * (up @ down)).to(tensor.dtype)
        merged[f"{layer}.{parameter}" if separator else name] = tensor
    return merged


def _version_at(chat_model: Any, step: int) -> str:
    return f"{str(chat_model.model_version).split('@')[0]}@{step}"


def _take_version(chat_model: VLLMChatModel, expected: str) -> None:
    """Have turns record what the server says that its weights are."""
    version = chat_model.client.weight_version()
    if version != expected:
        raise TrainingError(
            f"the server at {chat_model.base_url} has the weights {version!r} instead of {expected!r}; does another "
            f"run use it too? Start one server for each run"
        )
    chat_model.model_version = version


def check_ahead(max_staleness: int, sync: WeightSync, processes: int) -> bool:
    """Return whether rollouts are sampled ahead of training.

    Raises:
        TrainingError: They cannot be: what samples shares the weights that are trained, or several processes train,
            which would have to talk to each other about two batches at once.
    """
    if not 0 <= max_staleness <= 1:
        raise TrainingError(f"max_staleness is {max_staleness}; expected 0 or 1")
    if max_staleness and isinstance(sync, SharedWeights):
        raise TrainingError(
            "max_staleness is 1, but the sampler shares the weights that are trained; give it a copy and pass "
            "`CopiedWeights`, as the command line does"
        )
    if max_staleness and processes > 1:
        raise TrainingError(f"max_staleness is 1 and {processes} processes train; expected one")
    return max_staleness > 0


def check_server(chat_model: VLLMChatModel) -> None:
    """See whether rollouts can be sampled from a server that somebody else started.

    vLLM looks over its whole environment to answer, which can take a minute.

    Raises:
        TrainingError: It gives other log-probabilities than a trainer recomputes, or cannot renew all of its weights.
        ServingError: It does not let its weights be replaced.
    """
    info = chat_model.client.server_info()
    model = info["model_config"]
    if model["logprobs_mode"] != "raw_logprobs":
        raise TrainingError(
            f"the server at {chat_model.base_url} gives {model['logprobs_mode']}; start it with `--logprobs-mode "
            f"raw_logprobs`, because the trainer recomputes those of the unscaled distribution"
        )
    config = Path(model["model"]) / "config.json"
    is_cpu = info["device_config"]["device"] == "cpu"
    if is_cpu and config.is_file() and json.loads(config.read_text(encoding="utf-8"))["tie_word_embeddings"]:
        raise TrainingError(
            f"the server at {chat_model.base_url} could not renew its output head (vLLM on a CPU, tied embeddings); "
            f"start it with `masksearch serve --refreshable`"
        )
