"""Does the stages of a run, each once, and knows what they took.

Each stage has a folder, and beside the folders stands a ledger: for each stage what it depends on and, once it is
done, its cost and what failed in it. A stage that was stopped is begun again in its folder, where it goes on from what
it finds. Runs in one directory share the stages that they have in common. A stage in which items failed is done; with
`retry_failed` it works on those again, and what other stages made of it before stays as it is.
"""

from __future__ import annotations

import dataclasses
import json
import resource
import time
import weakref
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from masksearch_agent.environment import release_memory
from masksearch_agent.errors import ConfigError
from masksearch_agent.files import holding, replace_text
from masksearch_agent.stages.display import Display
from masksearch_agent.stages.stage import Artifact, Site, Spent, Stage
from masksearch_agent.trainers.trackers import require_trackers

__all__ = ("FinishedStage", "StageGraph")

_LEDGER = "ledger"
_EARLIER_LEDGER = "stages.json"
"""What versions before this one kept in a run folder."""
_SHORT_STAGE_S = 5.0
"""A stage that took no longer held no model that is worth looking for (`environment.release_memory`)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FinishedStage(Spent):
    """What a stage took, and what it spent."""

    name: str
    seconds: float
    """Without what was lost when it was stopped."""
    peak_memory_gb: float = 0.0
    """Of the process, up to the end of the stage."""


class StageGraph(Site):
    """A directory of stages.

    Args:
        directory: Holds a folder for each stage.
        report_to: Where training is logged to, too.

    Raises:
        ConfigError: The directory holds a run of a version that kept its stages in another way.
        MissingExtraError: What training is to be logged to is not installed.
    """

    def __init__(
        self, directory: Path, display: Display | None = None, report_to: Sequence[str] = ()
    ) -> None:
        super().__init__(report_to)
        require_trackers(report_to)
        self.directory = directory
        self.display = display or Display()
        self._finished: dict[str, FinishedStage] = {}
        self._is_held = False
        if (directory / _EARLIER_LEDGER).is_file():
            raise ConfigError(
                f"{directory} holds a run of an earlier version, which cannot go on here; its agents and results can "
                f"be used as they are. Pass another --out to run anew"
            )

    def where(self, artifact: Artifact) -> Path:
        """Return where an artifact is, or will be."""
        if artifact.stage is None:
            return super().where(artifact)
        return self.folder(artifact.stage) / artifact.path

    def folder(self, stage: Stage) -> Path:
        """Return the folder of a stage."""
        return self.directory / (stage.name or f"{stage.kind}-{stage.key}")

    def check(self, stages: Iterable[Stage]) -> None:
        """See whether these stages can be done here, before any is.

        Raises:
            ConfigError: The folders of some hold the work of others.
            MaskSearchError: What `Stage.check` of one that is not done raises.
        """
        asked = _with_sources(stages)
        changed = {stage: inputs for stage in asked if (inputs := self._changed_inputs(stage))}
        if not changed:
            for stage in asked:
                if not self._is_done(stage, self._read(stage)):
                    stage.check()
            return
        told = [
            f"its {stage.name or stage.kind!r} was made from another {', '.join(inputs)}"
            for stage, inputs in changed.items()
            if not changed.keys() & set(stage.sources)  # What follows from these need not be told.
        ]
        stale = [str(path) for stage in changed for path in (self._page(stage), self.folder(stage))]
        raise ConfigError(
            f"{self.directory} holds a run with other settings: {'; '.join(told)}, or an earlier version wrote it. "
            f"Pass another --out, or delete these to do them again: {' '.join(stale)}"
        )

    def finish(self, stage: Stage) -> FinishedStage:
        """Do a stage unless it is done, those that it is made from first, and return what it took.

        Raises:
            ConfigError: The folder of the stage holds the work of another, or another process works in the directory.
        """
        if stage.key in self._finished:
            return self._finished[stage.key]
        self.hold()
        for source in stage.sources:
            self.finish(source)
        title = stage.title or stage.kind
        self.check([stage])
        kept = self._read(stage)
        kept.pop("made_from", None)
        is_done = self._is_done(stage, kept)
        retries = self.retry_failed and stage.retries and kept.get("failed")
        if is_done and not retries:
            self.display.skip(title)
        else:
            self._write(stage, {})
            with self.display.stage(title) as bar:
                started_s = time.perf_counter()
                spent = stage.work(self.folder(stage), self, bar) or Spent()
                worked_s = time.perf_counter() - started_s
                seconds = worked_s + (kept["seconds"] if is_done else 0.0)
                kept = {"seconds": seconds, **dataclasses.asdict(spent)}
                bar.finish()
            for note in kept["notes"]:
                self.display.say(f"{title}: {note}")
            for reason, count in kept["failures"].items():
                self.display.say(f"{title}: {count:,} of {kept['items']:,} failed: {reason}")
            # ru_maxrss is in KiB on Linux.
            kept["peak_memory_gb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
            self._write(stage, kept)
            if worked_s > _SHORT_STAGE_S:
                release_memory()
        kept["notes"] = tuple(kept.get("notes", ()))  # A list, where it comes from the ledger.
        self._finished[stage.key] = FinishedStage(name=stage.name or stage.kind, **kept)
        return self._finished[stage.key]

    def _is_done(self, stage: Stage, kept: Mapping[str, Any]) -> bool:
        # A folder that somebody deleted is made again: the ledger is not what later stages read.
        return "seconds" in kept and self.folder(stage).is_dir()

    def hold(self) -> None:
        """Hold the directory against other processes for as long as this object lives; `finish` does so, too.

        Raises:
            ConfigError: Another process holds it.
        """
        if not self._is_held:
            stack = ExitStack()
            stack.enter_context(holding(self.directory, is_folder=True))
            weakref.finalize(self, stack.close)
            self._is_held = True

    def make(self, artifact: Artifact) -> Path:
        """Do the stage that writes an artifact, unless it was there before; return where it is."""
        if artifact.stage is not None:
            self.finish(artifact.stage)
        return self.where(artifact)

    def took(self, stages: Iterable[Stage]) -> list[FinishedStage]:
        """Return what finished stages and all that they are made from took, each once, in the order they were done."""
        took = {stage.key: self.finish(stage) for stage in _with_sources(stages)}
        return [self._finished[key] for key in self._finished if key in took]

    def _read(self, stage: Stage) -> dict[str, Any]:
        """Return what is known of the stage's work; nothing where it was not begun."""
        path = self._page(stage)
        return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}

    def _changed_inputs(self, stage: Stage) -> list[str]:
        """Return which inputs of a stage are not those of the work in its folder, settings by their own names."""
        kept = self._read(stage).get("made_from")
        return _differences(kept, json.loads(json.dumps(stage.description))) if kept is not None else []

    def _write(self, stage: Stage, took: dict[str, Any]) -> None:
        text = json.dumps({"made_from": stage.description, **took}, indent=2, ensure_ascii=False)
        replace_text(self._page(stage), text + "\n")

    def _page(self, stage: Stage) -> Path:
        return self.directory / _LEDGER / f"{self.folder(stage).relative_to(self.directory)}.json"


def _with_sources(stages: Iterable[Stage]) -> list[Stage]:
    """Return stages and all that they are made from, each once, sources first."""
    ordered: dict[str, Stage] = {}

    def visit(stage: Stage) -> None:
        if stage.key not in ordered:
            for source in stage.sources:
                visit(source)
            ordered[stage.key] = stage

    for stage in stages:
        visit(stage)
    return list(ordered.values())


def _differences(kept: dict[str, Any], wanted: dict[str, Any]) -> list[str]:
    names = []
    for name in sorted({*kept, *wanted}):
        one, other = kept.get(name), wanted.get(name)
        if name not in kept and not other:
            continue  # A run of before knew no such input, and there is none.
        if isinstance(one, dict) and isinstance(other, dict):
            names += [f"{name}.{key}" for key in sorted({*one, *other}) if one.get(key) != other.get(key)]
        elif one != other:
            names.append(name)
    return names
