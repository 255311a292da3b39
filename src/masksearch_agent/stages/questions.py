"""The questions stage: training questions of any benchmark become tasks to teach."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from masksearch_agent.errors import TaskError
from masksearch_agent.evaluation.sources import read_good_tasks
from masksearch_agent.jsonl import write_jsonl
from masksearch_agent.records import SearchTask
from masksearch_agent.stages.display import Bar
from masksearch_agent.stages.stage import Corpus, Site, Stage, TaskFile
from masksearch_agent.stages.tasks import corpus_passages

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
    held_out: tuple[Corpus, ...] = ()
    """Passages that an exam is made from: a question whose evidence is among them is left out."""

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
        held_out = _held_out(site.where(corpus) for corpus in self.held_out)
        left_out: list[SearchTask] = []
        tasks = _outside(held_out, self._read(site, skipped), left_out)
        kept = write_jsonl(folder / self.tasks.path, tasks)
        if left_out:
            bar.console.print(f"{len(left_out)} questions rest on documents of the exam and are left out")
        if skipped:
            bar.console.print(
                f"{len(skipped)} questions cannot be read and are left out, the first: {skipped[0]}"
            )
        files = ", ".join(file.path for file in self.files)
        if not kept and left_out:
            raise TaskError(
                f"all questions in {files} rest on documents that the exam is made from; pass others, or hold fewer "
                f"documents back (exam.documents)"
            )
        if not kept:
            raise TaskError(f"no question in {files} can be read; see docs/evaluation.md for the formats")

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


def _held_out(folders: Iterable[Path]) -> frozenset[str]:
    """Return the ids and titles of the passages of folders."""
    passages = (passage for folder in folders for passage in corpus_passages(folder))
    return frozenset(name for passage in passages for name in (passage.id, passage.title) if name)


def _outside(
    held_out: frozenset[str], tasks: Iterable[SearchTask], left_out: list[SearchTask]
) -> Iterator[SearchTask]:
    """Yield the tasks with no evidence among what is held out; add the others to `left_out`."""
    for task in tasks:
        rests_on = {*task.gold_passage_ids, task.source_passage_id, *(each.title for each in task.evidence)}
        if held_out.isdisjoint(rests_on):
            yield task
        else:
            left_out.append(task)
