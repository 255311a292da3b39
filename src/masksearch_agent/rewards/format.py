"""The format reward."""

from __future__ import annotations

from masksearch_agent.records import Trajectory

__all__ = ("format_reward",)


def format_reward(trajectory: Trajectory) -> float:
    """Return 1.0 where every step was well formed and the run ended in an answer, else 0.0.

    A repaired step counts as malformed: the policy should not need the repair. An answer that was forced when
    the search budget was spent is well formed.
    """
    has_answered = trajectory.stop_reason in {"answered", "forced"} and bool(trajectory.answer.strip())
    return float(has_answered and trajectory.format_errors == 0)
