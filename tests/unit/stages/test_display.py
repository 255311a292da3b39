from __future__ import annotations

import io
import time

import pytest
from rich.console import Console

from masksearch_agent.stages.display import Display


def test_a_stage_that_goes_on_shows_where_it_is_how_fast_and_how_long_still() -> None:
    written = io.StringIO()
    console = Console(file=written, force_terminal=True, width=200)
    with Display(console).stage("generating") as bar:
        bar.start(50, 100)
        [task] = bar._progress.tasks
        # What an earlier start did is no speed of this one.
        assert (task.completed, task.total, task.speed) == (50, 100, None)
        bar.step("3 accepted")
        bar.step("4 accepted")
        bar._progress.refresh()
    shown = written.getvalue()
    for part in ("52/100", "/s", "left", "4 accepted"):
        assert part in shown


def test_a_log_gets_a_line_a_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    written = io.StringIO()
    with Display(Console(file=written, width=80)).stage("generating") as bar:
        bar.start(0, 400)
        for _ in range(130):
            now += 1.0
            bar.step("all accepted")
        lines = written.getvalue().splitlines()
    assert [line.split(",")[0] for line in lines] == ["generating: 60/400", "generating: 120/400"]
    assert all("left, all accepted" in line for line in lines)


def test_slow_steps_have_a_speed_and_a_time_left(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    written = io.StringIO()
    with Display(Console(file=written, width=80)).stage("training") as bar:
        bar._progress.get_time = lambda: now
        for step in (10, 20, 30):
            now += 120.0
            bar.move_to(step, "", 100)
    assert "training: 30/100, 5.0/min, 0:14:00 left" in written.getvalue()


def test_eighty_columns_cut_nothing_off() -> None:
    written = io.StringIO()
    console = Console(file=written, force_terminal=True, width=80)
    with Display(console).stage("generating trajectories (ramp)") as bar:
        bar.start(0, 26235)
        bar.step("a note that would push numbers off the line" * 3, count=12345)
        bar._progress.refresh()
    assert "12345/26235" in written.getvalue()
    assert "…" not in written.getvalue()


def test_training_shows_the_last_exam_until_the_next_one() -> None:
    console = Console(file=io.StringIO(), force_terminal=True, width=200)
    with Display(console).stage("training") as bar:
        listen = bar.training_listener()
        listen(10, 100, {"exam/recall": 0.25, "exam/best_recall": 0.5})
        listen(20, 100, {"loss": 1.5})
        [task] = bar._progress.tasks
        assert task.fields["note"] == "loss 1.500, exam recall 0.250, best 0.500"
