from __future__ import annotations

import pytest

from masksearch_agent.evaluation.metrics import Scores, exact_match, f1, score_answer, token_recall
from masksearch_agent.records import SearchTask


def test_a_question_gets_the_scores_of_its_answer() -> None:
    task = SearchTask(id="q", kind="qa", question="Who?", answers=(("Ann Maria Bo", "Ann Bo"),))
    assert score_answer(task, "Ann Bo") == Scores(recall=1.0, em=1.0, f1=1.0)
    wordy = "it was Ann Bo"
    assert score_answer(task, wordy) == Scores(recall=1.0, em=0.0, f1=pytest.approx(2 / 3))
    assert score_answer(task, wordy).f1 == f1(wordy, task.answers[0])


def test_a_masked_passage_gets_the_mean_over_its_masks() -> None:
    question = "Orly: The harbour of Orly was built in [mask] by [mask] for the navy."
    task = SearchTask(id="r", kind="ramp", question=question, answers=(("1923",), ("Ann Bo",)))
    scores = score_answer(task, "1923\nAnn")
    assert scores == Scores(recall=0.75, em=0.0, f1=pytest.approx((1 + 2 / 3) / 2))
    assert score_answer(task, "The harbour of Orly was built in 1923 by Ann Bo for the navy.").em == 1.0


def test_the_token_metrics_are_those_of_training() -> None:
    assert (token_recall("Ann", ["Ann Bo"]), exact_match("ann bo.", ["Ann Bo"]), f1("x", ["y"])) == (
        0.5,
        1.0,
        0.0,
    )
