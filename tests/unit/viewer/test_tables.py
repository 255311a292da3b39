from __future__ import annotations

import io
from typing import Any

import pytest
from fakes.run_report import cell, run_report
from rich.console import Console

from masksearch_agent.viewer.tables import evals_markdown, evals_table, label


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("qa_2hop", "QA 2-hop"),
        ("ramp_dapo over ramp_sft, recall on qa_3hop", "RAMP DAPO over RAMP SFT, recall on QA 3-hop"),
        ("untrained", "untrained"),
        ("dragon_rag", "dragon RAG"),
    ],
)
def test_names_are_written_for_readers(name: str, expected: str) -> None:
    assert label(name) == expected


def test_markdown_has_a_row_for_each_agent_with_the_best_bold() -> None:
    assert evals_markdown(run_report()) == (
        "| agent | RAMP, n = 200 | QA 2-hop, n = 120 |\n"
        "| --- | ---: | ---: |\n"
        "| untrained | 0.05 ± 0.03 | 0.03 ± 0.02 |\n"
        "| final | **0.71 ± 0.06** | **0.62 ± 0.09** |\n"
    )


def test_a_missing_cell_or_interval_leaves_a_gap_and_not_an_error() -> None:
    evals: dict[str, Any] = {
        "a|b": {"ramp": {"recall": 0.5}},
        "c": {"ramp": cell(0.0, 0.0, 0.0, 5), "qa": {"recall": 0.0}},
    }
    assert evals_markdown({"evals": evals}) == (
        "| agent | RAMP | QA |\n| --- | ---: | ---: |\n| a\\|b | **0.50** | – |\n| c | 0.00 ± 0.00 | 0.00 |\n"
    )


def test_ties_are_all_best() -> None:
    evals = {"a": {"ramp": {"recall": 0.5}}, "b": {"ramp": {"recall": 0.5}}}
    assert evals_markdown({"evals": evals}).count("**0.50**") == 2


def test_no_evals_make_an_empty_table() -> None:
    assert evals_markdown({}) == "| agent |\n| --- |\n"
    assert evals_table({}).row_count == 0


def test_terminal_table_shows_the_scores_and_takes_names_literally() -> None:
    evals = run_report()["evals"] | {"[mask] agent": {"ramp": {"recall": 0.33, "n": 200}}}
    console = Console(file=io.StringIO(), width=80, force_terminal=True, color_system="standard")
    console.print(evals_table({"evals": evals}))
    assert isinstance(console.file, io.StringIO)
    shown = console.file.getvalue()
    for text in ("n = 200", "QA 2-hop", "0.05 ± 0.03", "[mask] agent"):
        assert text in shown
    assert "\x1b[1m0.71 ± 0.06" in shown
    assert "\x1b[1m0.05" not in shown
