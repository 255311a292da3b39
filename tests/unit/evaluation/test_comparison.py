from __future__ import annotations

import dataclasses

import pytest

from masksearch_agent.errors import EvaluationError
from masksearch_agent.evaluation.comparison import compare
from masksearch_agent.evaluation.results import QuestionResult
from masksearch_agent.records import Trajectory


def result(number: int, recall: float, answer: str = "x", **changes: object) -> QuestionResult:
    made = QuestionResult(
        task_id=f"q{number}",
        question=f"Question {number}?",
        gold=("Ada",),
        answer=answer,
        recall=recall,
        em=0.0,
        f1=0.0,
        stop_reason="answered",
        searches=1,
        sampled_tokens=1,
        format_errors=0,
        gold_recall=None,
        hops=1,
        seconds=0.1,
        trajectory=Trajectory(f"{answer}{number}", f"q{number}", (), answer, "answered"),
    )
    return dataclasses.replace(made, **changes)  # type: ignore[arg-type]


def test_what_got_better_and_worse_is_listed_largest_change_first() -> None:
    before = [result(number, recall) for number, recall in enumerate((0.0, 0.5, 1.0, 0.5))]
    after = [
        result(number, recall, "y") for number, recall in reversed(list(enumerate((1.0, 0.75, 0.0, 0.5))))
    ]
    compared = compare(before, after)
    assert (compared.n, compared.before, compared.after) == (4, 0.5, 0.5625)
    assert [(change.task_id, change.gain) for change in compared.better] == [("q0", 1.0), ("q1", 0.25)]
    [worse] = compared.worse
    assert (worse.task_id, worse.answer_before, worse.answer_after) == ("q2", "x", "y")
    assert (worse.trajectory_before, worse.trajectory_after) == ("x2", "y2")
    assert compared.gain.mean == pytest.approx(0.0625)
    assert not compared.is_significant


def test_a_gain_on_every_question_is_no_chance() -> None:
    before = [result(number, number / 40) for number in range(30)]
    after = [result(number, number / 40 + 0.1) for number in range(30)]
    assert compare(before, after).is_significant
    assert compare(after, before).is_significant


def test_only_questions_of_both_runs_count() -> None:
    compared = compare([result(0, 1.0), result(1, 0.0)], [result(1, 1.0), result(2, 0.0), result(3, 0.0)])
    assert (compared.n, compared.after, compared.only_before, compared.only_after) == (1, 1.0, 1, 2)


def test_questions_without_the_score_are_left_out() -> None:
    before = [result(0, 0.0, is_correct=False), result(1, 0.0)]
    after = [result(0, 0.0, is_correct=True), result(1, 0.0, is_correct=True)]
    assert (compare(before, after, "judge").n, compare(before, after, "judge").gain.mean) == (1, 1.0)
    with pytest.raises(EvaluationError, match="no question with a loose score"):
        compare(before, after, "loose")


def test_runs_over_different_questions_are_refused() -> None:
    with pytest.raises(EvaluationError, match="different questions under the id 'q0'"):
        compare([result(0, 1.0)], [result(0, 1.0, question="Another?")])
