"""What a training run tells the outside, and keeps for itself when it is stopped.

Every logged metric goes out as it happens and into a file; the curriculum's state goes into the checkpoint.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.trainer_callback import ExportableState

from masksearch_agent.errors import TrainingError
from masksearch_agent.files import replace_text
from masksearch_agent.trainers.ahead import RolloutsAhead
from masksearch_agent.trainers.curriculum import Curriculum
from masksearch_agent.trainers.token_metrics import TokenMetrics

__all__ = ("CurriculumState", "EmptyUpdates", "MetricsLog", "read_metrics")

Listener = Callable[[int, int, dict[str, float]], None]
"""Called with the step, the number of all steps and the metrics."""


class MetricsLog(TrainerCallback):  # type: ignore[misc]
    """Appends each log entry to a JSON-lines file and passes it on.

    Entries of steps that a resumed run takes again are replaced.
    """

    def __init__(self, path: Path, listener: Listener | None = None) -> None:
        self.path = path
        self.listener = listener

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Keep what was logged before the step that training starts or goes on from."""
        if not state.is_world_process_zero:
            return
        # A run that begins anew examines its first weights again, at step 0.
        done = read_metrics(self.path) if state.global_step else []
        kept = [entry for entry in done if entry["step"] <= state.global_step]
        replace_text(self.path, "".join(json.dumps(entry) + "\n" for entry in kept))

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        """Write one entry; of several processes, the first one does."""
        if not state.is_world_process_zero:
            return
        metrics = {name: float(value) for name, value in (logs or {}).items() if value is not None}
        if "num_tokens" in metrics and "num_input_tokens_seen" in metrics:
            # TRL's SFT counts from 0 again where a run is resumed; transformers' count is in the checkpoint.
            metrics["num_tokens"] = metrics["num_input_tokens_seen"]
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"step": state.global_step, **metrics}) + "\n")
        if self.listener is not None:
            self.listener(state.global_step, state.max_steps, metrics)


class CurriculumState(TrainerCallback, ExportableState):  # type: ignore[misc]
    """Keeps a curriculum's state in `trainer_state.json`, which a trainer writes last: a checkpoint has both or none.

    A run that is resumed finds the curriculum where the checkpoint left it.
    """

    def __init__(self, curriculum: Curriculum | RolloutsAhead) -> None:
        self.curriculum = curriculum

    def state(self) -> dict[str, Any]:
        """Return what the trainer is to keep."""
        return {"args": {}, "attributes": self.curriculum.state()}

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Restore; a run that is not resumed finds the state it started with."""
        kept = state.stateful_callbacks.get(type(self).__name__)
        if kept is not None:
            self.curriculum.restore(kept["attributes"])
        elif state.global_step:
            raise TrainingError(
                f"the checkpoint of step {state.global_step} holds no curriculum state: an earlier version wrote it, "
                f"and the run could not go on with the same tasks. Start in a new folder"
            )


class EmptyUpdates(TrainerCallback):  # type: ignore[misc]
    """Leaves weights as they are in an update that no token was trained in: momentum alone would move them."""

    def __init__(self, token_metrics: TokenMetrics) -> None:
        self.token_metrics = token_metrics

    def on_pre_optimizer_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Take the gradients away, which are 0: an optimizer passes over a weight without one."""
        if not self.token_metrics.collected_tokens:
            kwargs["model"].zero_grad(set_to_none=True)


def read_metrics(path: Path) -> list[dict[str, float]]:
    """Return the entries of a metrics file; a line cut off by a killed run is left out."""
    if not path.is_file():
        return []
    entries = []
    for line in path.read_text(encoding="utf-8").splitlines():
        with suppress(json.JSONDecodeError):
            entries.append(json.loads(line))
    return entries
