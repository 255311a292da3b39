"""The length reward. It reads the tokens that the policy sampled: retrieved text neither earns nor costs reward."""

from __future__ import annotations

from masksearch_agent.records import Trajectory

__all__ = ("count_sampled_tokens", "overlong_penalty")


def count_sampled_tokens(trajectory: Trajectory) -> int:
    """Return how many tokens the policy sampled, whichever branch of the trace they stand in."""
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
