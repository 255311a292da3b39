from __future__ import annotations

import asyncio

from masksearch_agent.config.rewards import RewardSettings
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
