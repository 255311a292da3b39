"""Rollouts that don't wait: while one batch of them is trained on, the next one is sampled, with weights of before.

A batch ahead, as in one-step off-policy RL. What samples has weights of its own, which are exchanged as soon as the
trainer asks for the batch: rollouts that are still under way go on with the new ones, as in AReaL (arXiv 2505.24298),
but from their next turn on. So each turn is of one version, which it records, at most one batch of rollouts behind the
weights that train on it, and importance weights correct for the difference token by token. Where nothing is sampled
ahead, this calls the sampler and no more.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future, wait
from typing import Any

from masksearch_agent.trainers.curriculum import Curriculum
from masksearch_agent.trainers.dynamic_sampling import SampledBatch

__all__ = ("RolloutsAhead",)


class RolloutsAhead:
    """Gives batches of rollouts to a trainer.

    Args:
        curriculum: What `sample` draws from.
        sample: Rolls out the batch of an optimizer step.
        refresh: Brings the weights, as they are after so many steps, to what samples, also while it does.
        is_ahead: Whether to sample the next batch while one is trained on.
    """

    def __init__(
        self,
        curriculum: Curriculum,
        sample: Callable[[int], SampledBatch],
        refresh: Callable[[int], None],
        is_ahead: bool,
    ) -> None:
        self.curriculum = curriculum
        self.sample = sample
        self.refresh = refresh
        self.is_ahead = is_ahead
        self._pending: Future[SampledBatch] | None = None
        self._state_before: dict[str, Any] = {}

    def take(self, step: int, next_step: int | None) -> SampledBatch:
        """Return the batch of a step, and begin with that of the step that asks next; None: none does."""
        self.refresh(step)
        sampled = self.sample(step) if self._pending is None else self._pending.result()
        self._pending = None
        if self.is_ahead and next_step is not None:
            self._begin(next_step)
        return sampled

    def rest(self) -> None:
        """Wait until nothing is sampled; what was is kept."""
        if self._pending is not None:
            wait([self._pending])

    def close(self) -> None:
        """Wait as `rest` does, at the end of a run."""
        self.rest()

    def state(self) -> dict[str, Any]:
        """Return the curriculum's state before what is sampled ahead, which a resumed run samples again."""
        return self.curriculum.state() if self._pending is None else self._state_before

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on where `state` was taken."""
        self.curriculum.restore(state)

    def _begin(self, step: int) -> None:
        self._state_before = self.curriculum.state()
        self._pending = pending = Future[SampledBatch]()

        def work() -> None:
            try:
                pending.set_result(self.sample(step))
            except BaseException as failure:  # noqa: BLE001 (raised again by the trainer's thread)
                pending.set_exception(failure)

        threading.Thread(target=work, name="masksearch-rollouts", daemon=True).start()
