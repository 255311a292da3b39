from __future__ import annotations

import io

import pytest
from fakes.run_report import run_report, summary
from rich.console import Console

from masksearch_agent.reports.records import Score
from masksearch_agent.reports.terminal import scores_table
from masksearch_agent.reports.wording import best_recalls, duration, label


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("qa_2hop", "QA 2-hop"),
        ("ramp_dapo over ramp_sft, recall on qa_3hop", "RAMP DAPO over RAMP SFT, recall on QA 3-hop"),
        ("untrained", "untrained"),
        ("dragon_rag", "dragon RAG"),
        ("final", "agent"),
    ],
)
def test_names_are_written_for_readers(name: str, expected: str) -> None:
    assert label(name) == expected


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (0.0, "0.0 s"),
        (48.34, "48.3 s"),
        (60.0, "1 min 00 s"),
        (192.4, "3 min 12 s"),
        (3599.7, "1 h 00 min"),
        (7500.0, "2 h 05 min"),
    ],
)
def test_times_are_told_in_the_units_that_matter(seconds: float, expected: str) -> None:
    assert duration(seconds) == expected


def test_ties_are_all_best_and_nothing_is_where_all_failed() -> None:
    half, none = summary(0.5, 0.4, 0.6, 9), summary(0.0, 0.0, 0.0, 9)
    scores = [Score("a", "ramp", half), Score("b", "ramp", half), Score("a", "qa", none)]
    assert best_recalls(scores) == {"ramp": 0.5}


def test_the_terminal_table_shows_the_scores_and_takes_names_literally() -> None:
    scores = (*run_report().scores, Score("[mask] agent", "ramp", summary(0.33, 0.3, 0.36, 200)))
    console = Console(file=io.StringIO(), width=80, force_terminal=True, color_system="standard")
    console.print(scores_table(run_report(scores=scores)))
    assert isinstance(console.file, io.StringIO)
    shown = console.file.getvalue()
    for text in ("n = 200", "QA 2-hop", "0.05 ± 0.03", "[mask] agent"):
        assert text in shown
    assert "\x1b[1m0.71 ± 0.06" in shown
    assert "\x1b[1m0.05" not in shown
    assert scores_table(run_report(scores=())).row_count == 0
