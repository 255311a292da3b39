"""The parts of the reward, each a pure function.

Answers are compared as `matching` compares them, so reward, judge and evaluation agree. The length part
reads the tokens that the policy sampled and nothing else: retrieved text can neither earn nor cost reward.
"""

from __future__ import annotations

from collections.abc import Callable

from masksearch_agent.records import SearchTask, Trajectory
from masksearch_agent.text.matching import (
    answer_exact,
    answer_recall,
    answer_slots,
    token_recall,
    tokenize_answer,
)

__all__ = (
    "AnswerReward",
    "count_sampled_tokens",
    "exact_match_reward",
    "format_reward",
    "overlong_penalty",
    "recall_reward",
    "recall_with_length_penalty",
)

AnswerReward = Callable[[SearchTask, Trajectory], float]
"""Scores a trajectory's answer, from 0 to 1."""


def format_reward(trajectory: Trajectory) -> float:
    """Return 1.0 where every step was well formed and the run ended in an answer, else 0.0.

    A repaired step counts as malformed: the policy should not need the repair. An answer that was forced when
    the search budget was spent is well formed.
    """
    has_answered = trajectory.stop_reason in {"answered", "forced"} and bool(trajectory.answer.strip())
    return float(has_answered and trajectory.format_errors == 0)


def recall_reward(task: SearchTask, trajectory: Trajectory) -> float:
    """Return the token recall of the answer; for RAMP over the masked spans only."""
    return answer_recall(task, trajectory.answer)


def recall_with_length_penalty(task: SearchTask, trajectory: Trajectory) -> float:
    """Return token recall, less where an answer is longer than gold.

    For a slot with prediction p and accepted answers g (lengths in tokens), averaged over the slots:

        max_g recall(p, g) · min(1, |g| / |p|)

    Up to the gold length this is recall. Beyond it, it is precision, so listing candidates does not pay: it
    is the penalty that MaskSearch (arXiv 2505.20285) found necessary, in a form without a knob.
    """
    slots = answer_slots(task, trajectory.answer)
    return sum(max(_penalised_recall(part, gold) for gold in golds) for part, golds in slots) / len(slots)


def exact_match_reward(task: SearchTask, trajectory: Trajectory) -> float:
    """Return 1.0 where every part of the answer is exactly right, else 0.0 (Search-R1, arXiv 2503.09516)."""
    return answer_exact(task, trajectory.answer)


def count_sampled_tokens(trajectory: Trajectory) -> int:
    """Return how many tokens the policy sampled, whichever branch of the trace they stand in."""
    return sum(len(turn.sampled_ids) for turn in trajectory.turns if turn.role == "policy")


def overlong_penalty(sampled_tokens: int, max_tokens: int, cache_tokens: int) -> float:
    """Return DAPO's soft overlong punishment, from 0 to -1 (arXiv 2503.14476, equation 13).

    Args:
        sampled_tokens: Tokens that the policy sampled.
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


def _penalised_recall(prediction: str, gold: str) -> float:
    said, expected = len(tokenize_answer(prediction)), len(tokenize_answer(gold))
    recall = token_recall(prediction, (gold,))
    return recall * expected / said if said > expected else recall
