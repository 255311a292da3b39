"""The reward of a trajectory: `R = w_f · R_format + w_a · R_answer + R_length`.

The answer part is MaskSearch's (arXiv 2505.20285), the length part DAPO's (arXiv 2503.14476,
section 3.4). The parts are returned beside the total, so that each can be logged on its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from masksearch_agent.config.rewards import RewardSettings
from masksearch_agent.records import SearchTask, Trajectory
from masksearch_agent.rewards.judge import load_judge
from masksearch_agent.rewards.parts import (
    AnswerReward,
    count_sampled_tokens,
    exact_match_reward,
    format_reward,
    overlong_penalty,
    recall_reward,
    recall_with_length_penalty,
)

__all__ = ("ANSWER_REWARDS", "Reward", "RewardMix")

ANSWER_REWARDS: Mapping[str, AnswerReward] = {
    "recall": recall_reward,
    "recall_with_length_penalty": recall_with_length_penalty,
    "exact_match": exact_match_reward,
}
"""The answer rewards that need no model."""


@dataclass(frozen=True, slots=True)
class Reward:
    """What a trajectory earned; the parts are unweighted."""

    format: float
    """0 or 1."""
    answer: float
    """0 to 1."""
    length: float
    """-1 to 0."""
    total: float
    """The weighted sum that training uses."""


class RewardMix:
    """Scores trajectories.

    Args:
        settings: Weights, answer reward and limits.
        answer_reward: Scores the answer; the one that `settings` names where None. Where it raises, the rollout is
            unscorable. It may block, and is called from several threads.
    """

    def __init__(self, settings: RewardSettings, answer_reward: AnswerReward | None = None) -> None:
        self.settings = settings
        self.answer_reward = answer_reward or _named_reward(settings)

    def __call__(self, task: SearchTask, trajectory: Trajectory) -> Reward:
        """Return the reward of a trajectory over its task."""
        settings = self.settings
        well_formed = format_reward(trajectory)
        answer = self.answer_reward(task, trajectory)
        length = 0.0
        if settings.overlong_max_tokens is not None:
            length = overlong_penalty(
                count_sampled_tokens(trajectory), settings.overlong_max_tokens, settings.overlong_cache_tokens
            )
        total = settings.format_weight * well_formed + settings.answer_weight * answer + length
        return Reward(format=well_formed, answer=answer, length=length, total=total)


def _named_reward(settings: RewardSettings) -> AnswerReward:
    if settings.answer == "judge" and settings.judge is not None:
        return load_judge(settings.judge)
    return ANSWER_REWARDS[settings.answer]
