"""Stages that are known by what they depend on, so that runs which share one do it once.

A stage is named by a hash of its kind, its settings and the stages it is made from. Whatever asks for the same work
gets the same folder; a change of one setting gives new folders to the stages that depend on it, and to no others. A
stage sees nothing but its settings and its sources, so there is nothing of a recipe that the hash could miss. It does
not know the code: after a change of that, start in a new folder.

A stage that was stopped is begun again in its folder, where it goes on from what it finds.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from masksearch_agent.pipeline.display import Bar, Display
from masksearch_agent.pipeline.stages import FinishedStage, Run
from masksearch_agent.records import content_id

__all__ = ("Part", "Stage", "StageCache", "Worker", "lineage")


@dataclass(frozen=True, eq=False)
class Stage:
    """A piece of work."""

    kind: str
    """Names who does it."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """All that it depends on beside its sources, as JSON holds it."""
    sources: Mapping[str, Part] = field(default_factory=dict)
    title: str = ""
    """For the display; no part of the key."""

    @cached_property
    def key(self) -> str:
        """A hash of what the stage depends on."""
        return content_id(self.description)

    @property
    def description(self) -> dict[str, Any]:
        """What the key is made from; a source stands there by its own key."""
        sources = {name: [part.stage.key, part.path] for name, part in self.sources.items()}
        return {"kind": self.kind, "settings": self.settings, "sources": sources}

    def part(self, path: str = "") -> Part:
        """Return a file or folder that the stage writes."""
        return Part(self, path)


@dataclass(frozen=True, eq=False)
class Part:
    """A file or folder that a stage writes."""

    stage: Stage
    path: str
    """Relative to the stage's folder."""


Worker = Callable[[Stage, Path, Bar], tuple[int, int] | None]
"""Does a stage in its folder and returns (steps, tokens) where it trains."""


class StageCache:
    """Does stages, each once.

    Args:
        directory: Holds a folder for each stage.
        workers: Who does which kind of stage.
        display: Progress.
    """

    def __init__(
        self, directory: Path, workers: Mapping[str, Worker], display: Display | None = None
    ) -> None:
        self.directory = directory
        self.workers = workers
        self.display = display or Display()
        self._finished: dict[str, FinishedStage] = {}

    def path(self, part: Part) -> Path:
        """Return where a part is, or will be."""
        return self._folder(part.stage) / part.path

    def cost(self, stages: Iterable[Stage]) -> tuple[float, float]:
        """Return what finished stages and all that they are made from took.

        Returns:
            Seconds, without what was lost when a stage was stopped, and the most memory at a time in GB.
        """
        runs: dict[str, Run] = {}
        pending = list(stages)
        while pending:
            stage = pending.pop()
            if stage.key not in runs:
                runs[stage.key] = self._run(stage)
                pending += [part.stage for part in stage.sources.values()]
        seconds = sum(done.seconds for run in runs.values() for done in run.stages)
        return seconds, max((run.peak_memory_gb for run in runs.values()), default=0.0)

    def finish(self, stage: Stage) -> FinishedStage:
        """Do a stage unless it is done, those that it is made from first, and return what it took."""
        if stage.key not in self._finished:
            run = self._run(stage)
            if not run.is_done(stage.kind):
                for part in stage.sources.values():
                    self.finish(part.stage)
            work, folder = self.workers[stage.kind], self._folder(stage)
            run.show(stage.kind, stage.title or stage.kind, lambda bar: work(stage, folder, bar))
            [self._finished[stage.key]] = run.stages
        return self._finished[stage.key]

    def _run(self, stage: Stage) -> Run:
        return Run(self._folder(stage), json.dumps(stage.description, sort_keys=True), self.display)

    def _folder(self, stage: Stage) -> Path:
        return self.directory / f"{stage.kind}-{stage.key}"


def lineage(part: Part | None, name: str) -> Iterator[Stage]:
    """Yield a part's stage, then the one that it was made from under this name, and so on."""
    while part is not None:
        yield part.stage
        part = part.stage.sources.get(name)
