"""A judge model's verdict: 1 for right, 0 for wrong.

MaskSearch (arXiv 2505.20285, section 3.3) found it better than token recall. Without a verdict the rollout cannot be
scored: it leaves its group, because a judge's failure says nothing about the policy.
"""

from __future__ import annotations

from masksearch_agent.config.rewards import RewardSettings
from masksearch_agent.errors import ReplyError, RewardError, ServiceError
from masksearch_agent.judging.judge import ModelJudge, open_judge
from masksearch_agent.records import SearchTask, Trajectory
from masksearch_agent.rewards.answers import AnswerReward

__all__ = ("REWARD", "reward_by")


def reward_by(judge: ModelJudge) -> AnswerReward:
    """Return the reward that a judge's verdicts give; it raises `RewardError` where there is none."""

    async def verdict(task: SearchTask, trajectory: Trajectory) -> float:
        try:
            judgement = await judge.judge(task, trajectory.answer)
        except (ReplyError, ServiceError) as failure:
            raise RewardError(
                f"the judge gave no verdict on trajectory {trajectory.id!r}: {failure}"
            ) from failure
        return float(judgement.verdict == "right")

    return verdict


def REWARD(settings: RewardSettings) -> AnswerReward:
    """Return the reward; opens the judge."""
    assert settings.judge is not None
    return reward_by(open_judge(settings.judge))
