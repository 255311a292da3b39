"""The curriculum over the number of masks: one stream of tasks, easy to hard.

Every task that a run rolls out comes from this stream, those that refill a batch included. It goes through the tasks
of a level in shuffled passes, so none is seen again before the others were, and its whole state is a few numbers that
a checkpoint keeps. Processes that draw and observe the same hold the same stream.
"""

from __future__ import annotations

import logging
import random
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any

from masksearch_agent.config.trainers import CurriculumLevel, SFTSettings
from masksearch_agent.environment import process_count
from masksearch_agent.errors import TrainingError
from masksearch_agent.records import MASK, SearchTask, Trajectory, content_id
from masksearch_agent.trainers.mixing import order_key
from masksearch_agent.trainers.prospects import Prospects

__all__ = ("Curriculum", "order_by_difficulty", "repeat_to_fit")

logger = logging.getLogger(__name__)


class Curriculum:
    """Draws tasks for each step.

    Args:
        levels: By mask count, easy to hard; empty draws all tasks at any time.
        max_steps: Steps of the run, over which fixed levels are spread.
        seed: Of the order.

    Raises:
        TrainingError: There are no tasks, or a level has none.
    """

    def __init__(
        self, tasks: Sequence[SearchTask], levels: Sequence[CurriculumLevel], max_steps: int, seed: int
    ) -> None:
        self.tasks = list(tasks)
        self.levels = tuple(levels)
        self.max_steps = max_steps
        self.seed = seed
        self.level = 0
        self.passes = 0
        """Finished passes over the tasks of the level."""
        self.position = 0
        """Tasks drawn in this pass."""
        self._order: list[int] = []
        self.prospects = Prospects([f"{task.kind}, {task.mask_count} masks" for task in self.tasks])
        """What became of the tasks that were drawn."""
        if not self.tasks:
            raise TrainingError("there are no tasks to train on; build them with `masksearch ramp`")
        for level in self.levels:
            if all(task.mask_count > level.max_masks for task in self.tasks):
                raise TrainingError(
                    f"no task has at most {level.max_masks} masks, which a curriculum level asks for; build more "
                    f"tasks or change `curriculum`"
                )
        self._begin_level(self.level)

    @property
    def max_masks(self) -> int | None:
        """Largest mask count of the tasks that are drawn now; None where all are."""
        return self.levels[self.level].max_masks if self.levels else None

    @property
    def success_rate(self) -> float | None:
        """Mean success over the window of the level; None before its hardest tasks were rolled out."""
        return sum(self._window) / len(self._window) if self._window else None

    def begin_step(self, step: int) -> None:
        """Go on to the level of an optimizer step, from 0."""
        while self.level + 1 < len(self.levels) and self._is_over(step):
            logger.info(
                "step %d: the curriculum leaves its level of up to %s masks (success rate %s) for up to %d",
                step, self.max_masks, self.success_rate, self.levels[self.level + 1].max_masks,
            )  # fmt: skip
            self._begin_level(self.level + 1)

    def draw(self, count: int) -> list[int]:
        """Return the indices of the next tasks; none comes twice in a pass over the level."""
        drawn: list[int] = []
        while len(drawn) < count:
            if self.position == len(self._order):
                self._begin_pass(self.passes + 1)
            end = min(self.position + count - len(drawn), len(self._order))
            drawn += self._order[self.position : end]
            self.position = end
        return drawn

    def draw_hopeful(self) -> int:
        """Return the index of the next task that is likely to be of use (`prospects`), by chance.

        One that is passed over because its last group was all right, or all wrong, counts as rolled out like that.
        Where all tasks are solved, they are taken for new ones.
        """
        for _ in self._eligible:
            chance = random.Random(f"chance:{self.seed}:{self.level}:{self.passes}:{self.position}")
            [index] = self.draw(1)
            is_solved = self.prospects.is_solved(index)
            if not is_solved and chance.random() < self.prospects.chance(index):
                return index
            if is_solved or self.prospects.is_hopeless(index):
                self.observe(self.tasks[index].mask_count, float(is_solved))
        if all(map(self.prospects.is_solved, self._eligible)):
            logger.info("all tasks of up to %s masks were solved; they are drawn again", self.max_masks)
            self.prospects.forget_solved()
        while self.prospects.is_solved(index := self.draw(1)[0]):
            pass
        return index

    def observe(self, mask_count: int, success_rate: float) -> None:
        """Note a group's share of wholly right answers; only the level's hardest tasks tell whether it is mastered."""
        if self.levels and mask_count == self._hardest:
            self._window.append(success_rate)

    def state(self) -> dict[str, Any]:
        """Return what `restore` needs, as JSON holds it."""
        return {
            "tasks": content_id(*(task.id for task in self.tasks)),
            "stage": self.level,  # the name that checkpoints have for it
            "passes": self.passes,
            "position": self.position,
            "window": list(self._window),
            "prospects": self.prospects.state(),
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on where `state` was taken.

        Raises:
            TrainingError: It was taken over other tasks or levels.
        """
        if state["tasks"] != content_id(*(task.id for task in self.tasks)) or not (
            0 <= state["stage"] < max(1, len(self.levels))
        ):
            raise TrainingError(
                "the checkpoint was written by a run over other tasks or curriculum levels; resume it with those, or "
                "start in a new folder"
            )
        self._begin_level(state["stage"])
        self._begin_pass(state["passes"])
        self.position = state["position"]
        self._window.extend(state["window"])
        if "prospects" in state:  # A checkpoint of an earlier version has none; then nothing is known yet.
            self.prospects.restore(state["prospects"])

    def _is_over(self, step: int) -> bool:
        level = self.levels[self.level]
        if level.until is not None and step >= level.until * self.max_steps:
            return True
        is_full = len(self._window) == level.window
        rate = self.success_rate
        return level.promote_at is not None and is_full and rate is not None and rate >= level.promote_at

    def _begin_level(self, level: int) -> None:
        self.level = level
        limit = self.max_masks
        counts = [task.mask_count for task in self.tasks]
        self._eligible = [index for index, count in enumerate(counts) if limit is None or count <= limit]
        self._hardest = max(counts[index] for index in self._eligible)
        self._window: deque[float] = deque(maxlen=self.levels[level].window if self.levels else 0)
        self._begin_pass(0)

    def _begin_pass(self, passes: int) -> None:
        self.passes = passes
        self.position = 0
        rng = random.Random(f"curriculum:{self.seed}:{self.level}:{passes}")
        self._order = rng.sample(self._eligible, len(self._eligible))


def repeat_to_fit(trajectories: Sequence[Trajectory], settings: SFTSettings) -> list[Trajectory]:
    """Return as many trajectories as the steps of all processes read, in shuffled passes over them all.

    A curriculum goes through what it is given from easy to hard. With fewer trajectories it would begin again with the
    easy ones and end among them; with more, it would never reach the hard ones. Where the steps are counted in epochs,
    they are as they are.
    """
    if settings.max_steps <= 0:
        return list(trajectories)
    wanted = settings.max_steps * settings.batch_size * settings.gradient_accumulation * process_count()
    rng = random.Random(f"fit:{settings.seed}")
    # A store returns them in the order in which they were finished, which is another one each time.
    ordered = sorted(trajectories, key=order_key)
    passes = range(-(-wanted // max(1, len(ordered))))
    return [trajectory for _ in passes for trajectory in rng.sample(ordered, len(ordered))][:wanted]


def order_by_difficulty(trajectories: Sequence[Trajectory], seed: int) -> list[Trajectory]:
    """Return trajectories with few masks (of questions: with few searches) first, in random order within a level."""
    shuffled = list(trajectories)
    random.Random(f"order:{seed}").shuffle(shuffled)
    return sorted(shuffled, key=_difficulty)


def _difficulty(trajectory: Trajectory) -> int:
    opening = trajectory.turns[0].context if trajectory.turns else ()
    masks = sum(message.content.count(MASK) for message in opening if message.role == "user")
    return masks or len(trajectory.queries)
