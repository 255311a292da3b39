"""Stages that are noted instead of done, so that a plan can be run in no time and killed anywhere."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

from masksearch_agent.stages.display import Bar
from masksearch_agent.stages.stage import Site, Spent, Stage

Work = Callable[[Stage, Path, Site], Spent | None]


class NotedWork:
    """Takes the place of the work of some kinds of stages.

    Args:
        monkeypatch: Puts the real work back.
        kinds: The classes of stages.
        works: What to do instead, by the kind of stage; nothing where a kind is missing.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch, kinds: Iterable[type[Stage]], **works: Work) -> None:
        self.done: list[Stage] = []
        self.killed_at = ""
        """Name of a stage that is killed once, after it was begun."""
        self.killed_after: int | None = None
        """Number of stages after which one is killed."""

        def work(stage: Stage, folder: Path, site: Site, bar: Bar) -> Spent | None:
            folder.mkdir(parents=True, exist_ok=True)
            if (self.killed_at and self.killed_at == stage.name) or self.killed_after == len(self.done):
                self.killed_at, self.killed_after = "", None
                raise KeyboardInterrupt
            spent = works[stage.kind](stage, folder, site) if stage.kind in works else None
            self.done.append(stage)
            return spent

        for kind in kinds:
            monkeypatch.setattr(kind, "work", work)

    @property
    def names(self) -> list[str]:
        """The names of the stages that were done."""
        return [stage.name for stage in self.done]

    def of_kind(self, kind: str) -> list[Any]:
        """Return the stages of a kind that were done."""
        return [stage for stage in self.done if stage.kind == kind]
