from __future__ import annotations

import asyncio
import math
from typing import Any

import numpy as np
import pytest

from masksearch_agent.config.rewards import RewardSettings
from masksearch_agent.errors import RewardError
from masksearch_agent.records import SearchTask, Trajectory, Turn
from masksearch_agent.rewards.mix import Reward, RewardMix

TASK = SearchTask(id="q", kind="qa", question="Who?", answers=(("Ann Bo",),))
TURN = Turn("a", None, "policy", (), "text", (1,), tuple(range(90)), (-0.5,) * 90)


def trajectory(answer: str) -> Trajectory:
    return Trajectory("t", "q", (TURN,), answer, "answered")


async def test_the_total_is_the_weighted_sum_of_the_parts() -> None:
    settings = RewardSettings(
        format_weight=0.25, answer_weight=2.0, overlong_max_tokens=100, overlong_cache_tokens=20
    )
    assert await RewardMix(settings).score(TASK, trajectory("Ann")) == Reward(
        format=1.0, answer=0.5, length=-0.5, total=0.25 + 1.0 - 0.5
    )


async def test_length_costs_nothing_by_default() -> None:
    assert await RewardMix(RewardSettings()).score(TASK, trajectory("Ann Bo")) == Reward(1.0, 1.0, 0.0, 1.1)


async def test_settings_name_the_answer_reward() -> None:
    listed = trajectory("Ann Bo or Cy Do or Ed")
    for name, reward in {"recall": 1.0, "recall_with_length_penalty": 2 / 7, "exact_match": 0.0}.items():
        assert (await RewardMix(RewardSettings(answer=name)).score(TASK, listed)).answer == reward


async def test_a_judge_takes_the_place_of_the_answer_reward() -> None:
    def judge(task: SearchTask, trajectory: Trajectory) -> float:
        return float(trajectory.answer == "the engineer")

    async def slow_judge(task: SearchTask, trajectory: Trajectory) -> float:
        await asyncio.sleep(0)
        return judge(task, trajectory)

    for scores in (judge, slow_judge):
        reward = await RewardMix(RewardSettings(), scores).score(TASK, trajectory("the engineer"))
        assert (reward.answer, reward.total) == (1.0, 1.1)


@pytest.mark.parametrize("score", [np.float32(0.5), np.float64(0.5), np.array(0.5), 0.5])
async def test_a_score_of_another_library_is_the_number_that_it_says(score: Any) -> None:
    reward = await RewardMix(RewardSettings(), lambda task, trajectory: score).score(TASK, trajectory("Ann"))
    assert (reward.answer, reward.total) == (0.5, 0.6)
    assert {type(reward.answer), type(reward.total)} == {float}


@pytest.mark.parametrize("score", [True, np.bool_(True), 1])
async def test_a_verdict_is_a_score_of_1(score: Any) -> None:
    reward = await RewardMix(RewardSettings(), lambda task, trajectory: score).score(TASK, trajectory("Ann"))
    assert (reward.answer, type(reward.answer)) == (1.0, float)


@pytest.mark.parametrize("score", [math.nan, math.inf, -math.inf, None, "right", [1.0]])
async def test_a_score_that_is_no_finite_number_is_refused(score: Any) -> None:
    mix = RewardMix(RewardSettings(), lambda task, trajectory: score)
    with pytest.raises(RewardError, match=r"the answer reward returned .*; expected a number from 0 to 1"):
        await mix.score(TASK, trajectory("Ann"))
