from __future__ import annotations

import re
from typing import Any

import pytest
from fakes.run_report import cell, sample

from masksearch_agent.viewer.breakdowns import draw_breakdown
from masksearch_agent.viewer.evaluation import render_evaluation
from masksearch_agent.viewer.questions import FIELDS, QuestionTable

ROW: dict[str, Any] = dict.fromkeys(FIELDS, "x") | {
    **{"grade": 2, "recall": 1.0, "gain": None, "judge": None, "em": 1.0, "gold_recall": None, "hops": None},
    **{"searches": 1, "tokens": 9, "seconds": 0.5},
}


def score(recall: float) -> dict[str, Any]:
    return cell(recall, recall, recall, 10)


def headings(*rows: dict[str, Any]) -> list[str]:
    table = QuestionTable()
    for row in rows:
        table.add(ROW | row, sample(""))
    return re.findall(r'data-field="(\w+)"', table.draw())


@pytest.mark.parametrize(
    ("evals", "expected"),
    [
        ({}, "Nothing was evaluated."),
        ({"agentic": {"qa_2hop": score(0.5)}}, "Recall on QA 2-hop is 0.50."),
        (
            {"agentic": {"qa": score(0.5)}, "rag-pe": {"qa": score(0.25)}},
            "Recall on QA: 0.50 agentic, 0.25 RAG-PE.",
        ),
        (
            {"agentic": {"a": score(0.5), "b": score(0.7)}, "rag": {"a": score(0.9)}},
            "Mean recall over 2 datasets is 0.60.",
        ),
        ({"agentic": {"a": score(0.5)}, "rag": {"b": score(0.9)}}, "2 datasets were evaluated."),
        ({name: {"qa": score(0.5)} for name in "abcd"}, "Recall on QA: 0.50 a, 0.50 d."),
    ],
)
def test_the_headline_says_what_can_be_compared(evals: dict[str, Any], expected: str) -> None:
    page = render_evaluation({"evals": evals}, QuestionTable())
    assert f'<p class="result">{expected}</p>'.replace("-", "\u2011") in page


def test_an_empty_report_has_a_page() -> None:
    assert "<h2>" not in render_evaluation({}, QuestionTable())


def test_dots_stand_at_their_scores_over_their_numbers() -> None:
    bins = [{"name": "1", "n": 4, "mean": 0.5, "low": 0.25, "high": 0.75}, {"name": "2", "n": 0}]
    drawn = draw_breakdown({"title": "By hops", "unit": "hops", "series": {"agentic": bins}})
    # The axis runs from 190 (recall 0) up to 12 (recall 1); the first of two bins is at a quarter of 48 to 428.
    assert '<circle class="dot" cx="143.0" cy="101.0" r="4">' in drawn
    assert '<line class="whisker" x1="143.0" x2="143.0" y1="145.5" y2="56.5">' in drawn
    assert drawn.count("<circle") == 1
    assert "<title>hops 1: 0.50 (95% 0.25 to 0.75), n = 4</title>" in drawn


def test_agents_over_one_number_stand_side_by_side() -> None:
    bins = [{"name": "1", "n": 4, "mean": 0.5, "low": 0.25, "high": 0.75}]
    drawn = draw_breakdown({"title": "By hops", "unit": "hops", "series": {"a": bins, "b": bins}})
    assert re.findall(r'<circle class="dot" cx="([\d.]+)"', drawn) == ["233.5", "242.5"]


def test_columns_that_tell_nothing_apart_are_left_out() -> None:
    always = ["question", "answer", "recall", "em", "searches", "tokens", "seconds", "stop"]
    assert headings({}, {}) == always
    shown = headings(
        {"gain": 0.0, "gold_recall": 0.5, "dataset": "a"}, {"dataset": "b", "judge": 1, "hops": 2}
    )
    assert set(shown) - set(always) == {"gain", "gold_recall", "dataset", "judge"}
    assert "hops" in headings({"hops": 1}, {"hops": 2})
