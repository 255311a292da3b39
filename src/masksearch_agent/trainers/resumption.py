"""Whether a training run may go on from a checkpoint, and how.

A checkpoint says what its run is trained on, so that no other run goes on with its weights; and one that is of the last
step is not trained on.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel
from torch.utils.data import DataLoader
from transformers import Trainer, TrainerCallback, TrainerState
from transformers.trainer import TRAINER_STATE_NAME
from transformers.trainer_callback import ExportableState

from masksearch_agent.errors import TrainingError
from masksearch_agent.records import content_id
from masksearch_agent.trainers.checkpoints import find_last_checkpoint

__all__ = ("TrainedOn", "train_from_last", "weights_id")

logger = logging.getLogger(__name__)

_VALUES_OF_WEIGHT = 16
_MAY_CHANGE = frozenset(
    {
        *("max_steps", "epochs", "save_steps", "monitor", "gradient_checkpointing"),
        # What they come to is `rows_per_step`.
        *("batch_size", "gradient_accumulation", "prompts_per_step", "group_size", "row_batch_size"),
    }
)
"""Settings with which a run goes on from where it was."""


class TrainedOn(TrainerCallback, ExportableState):  # type: ignore[misc]
    """Keeps in each checkpoint what a run is trained on.

    Args:
        data: Hash of the rows in their order, or of the tasks.
        source: Hash of what training begins with; empty where nobody says.
        rows_per_step: Of all processes together.
        settings: Of the stage; those that may change in the course of a run do not count.
    """

    def __init__(self, data: str, source: str, rows_per_step: int, settings: BaseModel | None = None) -> None:
        told = settings.model_dump(mode="json", exclude=set(_MAY_CHANGE)) if settings is not None else {}
        self.kept = {
            "data": data, "source": source, "rows_per_step": rows_per_step, "settings": content_id(told)
        }  # fmt: skip

    def state(self) -> dict[str, Any]:
        """Return what the trainer is to keep."""
        return {"args": {}, "attributes": self.kept}

    def check(self, state: TrainerState, folder: Path) -> None:
        """See whether a run may go on from a state.

        Raises:
            TrainingError: It was written by a run that is trained on something else, or by a version that did not say.
        """
        kept = state.stateful_callbacks.get(type(self).__name__, {}).get("attributes")
        if kept == self.kept:
            return
        if kept is None:
            told = "does not say what it was trained on: an earlier version wrote it"
        else:
            words = {
                "data": "other trajectories or tasks, or with other settings that choose or order them (`max_tokens`, "
                "`seed`, `ramp_share`; with a curriculum `max_steps`)",
                "source": "another agent to start from",
                "rows_per_step": f"{kept['rows_per_step']} rows a step and not {self.kept['rows_per_step']}",
                "settings": "other settings",
            }
            changed = [word for name, word in words.items() if kept.get(name) != self.kept[name]]
            told = f"was written by a run with {', and with '.join(changed)}"
        raise TrainingError(
            f"the checkpoint of step {state.global_step} in {folder} {told}; resume it with what it was trained on, "
            f"train in a new folder, or delete {folder} to train anew in this one"
        )


def train_from_last(trainer: Trainer, is_stopped: Callable[[list[Any]], bool] | None = None) -> None:
    """Train from the last checkpoint in the trainer's folder to the end; from the start where there is none.

    A run that was done is not trained on: the weights that it came to are loaded, and that is all.

    Args:
        trainer: With the number of its steps in `args.max_steps`.
        is_stopped: Whether the log of a checkpoint says that the run ended before; None: it never does.

    Raises:
        TrainingError: See `TrainedOn.check`.
    """
    folder = Path(trainer.args.output_dir)
    checkpoint = find_last_checkpoint(folder)
    if checkpoint is not None:
        state = TrainerState.load_from_json(str(Path(checkpoint) / TRAINER_STATE_NAME))
        for callback in trainer.callback_handler.callbacks:
            if isinstance(callback, TrainedOn):
                callback.check(state, folder)
        if state.global_step >= trainer.args.max_steps or (is_stopped and is_stopped(state.log_history)):
            logger.info("%s is done: its %d steps were made before", folder, state.global_step)
            _leave_no_step(trainer, state.global_step)
    trainer.train(resume_from_checkpoint=checkpoint)


def _leave_no_step(trainer: Trainer, done: int) -> None:
    """Have a trainer load what it has done and end.

    transformers' loop takes a step before it looks at how many there are to be. It goes over the epochs that are left,
    and of none it takes no step: that is so where each step is an epoch, as with data of one batch.
    """
    trainer.args.max_steps = done
    one_batch: DataLoader[int] = DataLoader([0])  # type: ignore[arg-type]
    trainer.get_train_dataloader = lambda: one_batch


def weights_id(model: torch.nn.Module) -> str:
    """Return a hash of some values of every weight: of two models that differ by a step of training, it differs."""
    values = ((name, weight.flatten()[:_VALUES_OF_WEIGHT]) for name, weight in model.named_parameters())
    return content_id(*((name, some.float().tolist()) for name, some in values))
