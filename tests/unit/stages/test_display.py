from __future__ import annotations

import io

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


def test_training_shows_the_last_exam_until_the_next_one() -> None:
    console = Console(file=io.StringIO(), force_terminal=True, width=200)
    with Display(console).stage("training") as bar:
        listen = bar.training_listener()
        listen(10, 100, {"exam/recall": 0.25, "exam/best_recall": 0.5})
        listen(20, 100, {"loss": 1.5})
        [task] = bar._progress.tasks
        assert task.fields["note"] == "loss 1.500, exam recall 0.250, best 0.500"
