"""A run as a list of stages that each happen once: started again, it goes on at the stage that was stopped."""

from __future__ import annotations

import json
import resource
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from masksearch_agent.errors import ConfigError
from masksearch_agent.files import replace_text
from masksearch_agent.pipeline.display import Bar, Display

__all__ = ("FinishedStage", "Run")


@dataclass(frozen=True, slots=True)
class FinishedStage:
    """What a stage took."""

    name: str
    seconds: float
    tokens: int = 0
    steps: int = 0


class Run:
    """A run folder and the stages finished in it.

    Args:
        directory: The folder.
        fingerprint: What the run depends on (its resolved recipe). A folder that was begun with another one is
            refused, because its finished stages would not fit.
        display: Where `show` shows stages; None shows them nowhere.

    Raises:
        ConfigError: The folder belongs to a run with other settings.
    """

    def __init__(self, directory: Path, fingerprint: str, display: Display | None = None) -> None:
        self.directory = directory
        self.display = display or Display()
        self._path = directory / "stages.json"
        self._state: dict[str, Any] = {"fingerprint": fingerprint, "stages": [], "peak_memory_gb": 0.0}
        if self._path.is_file():
            self._state = json.loads(self._path.read_text(encoding="utf-8"))
            if self._state["fingerprint"] != fingerprint:
                raise ConfigError(
                    f"{directory} holds a run with other settings; pass another --out, or delete the folder to "
                    f"start over"
                )
        directory.mkdir(parents=True, exist_ok=True)

    @property
    def stages(self) -> list[FinishedStage]:
        """The finished stages, in order."""
        return [FinishedStage(**stage) for stage in self._state["stages"]]

    @property
    def peak_memory_gb(self) -> float:
        """Largest resident memory of the process, over all starts of the run."""
        # ru_maxrss is in KiB on Linux.
        now = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        return max(now, float(self._state["peak_memory_gb"]))

    def is_done(self, name: str) -> bool:
        """Return whether a stage is finished."""
        return any(stage["name"] == name for stage in self._state["stages"])

    def do(self, name: str, work: Callable[[], tuple[int, int] | None]) -> bool:
        """Do a stage unless it is done.

        Args:
            name: The stage.
            work: Does it. It may find what an earlier, stopped attempt left and returns (steps, tokens) for
                training stages.

        Returns:
            Whether there was anything to do.
        """
        if self.is_done(name):
            return False
        started_s = time.perf_counter()
        steps, tokens = work() or (0, 0)
        finished = FinishedStage(name, time.perf_counter() - started_s, tokens, steps)
        self._state["stages"].append(asdict(finished))
        self._state["peak_memory_gb"] = self.peak_memory_gb
        self._save()
        return True

    def show(self, name: str, title: str, work: Callable[[Bar], tuple[int, int] | None]) -> None:
        """Do a stage unless it is done, and show how it goes under a title; `work` moves the bar."""
        if self.is_done(name):
            self.display.skip(title)
            return
        with self.display.stage(title) as bar:
            self.do(name, lambda: work(bar))
            bar.finish()

    def _save(self) -> None:
        replace_text(self._path, json.dumps(self._state, indent=2) + "\n")
