"""Progress of a run: a live bar on a terminal, a line a minute in a log."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import TypeVar

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text

__all__ = ("Bar", "Display", "count_steps")

_ItemT = TypeVar("_ItemT")

_SECONDS_PER_LINE = 60.0
"""Between two lines of a log."""
_SPEED_OVER_SECONDS = 900.0
"""How far back a speed is measured."""
_WIDE = 120
"""Columns of a terminal that a bar and a note fit on."""


class Display:
    """Shows one bar per stage, with a note that says what is going on.

    Args:
        console: Where to show it; None for standard error, so that standard output stays for results.
    """

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console(stderr=True)

    @contextmanager
    def stage(self, title: str, total: int | None = None) -> Iterator[Bar]:
        """Show a stage while it runs."""
        is_wide = self.console.width >= _WIDE
        progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.description:<34}"),
            *([BarColumn(bar_width=24)] if is_wide else []),
            MofNCompleteColumn(),
            *([TimeElapsedColumn()] if is_wide else []),
            _RateColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            *([TextColumn("{task.fields[note]}")] if is_wide else []),
            console=self.console,
            # Ten steps of training can take minutes: of fewer than two points no speed is told.
            speed_estimate_period=_SPEED_OVER_SECONDS,
        )
        with progress:
            yield Bar(progress, title, total)

    def skip(self, title: str) -> None:
        """Say that a stage was finished by an earlier start."""
        self.console.print(f"[dim]✓ {title}: done before[/dim]")

    def say(self, text: str) -> None:
        """Print a line."""
        self.console.print(text)


class _RateColumn(ProgressColumn):
    """Steps per second, or per minute where that is less than one a second."""

    def render(self, task: Task) -> Text:
        """Return the rate; a dash before there is one."""
        return Text(_rate(task))


def _rate(task: Task) -> str:
    speed = task.finished_speed or task.speed
    if not speed:
        return "–/s"
    return f"{speed:.1f}/s" if speed >= 1 else f"{speed * 60:.1f}/min"


class Bar:
    """The bar of one stage."""

    def __init__(self, progress: Progress, title: str, total: int | None) -> None:
        self._progress = progress
        self._task = progress.add_task(title, total=total, note="")
        self._next_line = time.monotonic() + _SECONDS_PER_LINE

    @property
    def console(self) -> Console:
        """Where the bar is shown."""
        return self._progress.console

    def start(self, done: int, total: int) -> None:
        """Set where a stage that goes on begins; what was done before counts for no rate."""
        self._progress.reset(self._task, completed=done, total=total)

    def step(self, note: str = "", count: int = 1) -> None:
        """Count one more, or several."""
        self._progress.update(self._task, advance=count, note=note)
        self._log()

    def move_to(self, done: int, note: str, total: int | None = None) -> None:
        """Set how much is done, and of how much where that was not known."""
        self._progress.update(self._task, completed=done, total=total, note=note)
        self._log()

    def _log(self) -> None:
        """Print where the stage is, once a minute, where no live bar says so."""
        if self.console.is_terminal or time.monotonic() < self._next_line:
            return
        self._next_line = time.monotonic() + _SECONDS_PER_LINE
        task = self._progress.tasks[0]
        left = f", {timedelta(seconds=round(task.time_remaining))} left" if task.time_remaining else ""
        total = f"/{task.total:.0f}" if task.total else ""
        note = f", {task.fields['note']}" if task.fields["note"] else ""
        line = f"{task.description}: {task.completed:.0f}{total}, {_rate(task)}{left}{note}"
        self.console.print(line, markup=False, highlight=False, soft_wrap=True)

    def finish(self) -> None:
        """Fill the bar."""
        task = self._progress.tasks[0]
        total = task.total or 1
        self._progress.update(self._task, completed=total, total=total)

    def training_listener(self) -> Callable[[int, int, dict[str, float]], None]:
        """Return a listener for training metrics, which shows the last of each: an exam's come seldom."""
        names = {
            **{"loss": "loss", "rewards/answer": "answer reward", "rewards/format": "format reward"},
            **{"exam/recall": "exam recall", "exam/best_recall": "best"},
        }
        known: dict[str, float] = {}

        def listen(step: int, total: int, metrics: dict[str, float]) -> None:
            known.update(metrics)
            parts = [f"{label} {known[key]:.3f}" for key, label in names.items() if key in known]
            self.move_to(step, ", ".join(parts), total)

        return listen


def count_steps(items: Iterable[_ItemT], bar: Bar | None) -> Iterator[_ItemT]:
    """Yield the items and count each on the bar."""
    for item in items:
        if bar is not None:
            bar.step()
        yield item
