"""The split stage: tasks are shuffled and held out before anything is trained on them."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from masksearch_agent.errors import TaskError
from masksearch_agent.jsonl import write_jsonl
from masksearch_agent.records import SearchTask
from masksearch_agent.stages.display import Bar
from masksearch_agent.stages.stage import Site, Stage, TaskFile
from masksearch_agent.stages.tasks import read_task_files

__all__ = ("TaskSplit",)


@dataclass(frozen=True, kw_only=True, eq=False)
class TaskSplit(Stage):
    """Deals tasks to a pool, a set that decides (validation) and one that decides nothing (test)."""

    kind = "split"

    tasks: tuple[TaskFile, ...]
    held_out: tuple[TaskFile, ...] = ()
    """What validation and test are taken from; empty holds out some of `tasks`."""
    validation_tasks: int
    """At most."""
    test_tasks: int
    """At most."""
    seed: int

    @property
    def pool(self) -> TaskFile:
        """What may be trained on, in the order in which it is taken."""
        return TaskFile("pool.jsonl", self)

    @property
    def validation(self) -> TaskFile:
        """Held-out tasks that decide."""
        return TaskFile("validation.jsonl", self)

    @property
    def test(self) -> TaskFile:
        """Other held-out tasks."""
        return TaskFile("test.jsonl", self)

    def work(self, folder: Path, site: Site, bar: Bar) -> None:
        """Split them.

        Raises:
            TaskError: There are too few tasks.
        """
        pool = self._shuffled(self.tasks, site)
        held_out = self._shuffled(self.held_out, site) if self.held_out else []
        if not held_out:
            count = min(self.validation_tasks + self.test_tasks, len(pool) // 3)
            pool, held_out = pool[count:], pool[:count]
        held_out_ids = {task.id for task in held_out}
        pool = [task for task in pool if task.id not in held_out_ids]
        deciding = min(self.validation_tasks, len(held_out) // 2)
        if not deciding or not pool:
            raise TaskError(
                f"{len(pool)} tasks to train on and {len(held_out)} held out are too few; pass more task files"
            )
        write_jsonl(folder / self.validation.path, held_out[:deciding])
        write_jsonl(folder / self.test.path, held_out[deciding:][: self.test_tasks])
        write_jsonl(folder / self.pool.path, pool)

    def _shuffled(self, files: Sequence[TaskFile], site: Site) -> list[SearchTask]:
        by_id = {task.id: task for task in read_task_files([site.where(file) for file in files])}
        shuffled = [by_id[task_id] for task_id in sorted(by_id)]
        random.Random(self.seed).shuffle(shuffled)
        return shuffled
