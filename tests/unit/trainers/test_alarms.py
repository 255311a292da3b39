from __future__ import annotations

import math
from typing import Any

import pytest

from masksearch_agent.config.trainers import MonitorSettings
from masksearch_agent.trainers.alarms import find_alarms, find_standing

SETTINGS = MonitorSettings(tolerance=0.05, patience=2)


def exams(*scores: float, metric: str = "exam/recall") -> list[dict[str, Any]]:
    """Return a log with an exam every 10 steps, and a training entry after each."""
    entries = (
        [{metric: score, "step": 10 * at}, {"loss": 1.0, "step": 10 * at}] for at, score in enumerate(scores)
    )
    return [entry for pair in entries for entry in pair]


def steps(**metrics: Any) -> list[dict[str, Any]]:
    """Return a log of DAPO, from lists of values by metric."""
    rows = zip(*metrics.values(), strict=True)
    return [
        {
            "dapo/groups_sampled": 8,
            "dapo/groups_unscorable": 1,
            "dapo/trained_tokens": 9,
            "step": step,
            **dict(zip(metrics, row, strict=True)),
        }
        for step, row in enumerate(rows, start=1)
    ]


def test_an_exam_that_stays_below_its_best_is_told_with_its_numbers() -> None:
    [alarm] = find_alarms(exams(0.2, 0.5, 0.44, 0.43, 0.42), SETTINGS)
    assert (alarm.name, alarm.step) == ("exam", 30)
    assert alarm.text == (
        "step 30: exam recall is 0.430, more than 0.05 below its best (0.500 at step 10) in 2 exams in a row"
    )


@pytest.mark.parametrize(
    "scores",
    [
        (0.5, 0.46, 0.46, 0.46),  # within the tolerance
        (0.5, 0.4, 0.5, 0.4, 0.5),  # never twice in a row
        (0.0, 0.0, 0.0, 0.0),  # a plateau is no fall
        (0.5, 0.4),
        (),
    ],
)
def test_an_exam_that_does_not_fall_for_long_is_no_alarm(scores: tuple[float, ...]) -> None:
    assert find_alarms(exams(*scores), SETTINGS) == []


def test_a_fall_that_comes_again_is_told_again() -> None:
    log = exams(0.5, 0.1, 0.1, 0.1, 0.6, 0.1, 0.1)
    assert [alarm.step for alarm in find_alarms(log, SETTINGS)] == [20, 60]


def test_the_best_of_equal_scores_is_the_latest() -> None:
    assert find_standing([]) is None
    standing = find_standing(exams(0.1, 0.5, 0.5, 0.2))
    assert standing is not None
    assert (standing.step, standing.score, standing.best_step, standing.best_score) == (30, 0.2, 20, 0.5)


def test_right_answers_that_become_less_likely_are_told_before_the_score_falls() -> None:
    log = exams(-2.0, -1.0, -1.6, -1.8, metric="exam/answer_logprob")
    [alarm] = find_alarms(log, SETTINGS)
    assert (alarm.name, alarm.step) == ("likelihood", 30)
    assert "is -1.800" in alarm.text
    assert "(-1.000 at step 10)" in alarm.text


def test_entropy_that_vanished_for_five_steps_is_told_once() -> None:
    [alarm] = find_alarms(steps(entropy=[0.3, *[0.004] * 7]), SETTINGS)
    assert (alarm.name, alarm.step) == ("entropy", 6)
    assert "0.004 nats" in alarm.text
    assert find_alarms(steps(entropy=[0.004] * 4 + [0.02] + [0.004] * 4), SETTINGS) == []
    untrained = [{**entry, "dapo/trained_tokens": 0} for entry in steps(entropy=[0.0] * 9)]
    assert find_alarms(untrained, SETTINGS) == []


def test_low_entropy_of_supervised_training_is_no_alarm() -> None:
    assert find_alarms([{"entropy": 0.001, "step": step} for step in range(9)], SETTINGS) == []


def test_five_steps_without_a_right_rollout_are_told() -> None:
    [alarm] = find_alarms(steps(**{"dapo/groups_all_wrong": [7, 3, 7, 7, 7, 7, 7]}), SETTINGS)
    assert (alarm.name, alarm.step) == ("all_wrong", 7)
    assert "(7 groups in the last)" in alarm.text


@pytest.mark.parametrize(("metric", "value"), [("loss", math.nan), ("grad_norm", math.inf)])
def test_what_is_no_number_is_told_the_first_time(metric: str, value: float) -> None:
    log = [
        {"loss": 1.0, "grad_norm": None, "step": 1},
        {metric: value, "step": 2},
        {metric: value, "step": 3},
    ]
    [alarm] = find_alarms(log, SETTINGS)
    assert (alarm.name, alarm.text) == ("non_finite", f"step 2: {metric} is {value}")
