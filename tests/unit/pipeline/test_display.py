from __future__ import annotations

import io

from rich.console import Console

from masksearch_agent.pipeline.display import Display, NestedDisplay


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


def test_a_run_within_a_stage_shows_its_stages_on_the_one_bar() -> None:
    written = io.StringIO()
    with Display(Console(file=written, force_terminal=True, width=200)).stage("self-evolution") as outer:
        nested = NestedDisplay(outer)
        for title in ("round 1: SFT", "round 2: SFT"):
            with nested.stage(title) as bar:
                bar.start(3, 7)
                bar.step()
                bar._progress.refresh()
                bar.finish()
        nested.skip("round 3: SFT")
        assert len(outer._progress.tasks) == 1
    shown = written.getvalue()
    for part in ("round 1: SFT", "round 2: SFT", "4/7", "done before"):
        assert part in shown
