"""What a stage is: a piece of a run with typed inputs and outputs, known by what it depends on.

A stage is a frozen dataclass. Its fields are all that it depends on: settings, and artifacts, which are the files and
folders that other stages write or that were there before. Its key is a hash of these fields, so whatever asks for the
same work names the same stage, and a change of one setting gives new keys to the stages that depend on it and to no
others. The key does not know the code: after a change of that, start in a new folder.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, ClassVar

from pydantic import BaseModel

from masksearch_agent.config.retrieval import RetrievalSettings
from masksearch_agent.records import content_id
from masksearch_agent.retrieval.adapters import open_search
from masksearch_agent.retrieval.index import open_index
from masksearch_agent.retrieval.search import Search
from masksearch_agent.stages.display import Bar

__all__ = (
    *(
        "AgentFolder",
        "AgentStage",
        "Artifact",
        "Corpus",
        "IndexFolder",
        "Results",
        "Searched",
        "Site",
        "Spent",
    ),
    *("Stage", "TaskFile", "Traces", "lineage"),
)

_HASHED_BYTES = 256 * 2**20
"""Of a larger file only the size is looked at."""
_HASHED_FOLDER_BYTES = 4 * 2**30
"""Of the files of a larger folder only the sizes are looked at. Reading so much takes some ten seconds."""


@dataclass(frozen=True)
class Artifact:
    """A file or folder that stages hand on."""

    path: str = ""
    """Relative to the folder of the stage that writes it; where no stage does, a path, hub id or `web:…` as it is."""
    stage: Stage | None = dataclasses.field(default=None, repr=False)

    @property
    def identity(self) -> list[str]:
        """What it is to the key of a stage that reads it; a file that no stage wrote is known by its content too."""
        if self.stage is not None:
            return [self.stage.key, self.path]
        file = Path(self.path)
        return ["", self.path, *([_fingerprint(file)] if file.is_file() else [])]


class Corpus(Artifact):
    """Documents, or passages in a table; a folder of them is known by its files and what is in them."""

    @property
    def identity(self) -> list[str]:
        """See `Artifact`."""
        folder = Path(self.path)
        if self.stage is not None or not folder.is_dir():
            return super().identity
        files = sorted(file for file in folder.rglob("*") if file.is_file())
        sizes = {file: file.stat().st_size for file in files}
        # Not by the time of the last change, which is another one in a copy.
        is_small = sum(sizes.values()) <= _HASHED_FOLDER_BYTES
        told = (
            f"{file.relative_to(folder)} {_fingerprint(file) if is_small else sizes[file]}" for file in files
        )
        return ["", self.path, content_id(*told)]


class IndexFolder(Artifact):
    """An index that was built, or the name of a web search."""


class TaskFile(Artifact):
    """Tasks, or the questions of a benchmark."""


class AgentFolder(Artifact):
    """An agent bundle."""


class Results(Artifact):
    """Per-question results of an evaluation."""


@dataclass(frozen=True)
class Traces(Artifact):
    """The trajectories of one stage in a trace store."""

    trace_stage: str = "ramp"
    """The name that the store keeps them under."""

    @property
    def identity(self) -> list[str]:
        """Its name in the store is part of what it is."""
        return [*super().identity, self.trace_stage]


@dataclass(frozen=True)
class Searched:
    """What a stage searches, and how."""

    index: IndexFolder
    settings: RetrievalSettings
    is_guarded: bool = True
    """Whether a task's source is withheld from its searches."""


@dataclass(frozen=True, slots=True)
class Spent:
    """What a stage spent, on what, and how many of its items failed."""

    steps: int = 0
    tokens: int = 0
    """Tokens that went through the model in training, context included."""
    mixed: Mapping[str, int] = dataclasses.field(default_factory=dict)
    """Trajectories (of DAPO: tasks to draw from) by where they come from, `own` or `ramp`; empty where nothing was
    mixed in."""
    exam_seconds: float = 0.0
    """Of its time, what exams took while it trained."""
    notes: tuple[str, ...] = ()
    """What went wrong, and which weights were kept where that are not the last (`trainers.monitor`)."""
    items: int = 0
    """Questions, tasks or rollouts that it worked on; 0 where it does not count any."""
    failed: int = 0
    """Of them, those that failed."""
    failures: Mapping[str, int] = dataclasses.field(default_factory=dict)
    """Why."""


class Site:
    """Where stages work: tells them where artifacts are, and opens what they search once for all of them."""

    def __init__(self, report_to: Sequence[str] = ()) -> None:
        self.retry_failed = False
        """Whether stages try again what failed in them before."""
        self.report_to = tuple(report_to)
        """Where training is logged to, too. Not in the stages, which are known by what they depend on."""
        self._searches: dict[str, Search] = {}

    def where(self, artifact: Artifact) -> Path:
        """Return where an artifact is."""
        if artifact.stage is not None:
            raise ValueError(f"{artifact.path!r} is written by a stage; ask the graph that does it")
        return Path(artifact.path)

    def search(self, searched: Searched) -> Search:
        """Return the search of an index; without a guard, sources of tasks are found too."""
        place = searched.index.path if searched.index.stage is None else self.where(searched.index)
        key = content_id(str(place), searched.settings.model_dump_json(), searched.is_guarded)
        if key not in self._searches:
            self._searches[key] = (
                open_search(place, searched.settings)
                if searched.is_guarded
                else Search(
                    open_index(Path(place), searched.settings.chosen_mode), is_guarded=False
                ).for_run()
            )
        return self._searches[key]


@dataclass(frozen=True, kw_only=True, eq=False)
class Stage:
    """A piece of work; subclasses add what it depends on."""

    name: str = ""
    """What the run calls it, and its folder; empty for a folder named by the key, which runs may share."""
    title: str = ""
    """What the display says; the kind where empty. Neither is part of the key."""

    kind: ClassVar[str]
    retries: ClassVar[bool] = False
    """Whether, worked at again, it tries just what failed; the other kinds would do everything anew."""

    def work(self, folder: Path, site: Site, bar: Bar) -> Spent | None:
        """Do it in its folder, where it alone writes, and may have left something to go on from when it was stopped.

        Returns:
            What it spent, where it trains, and what failed of its items.
        """
        raise NotImplementedError

    def check(self) -> None:
        """See whether it can be done at all, at no cost; before a run begins, every stage that is not done is asked."""

    @cached_property
    def description(self) -> dict[str, Any]:
        """All that it depends on, as JSON holds it; an artifact stands there by the key of its stage."""
        fields = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        inputs = {name: _describe(value) for name, value in fields.items() if name not in ("name", "title")}
        return {"kind": self.kind, **inputs}

    @cached_property
    def key(self) -> str:
        """A hash of the description."""
        return content_id(self.description)

    @property
    def sources(self) -> tuple[Stage, ...]:
        """The stages that it is made from, each once."""
        found = [a.stage for a in _artifacts([getattr(self, f.name) for f in dataclasses.fields(self)])]
        return tuple({stage.key: stage for stage in found if stage is not None}.values())


class AgentStage(Stage):
    """A stage whose folder is an agent."""

    @property
    def trained(self) -> AgentFolder:
        """The agent."""
        return AgentFolder("", self)


def lineage(agent: AgentFolder | None) -> Iterator[Stage]:
    """Yield the stage that made an agent, then the one that made the agent it was trained from, and so on."""
    while agent is not None and agent.stage is not None:
        yield agent.stage
        agent = getattr(agent.stage, "agent", None)


def _describe(value: Any) -> Any:
    if isinstance(value, Artifact):
        return value.identity
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    if dataclasses.is_dataclass(value):
        return {field.name: _describe(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(name): _describe(part) for name, part in value.items()}
    return [_describe(part) for part in value] if isinstance(value, list | tuple) else value


def _artifacts(value: Any) -> Iterator[Artifact]:
    if isinstance(value, Artifact):
        yield value
    elif dataclasses.is_dataclass(value):
        yield from _artifacts([getattr(value, field.name) for field in dataclasses.fields(value)])
    elif isinstance(value, Mapping):
        yield from _artifacts(list(value.values()))
    elif isinstance(value, list | tuple):
        for part in value:
            yield from _artifacts(part)


def _fingerprint(file: Path) -> str:
    """Return a hash of a file's content, or its size where reading it would take long."""
    about = file.stat()
    return f"{about.st_size} bytes" if about.st_size > _HASHED_BYTES else _hash(file, about.st_mtime_ns)


@lru_cache(maxsize=100_000)
def _hash(file: Path, changed_ns: int) -> str:
    """Hash a file's content, once while it is not changed: many stages of a run ask."""
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()[:16]
