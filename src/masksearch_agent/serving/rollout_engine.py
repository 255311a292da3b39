"""What samples the rollouts of a DAPO run: weights in this process, or a vLLM server."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from masksearch_agent.config.serving import RolloutEngineSettings, ServingSettings
from masksearch_agent.environment import process_count, sharing_threads
from masksearch_agent.errors import TrainingError
from masksearch_agent.models.local import LocalChatModel
from masksearch_agent.models.recording import RecordingChatModel
from masksearch_agent.models.served_weights import write_served_weights
from masksearch_agent.models.vllm import VLLMChatModel
from masksearch_agent.serving.server import start_server

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from masksearch_agent.trainers.weight_sync import WeightSync

__all__ = ("open_rollout_engine",)


@contextmanager
def open_rollout_engine(
    chosen: RolloutEngineSettings,
    serving: ServingSettings,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    model_version: str,
    directory: Path,
    is_ahead: bool = False,
) -> Iterator[tuple[RecordingChatModel, WeightSync]]:
    """Return the chat model that samples and what keeps its weights new, until the context ends.

    Args:
        chosen: Says which; a server is started where it names none.
        serving: How a server is started.
        model: The policy that is trained.
        model_version: What the weights are called before the first step.
        directory: Of the run; it takes the server's log and the weights on their way.
        is_ahead: Whether it samples while the policy is trained, for which a local sampler has a copy of the weights.

    Raises:
        TrainingError: The settings need a `rollouts.base_url`, or the server there does not fit.
        ServingError: The server does not start or answer.
    """
    from masksearch_agent.trainers.weight_sync import (
        CopiedWeights,
        DiskSync,
        NCCLSync,
        SharedWeights,
        check_server,
    )

    if chosen.rollout_engine == "local":
        own = copy.deepcopy(model) if is_ahead else model
        settings: dict[str, Any] = {"model_version": model_version, "is_reproducible": chosen.reproducible}
        with (
            sharing_threads(2 if is_ahead else 1),
            closing(LocalChatModel(model=own, tokenizer=tokenizer, **settings)) as local,
        ):
            yield local, CopiedWeights(local) if is_ahead else SharedWeights(local)
        return
    with ExitStack() as stack:
        base_url = chosen.base_url
        weights = directory / "trainer" / "served"
        if not base_url:
            _require_one_process_and_disk(chosen)
            write_served_weights(model, model.state_dict(), tokenizer, weights / "start")
            server = start_server(
                weights / "start", model_version, serving, directory / "vllm.log", is_refreshable=True
            )
            base_url = stack.enter_context(server).base_url
        remote = VLLMChatModel(
            tokenizer=tokenizer,
            base_url=base_url,
            model_version=model_version,
            max_concurrent_requests=chosen.max_concurrent_requests,
        )
        stack.enter_context(closing(remote))
        if chosen.base_url:
            check_server(remote)
        yield remote, NCCLSync(remote) if chosen.weight_sync == "nccl" else DiskSync(remote, weights)


def _require_one_process_and_disk(chosen: RolloutEngineSettings) -> None:
    if chosen.weight_sync == "nccl":
        raise TrainingError(
            "weights are sent over NCCL only to a server with GPUs of its own; start it as docs/gpu.md says and name "
            "it as `rollouts.base_url`"
        )
    if process_count() > 1:
        raise TrainingError(
            "several processes cannot each start a server; start one with `masksearch serve --refreshable` and name "
            "it as `rollouts.base_url`"
        )
