from __future__ import annotations

from typing import get_args

import pytest

from masksearch_agent.records import Message, SearchTask, StopReason, Trajectory, Turn
from masksearch_agent.rewards.answers.exact_match import exact_match
from masksearch_agent.rewards.answers.recall import recall
from masksearch_agent.rewards.answers.recall_with_length_penalty import recall_with_length_penalty
from masksearch_agent.rewards.mix import count_sampled_tokens, format_reward, overlong_penalty

QA = SearchTask(id="q", kind="qa", question="Who?", answers=(("Ann Maria Bo", "Ann Bo"),))
RAMP = SearchTask(
    id="r",
    kind="ramp",
    question="Orly: The harbour of Orly was built in [mask] by [mask] for the navy.",
    answers=(("1923",), ("Ann Bo",)),
)


def trajectory(
    answer: str = "Ann Bo",
    stop_reason: StopReason = "answered",
    format_errors: int = 0,
    turns: tuple[Turn, ...] = (),
) -> Trajectory:
    return Trajectory("t", "q", turns, answer, stop_reason, format_errors=format_errors)


def turn(name: str, role: str, sampled: int, parent: str | None = None) -> Turn:
    context = (Message("user", "text " * 100),)
    ids = tuple(range(sampled))
    return Turn(name, parent, role, context, "text", (1,) * 500, ids, (-0.5,) * sampled)


@pytest.mark.parametrize("stop_reason", get_args(StopReason))
def test_format_is_rewarded_only_where_the_run_ended_in_an_answer(stop_reason: StopReason) -> None:
    expected = 1.0 if stop_reason in {"answered", "forced"} else 0.0
    assert format_reward(trajectory(stop_reason=stop_reason)) == expected


def test_one_malformed_step_or_an_empty_answer_loses_the_format_reward() -> None:
    assert format_reward(trajectory(format_errors=1)) == 0.0
    assert format_reward(trajectory(answer=" \n")) == 0.0


def test_recall_is_over_the_masked_spans_only() -> None:
    passage = "The harbour of Orly was built in 1923 by Jo Bo for the navy."
    assert recall(RAMP, trajectory(passage)) == 0.75
    assert recall(RAMP, trajectory(RAMP.question)) == 0.0


@pytest.mark.parametrize(
    ("answer", "reward"),
    [
        ("Ann Bo", 1.0),
        ("Ann Maria Bo", 1.0),
        ("Ann", 1 / 2),
        ("Ann Bo or Cy Do", 2 / 5),
        ("Cy Do", 0.0),
        ("", 0.0),
    ],
)
def test_penalised_recall_is_recall_up_to_gold_length_and_precision_beyond(
    answer: str, reward: float
) -> None:
    assert recall_with_length_penalty(QA, trajectory(answer)) == pytest.approx(reward)


def test_the_length_penalty_applies_to_each_fill() -> None:
    assert recall_with_length_penalty(RAMP, trajectory("1923\nAnn Bo and Cy Do")) == pytest.approx(
        (1 + 2 / 5) / 2
    )
    assert recall_with_length_penalty(RAMP, trajectory("1921 1922 1923 1924\nAnn Bo")) == pytest.approx(
        (1 / 4 + 1) / 2
    )


def test_only_tokens_that_the_policy_sampled_are_counted() -> None:
    turns = (turn("a", "policy", 5), turn("j", "judge", 50, "a"), turn("b", "policy", 7, "a"))
    assert count_sampled_tokens(trajectory(turns=turns)) == 12


@pytest.mark.parametrize(
    ("sampled_tokens", "penalty"), [(0, 0.0), (80, 0.0), (85, -0.25), (90, -0.5), (100, -1.0), (101, -1.0)]
)
def test_overlong_penalty_is_that_of_dapo(sampled_tokens: int, penalty: float) -> None:
    assert overlong_penalty(sampled_tokens, max_tokens=100, cache_tokens=20) == penalty


def test_without_a_cache_the_penalty_is_a_step() -> None:
    assert overlong_penalty(100, max_tokens=100, cache_tokens=0) == 0.0
    assert overlong_penalty(101, max_tokens=100, cache_tokens=0) == -1.0


@pytest.mark.parametrize(
    ("answer", "reward"), [("1923\nAnn Bo", 1.0), ("1923\nAnn Bo Cy", 0.0), ("1923", 0.0), ("", 0.0)]
)
def test_an_exact_match_is_all_or_nothing(answer: str, reward: float) -> None:
    assert exact_match(RAMP, trajectory(answer)) == reward
