"""All or nothing without a model (Search-R1, arXiv 2503.09516)."""

from __future__ import annotations

from masksearch_agent.config.rewards import RewardSettings
from masksearch_agent.records import SearchTask, Trajectory
from masksearch_agent.rewards.answers import AnswerReward
from masksearch_agent.text.matching import answer_exact

__all__ = ("REWARD", "exact_match")


def exact_match(task: SearchTask, trajectory: Trajectory) -> float:
    """Return 1.0 where every part of the answer is exactly right, else 0.0."""
    return answer_exact(task, trajectory.answer)


def REWARD(settings: RewardSettings) -> AnswerReward:
    """Return the reward."""
    return exact_match
