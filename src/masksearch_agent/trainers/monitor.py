"""Training that says when it goes wrong, and goes back.

A callback of both trainers. Every so many steps it asks an exam, whose metrics go where all others go (the log,
`report_to`, the metrics file). The best checkpoint is kept beside the last one, and loaded at the end by transformers'
own `load_best_model_at_end`; only the metric and the rule that stops are ours, because its `EarlyStoppingCallback`
wants an evaluation of a dataset and takes a plateau for a fall. What the log says is `alarms`'s.

An exam changes nothing of the run: it draws no random number that the run would have drawn, and what it logs does not
mix with what a trainer has noted for its own next entry.
"""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from transformers import Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

from masksearch_agent.config.trainers import MonitorSettings
from masksearch_agent.errors import TrainingError
from masksearch_agent.trainers.alarms import (
    EXAM_FAILED,
    EXAM_SCORE,
    Alarm,
    Standing,
    find_alarms,
    find_standing,
)

__all__ = ("Measure", "Monitor")

logger = logging.getLogger(__name__)

_SECONDS = "exam/seconds"


class Measure(Protocol):
    """What is asked of the weights; `trainers.exam.Exam` is one."""

    def __call__(self, trainer: Any) -> dict[str, float]:
        """Return metrics of the weights that a trainer has now, `exam/recall` among them; all ranks call it."""
        ...


class Monitor(TrainerCallback):  # type: ignore[misc]
    """Watches one training run; `attach` it to the trainer that it is a callback of.

    It has to stand behind `callbacks.MetricsLog`, which on a new start empties the file of metrics.

    Args:
        settings: None only warns of what the log says.
        exam: None where there is nothing to ask.
        whole_steps: Exams are asked after multiples of so many steps, because only there can a run be resumed.
    """

    def __init__(
        self, settings: MonitorSettings | None = None, exam: Measure | None = None, whole_steps: int = 1
    ) -> None:
        self.settings = settings or MonitorSettings(stop_on=())
        self.exam = exam if settings is not None else None
        self.every_steps = -(-self.settings.every_steps // whole_steps) * whole_steps
        self._trainer: Trainer | None = None
        self._is_stopped = False

    def attach(self, trainer: Trainer) -> None:
        """Take the trainer whose weights are examined."""
        self._trainer = trainer

    @property
    def trainer(self) -> Trainer:
        """The trainer that is watched."""
        if self._trainer is None:
            raise TrainingError(
                "the monitor watches no trainer; call `monitor.attach(trainer)` before `train()`"
            )
        return self._trainer

    @property
    def standing(self) -> Standing | None:
        """How the exam went so far; None where there was none."""
        return find_standing(self.trainer.state.log_history)

    @property
    def kept_step(self) -> int:
        """The step whose weights the trainer has after training; 0 for those it began with, which it does not load."""
        standing = self.standing
        if standing is not None and self.trainer.args.load_best_model_at_end:
            return standing.best_step
        return int(self.trainer.state.global_step)

    @property
    def seconds(self) -> float:
        """Time that exams took, in seconds; without those of a start that was killed before its next checkpoint."""
        return float(sum(entry.get(_SECONDS, 0.0) for entry in self.trainer.state.log_history))

    @property
    def notes(self) -> tuple[str, ...]:
        """What a reader of the run has to know: its alarms, and which weights were kept where that are not the last."""
        log = self.trainer.state.log_history
        alarms = [alarm.text for alarm in find_alarms(log, self.settings)]
        alarms += [
            f"step {entry['step']}: {entry[EXAM_FAILED]:.0f} tasks of the exam failed and count as wrong"
            for entry in log
            if entry.get(EXAM_FAILED)
        ]
        standing, kept, last = self.standing, self.kept_step, self.trainer.state.global_step
        if standing is None or kept == last:
            return tuple(alarms)
        weights = f"the weights of step {kept}" if kept else "the weights that training began with"
        how = "stopped there" if self._is_stopped else "trained to its end"
        return (
            *alarms,
            f"step {last}: {how}, and kept {weights} (exam recall {standing.best_score:.3f}, last "
            f"{standing.score:.3f})",
        )

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Examine the weights that training begins with, or find where a resumed run stood.

        Raises:
            TrainingError: The best checkpoint of a resumed run is gone.
        """
        self._is_stopped = self.is_stopped_by(state.log_history)
        if self.exam is None:
            return
        args.load_best_model_at_end = self.settings.keep_best or self._is_stopped
        if state.global_step == 0:
            self._examine(state, control)
        elif state.best_global_step:
            best = Path(args.output_dir) / f"{PREFIX_CHECKPOINT_DIR}-{state.best_global_step}"
            if not best.is_dir():
                raise TrainingError(
                    f"the checkpoint of step {state.best_global_step}, the best in the exam, is not at {best}; put it "
                    f"back, or start in a new folder"
                )
            # What the state holds is where it was written; a run may have been moved since.
            state.best_model_checkpoint = str(best)

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Examine where it is due, and have weights saved that are the best so far."""
        if self.exam is not None and self._is_due(state):
            self._examine(state, control)
            if state.best_global_step == state.global_step:
                control.should_save = True

    def on_log(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Say what has gone wrong with the last entry, and stop where the settings say so.

        Raises:
            TrainingError: The weights are lost, and no better ones were kept.
        """
        log = state.log_history
        known = set(find_alarms(log[:-1], self.settings))
        for alarm in find_alarms(log, self.settings):
            if alarm in known:
                continue
            if not self._stops(alarm):
                logger.warning("%s", alarm.text)
                continue
            if alarm.name == "non_finite" and self.exam is None:
                raise TrainingError(
                    f"{alarm.text}, and there is nothing to go back to. Start again in a new folder with a lower "
                    f"learning rate or `max_gradient_norm`; with an exam, a run keeps its best weights"
                )
            logger.warning("%s; training stops", alarm.text)
            self._is_stopped = control.should_training_stop = control.should_save = True
            args.load_best_model_at_end = self.exam is not None

    def is_stopped_by(self, log: Sequence[Mapping[str, Any]]) -> bool:
        """Whether an alarm of a log, which a checkpoint holds, stopped the run."""
        return any(self._stops(alarm) for alarm in find_alarms(log, self.settings))

    def _stops(self, alarm: Alarm) -> bool:
        return alarm.name in self.settings.stop_on

    def _is_due(self, state: TrainerState) -> bool:
        return bool(state.global_step % self.every_steps == 0 or state.global_step >= state.max_steps)

    def _examine(self, state: TrainerState, control: TrainerControl) -> None:
        if self.exam is None:
            return
        started_s = time.perf_counter()
        with _random_state_kept():
            metrics = self.exam(self.trainer)
        metrics[_SECONDS] = time.perf_counter() - started_s
        scores = [metrics[EXAM_SCORE], *([before.best_score] if (before := self.standing) else [])]
        metrics["exam/best_recall"] = max(scores)
        is_step_logged = control.should_log
        # The log of the base class: TRL's would put what it has noted for the step's own entry into this one.
        Trainer.log(self.trainer, metrics)
        # Logging takes this back, and the step's own entry is still to come.
        control.should_log = is_step_logged
        standing = self.standing
        if standing is not None and standing.best_step == state.global_step:
            state.best_metric = standing.best_score
            state.best_global_step = state.global_step or None


@contextmanager
def _random_state_kept() -> Iterator[None]:
    """Leave every generator of random numbers that a trainer draws from as it was."""
    python, numpy = random.getstate(), np.random.get_state()
    with torch.random.fork_rng():
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numpy)
