"""The reward of a trajectory: `R = w_f · R_format + w_a · R_answer + R_length`.

The answer part is MaskSearch's (arXiv 2505.20285), the length part DAPO's (arXiv 2503.14476,
section 3.4). The parts are returned beside the total, so that each can be logged on its own.
"""

from __future__ import annotations

import inspect
import math
from dataclasses import dataclass
from typing import Any

from masksearch_agent.config.rewards import RewardSettings
from masksearch_agent.errors import RewardError
from masksearch_agent.plugins import REWARDS
from masksearch_agent.records import SearchTask, Trajectory
from masksearch_agent.rewards.answers import AnswerReward

__all__ = ("Reward", "RewardMix", "count_sampled_tokens", "format_reward", "overlong_penalty")


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
        """Return the reward of a trajectory over its task; raises what the answer reward raises.

        Raises:
            RewardError: The answer reward is no finite number.
        """
        settings = self.settings
        well_formed = format_reward(trajectory)
        scored = self.answer_reward(task, trajectory)
        answer = _finite(await scored if inspect.isawaitable(scored) else scored)
        most, length = settings.overlong_max_tokens, 0.0
        if most is not None:
            length = overlong_penalty(count_sampled_tokens(trajectory), most, settings.overlong_cache_tokens)
        total = settings.format_weight * well_formed + settings.answer_weight * answer + length
        return Reward(format=well_formed, answer=answer, length=length, total=total)


def _finite(scored: Any) -> float:
    """Return a score as Python's number: one that is none would make every weight of the model none."""
    try:
        number = float(scored)
    except (TypeError, ValueError):
        number = math.nan
    if not math.isfinite(number):
        raise RewardError(
            f"the answer reward returned {scored!r}; expected a number from 0 to 1. Raise an exception where an answer "
            f"cannot be scored"
        )
    return number


def format_reward(trajectory: Trajectory) -> float:
    """Return 1.0 where every step was well formed and the run ended in an answer, else 0.0.

    A repaired step counts as malformed: the policy should not need the repair. An answer that was forced when
    the search budget was spent is well formed.
    """
    has_answered = trajectory.stop_reason in {"answered", "forced"} and bool(trajectory.answer.strip())
    return float(has_answered and trajectory.format_errors == 0)


def count_sampled_tokens(trajectory: Trajectory) -> int:
    """Return how many tokens the policy sampled, whichever branch of the trace they stand in.

    The length reward reads these alone: retrieved text neither earns nor costs reward.
    """
    return sum(len(turn.sampled_ids) for turn in trajectory.turns if turn.role == "policy")


def overlong_penalty(sampled_tokens: int, max_tokens: int, cache_tokens: int) -> float:
    """Return DAPO's soft overlong punishment, from 0 to -1 (arXiv 2503.14476, equation 13).

    Args:
        max_tokens: The length at which the punishment reaches -1.
        cache_tokens: The punishment grows linearly over this many tokens before the maximum. With 0 it starts
            at -1 beyond the maximum.
    """
    free_tokens = max_tokens - cache_tokens
    if sampled_tokens <= free_tokens:
        return 0.0
    if sampled_tokens > max_tokens:
        return -1.0
    return (free_tokens - sampled_tokens) / cache_tokens
