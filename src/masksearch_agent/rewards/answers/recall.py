"""Token recall of the answer; for RAMP over the masked spans only."""

from __future__ import annotations

from masksearch_agent.config.rewards import RewardSettings
from masksearch_agent.records import SearchTask, Trajectory
from masksearch_agent.rewards.answers import AnswerReward
from masksearch_agent.text.matching import answer_recall

__all__ = ("REWARD", "recall")


def recall(task: SearchTask, trajectory: Trajectory) -> float:
    """Return the token recall of the answer."""
    return answer_recall(task, trajectory.answer)


def REWARD(settings: RewardSettings) -> AnswerReward:
    """Return the reward."""
    return recall
