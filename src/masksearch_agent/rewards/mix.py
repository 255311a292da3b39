"""The reward of a trajectory: `R = w_f · R_format + w_a · R_answer + R_length`.

The answer part is MaskSearch's (arXiv 2505.20285), the length part DAPO's (arXiv 2503.14476,
section 3.4). The parts are returned beside the total, so that each can be logged on its own.
"""

from __future__ import annotations

import inspect
from dataclasses import dataclass

from masksearch_agent.config.rewards import RewardSettings
from masksearch_agent.plugins import REWARDS
from masksearch_agent.records import SearchTask, Trajectory
from masksearch_agent.rewards.answers import AnswerReward
from masksearch_agent.rewards.format import format_reward
from masksearch_agent.rewards.length import count_sampled_tokens, overlong_penalty

__all__ = ("Reward", "RewardMix")


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
    """Scores trajectories; their answers by the reward that the settings name, unless another one is passed."""

    def __init__(self, settings: RewardSettings, answer_reward: AnswerReward | None = None) -> None:
        self.settings = settings
        self.answer_reward: AnswerReward = answer_reward or REWARDS.get(settings.answer)(settings)

    async def score(self, task: SearchTask, trajectory: Trajectory) -> Reward:
        """Return the reward of a trajectory over its task; raises what the answer reward raises."""
        settings = self.settings
        well_formed = format_reward(trajectory)
        scored = self.answer_reward(task, trajectory)
        answer = await scored if inspect.isawaitable(scored) else scored
        most, length = settings.overlong_max_tokens, 0.0
        if most is not None:
            length = overlong_penalty(count_sampled_tokens(trajectory), most, settings.overlong_cache_tokens)
        total = settings.format_weight * well_formed + settings.answer_weight * answer + length
        return Reward(format=well_formed, answer=answer, length=length, total=total)
