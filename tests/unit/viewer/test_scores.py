from __future__ import annotations

from typing import Any

import pytest
from fakes.run_report import cell, run_report

from masksearch_agent.viewer.scores import (
    comparisons_section,
    headline,
    headline_intervals,
    scores_section,
)


def test_the_headline_compares_final_with_untrained_on_two_hops() -> None:
    assert headline(run_report()) == "Recall on QA 2-hop went from 0.03 untrained to 0.62 final."
    expected = "95% intervals: 0.01–0.05 untrained, 0.53–0.71 final; 120 questions."
    assert headline_intervals(run_report()) == expected


@pytest.mark.parametrize(
    ("evals", "expected"),
    [
        ({}, "Nothing was evaluated in this run."),
        ({"untrained": {"ramp": cell(0.1, 0.0, 0.2, 9)}}, "Recall on RAMP is 0.10 for untrained."),
        ({"ramp_sft": {"qa_2hop": {"recall": 0.3}}}, "Recall on QA 2-hop is 0.30 for RAMP SFT."),
        (
            {"untrained": {"ramp": {"recall": 0.5}}, "ramp_sft": {"ramp": {"recall": 0.4}}},
            "Recall on RAMP went from 0.50 untrained to 0.40 RAMP SFT.",
        ),
    ],
)
def test_the_headline_makes_do_with_what_there_is(evals: dict[str, Any], expected: str) -> None:
    assert headline({"evals": evals}) == expected


def test_an_interval_that_is_unknown_is_not_stated() -> None:
    assert headline_intervals({"evals": {"final": {"ramp": {"recall": 0.5}}}}) == ""
    assert headline_intervals({}) == ""


def test_every_metric_of_a_cell_is_on_the_page() -> None:
    shown = scores_section({"evals": {"final": {"ramp": cell(0.71, 0.65, 0.77, 200)}}})
    for text in ("<b>0.71</b>", "± 0.06", "em 0.69", ">n = 200<"):
        assert text in shown
    for text in ("0.710", "0.650–0.770", "0.690", "0.645–0.765", "0.700", "–", "1.25", "41.5", "0.04"):
        assert f">{text}</td>" in shown


def test_bars_are_drawn_where_the_numbers_are() -> None:
    shown = scores_section(run_report())
    assert (
        'class="number score best" data-value="0.71" style="--low:0.6500;--mean:0.7100;--high:0.7700"'
        in shown
    )
    assert shown.count("score best") == 2


@pytest.mark.parametrize(
    ("low", "high", "verdict"), [(0.1, 0.3, "good"), (-0.3, -0.1, "bad"), (-0.1, 0.3, "even")]
)
def test_a_comparison_is_coloured_only_where_its_interval_excludes_zero(
    low: float, high: float, verdict: str
) -> None:
    entry = {"name": "a over b", "mean": (low + high) / 2, "low": low, "high": high, "n": 50}
    shown = comparisons_section({"comparisons": [entry]})
    assert f'class="forest {verdict}"' in shown
    assert f"{low:+.2f} to {high:+.2f}" in shown
    assert "n = 50" in shown


def test_differences_are_drawn_around_the_middle() -> None:
    entry = {"name": "a over b", "mean": 0.2, "low": 0.0, "high": 0.4}
    assert "--low:0.5000;--mean:0.7500;--high:1.0000" in comparisons_section({"comparisons": [entry]})
    none = {"name": "a over a", "mean": 0.0, "low": 0.0, "high": 0.0}
    assert "--low:0.5000;--mean:0.5000;--high:0.5000" in comparisons_section({"comparisons": [none]})
