"""The questions stage: training questions of any benchmark become tasks to teach."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from masksearch_agent.errors import TaskError
from masksearch_agent.evaluation.sources import read_good_tasks
from masksearch_agent.jsonl import write_jsonl
from masksearch_agent.records import SearchTask
from masksearch_agent.stages.display import Bar
from masksearch_agent.stages.stage import Site, Stage, TaskFile

__all__ = ("Questions",)


@dataclass(frozen=True, kw_only=True, eq=False)
class Questions(Stage):
    """Reads question files; a row that cannot be read costs that row, and is counted."""

    kind = "questions"

    files: tuple[TaskFile, ...]
    limit: int | None = None
    """Questions drawn of each file at most; None takes all."""
    seed: int = 0
    """Of the drawing."""

    @property
    def tasks(self) -> TaskFile:
        """The questions, as tasks of the training split."""
        return TaskFile("tasks.jsonl", self)

    def work(self, folder: Path, site: Site, bar: Bar) -> None:
        """Read the files.

        Raises:
            TaskError: They hold no question that can be read.
        """
        skipped: list[str] = []
        kept = write_jsonl(folder / self.tasks.path, self._read(site, skipped))
        if skipped:
            bar.console.print(
                f"{len(skipped)} questions cannot be read and are left out, the first: {skipped[0]}"
            )
        if not kept:
            raise TaskError(
                f"no question in {', '.join(file.path for file in self.files)} can be read; "
                f"see docs/evaluation.md for the formats"
            )

    def _read(self, site: Site, skipped: list[str]) -> Iterator[SearchTask]:
        known = set[str]()
        for file in self.files:
            fresh = {
                task.id: task for task in read_good_tasks(site.where(file), skipped) if task.id not in known
            }
            known.update(fresh)
            chosen = list(fresh)
            if self.limit is not None and len(chosen) > self.limit:
                chosen = random.Random(self.seed).sample(chosen, self.limit)
            yield from (replace(fresh[task_id], split="train") for task_id in chosen)
