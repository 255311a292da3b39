"""The stage that draws an exam: some of many tasks, as even over their categories as can be."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from itertools import chain, islice, zip_longest
from pathlib import Path

from masksearch_agent.errors import TaskError
from masksearch_agent.jsonl import read_jsonl, write_jsonl
from masksearch_agent.records import SearchTask, content_id
from masksearch_agent.stages.display import Bar
from masksearch_agent.stages.stage import Site, Stage, TaskFile

__all__ = ("Draw",)


@dataclass(frozen=True, kw_only=True, eq=False)
class Draw(Stage):
    """Draws tasks: of each category in turn the next one, in random order, until there are enough."""

    kind = "draw"

    tasks: TaskFile
    at_most: int
    seed: int

    @property
    def drawn(self) -> TaskFile:
        """The tasks."""
        return TaskFile("questions.jsonl", self)

    def work(self, folder: Path, site: Site, bar: Bar) -> None:
        """Draw them.

        Raises:
            TaskError: There are no tasks.
        """
        categories: dict[str, list[SearchTask]] = defaultdict(list)
        for task in read_jsonl(site.where(self.tasks), SearchTask, TaskError):
            categories[task.category].append(task)
        if not categories:
            raise TaskError(
                "no question for the exam could be made from the held-out documents: the rest of the corpus gives none "
                "of their facts; hold more back (`--set exam.documents=0.3`), or train without an exam "
                "(`--set exam.documents=0`) and pass questions with --test"
            )
        for tasks in categories.values():
            tasks.sort(key=lambda task: content_id(self.seed, task.id))
        in_turn = chain.from_iterable(zip_longest(*(categories[name] for name in sorted(categories))))
        write_jsonl(folder / self.drawn.path, islice(filter(None, in_turn), self.at_most))
