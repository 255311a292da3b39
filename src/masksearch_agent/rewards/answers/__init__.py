"""Answer rewards, one module each: `REWARD` makes, of the settings, what scores a trajectory's answer.

Answers are compared as `text.matching` compares them, so reward, judge and evaluation agree.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from masksearch_agent.records import SearchTask, Trajectory

__all__ = ("AnswerReward",)

AnswerReward = Callable[[SearchTask, Trajectory], float | Awaitable[float]]
"""Scores a trajectory's answer, from 0 to 1. One that waits for something is an `async` function: hundreds are awaited
at once. Where it raises, or is no finite number, the rollout is unscorable."""
