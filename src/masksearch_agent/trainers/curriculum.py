"""The curriculum over the number of masks: which tasks are drawn at which step.

Drawing has no state: what a step draws depends on the seed and the step alone, so a resumed run continues the
same data order without anything having been saved.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

from masksearch_agent.config.trainers import CurriculumStage
from masksearch_agent.errors import TrainingError
from masksearch_agent.records import MASK, SearchTask, Trajectory

__all__ = ("Curriculum", "order_by_difficulty")


class Curriculum:
    """Draws tasks for each step.

    Args:
        tasks: All tasks.
        stages: Stages by mask count, easy to hard; empty draws all tasks at any time.
        max_steps: Steps of the run, over which the stages are spread.
        seed: Of the order.

    Raises:
        TrainingError: A stage has no task.
    """

    def __init__(
        self, tasks: Sequence[SearchTask], stages: Sequence[CurriculumStage], max_steps: int, seed: int
    ) -> None:
        self.tasks = list(tasks)
        self.stages = tuple(stages)
        self.max_steps = max_steps
        self.seed = seed
        for stage in self.stages:
            if not self._eligible(stage.max_masks):
                raise TrainingError(
                    f"no task has at most {stage.max_masks} masks, which a curriculum stage asks for; build more "
                    f"tasks or change `curriculum`"
                )
        if not self.tasks:
            raise TrainingError("there are no tasks to train on; build them with `masksearch ramp`")

    def max_masks(self, step: int) -> int | None:
        """Return the largest mask count of a step, from 0; None where all tasks are drawn."""
        for stage in self.stages:
            if step < stage.until * self.max_steps:
                return stage.max_masks
        return self.stages[-1].max_masks if self.stages else None

    def draw(self, step: int, count: int, stream: str = "main") -> list[int]:
        """Return the indices of the tasks that a step trains on, without repetition while tasks last.

        Args:
            step: Optimizer step, from 0.
            count: Number of tasks.
            stream: Name of an independent order, such as the one that refills dynamic sampling.
        """
        eligible = self._eligible(self.max_masks(step))
        rng = random.Random(f"curriculum:{self.seed}:{stream}:{step}")
        drawn: list[int] = []
        while len(drawn) < count:
            drawn += rng.sample(eligible, min(count - len(drawn), len(eligible)))
        return drawn

    def _eligible(self, max_masks: int | None) -> list[int]:
        return [
            index
            for index, task in enumerate(self.tasks)
            if max_masks is None or task.mask_count <= max_masks
        ]


def order_by_difficulty(trajectories: Sequence[Trajectory], seed: int) -> list[Trajectory]:
    """Return trajectories with few masks (of questions: with few searches) first, in random order within a level."""
    shuffled = list(trajectories)
    random.Random(f"order:{seed}").shuffle(shuffled)
    return sorted(shuffled, key=_difficulty)


def _difficulty(trajectory: Trajectory) -> int:
    opening = trajectory.turns[0].context if trajectory.turns else ()
    return sum(str(message.content).count(MASK) for message in opening if message.role == "user") or len(
        trajectory.queries
    )
