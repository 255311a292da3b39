"""How well an answer solves its task.

The token metrics are `matching`'s, shared with the judge and the rewards; here they become one score a task:
a question is scored on its whole answer, a RAMP task on the mean over its masks.
"""

from __future__ import annotations

from dataclasses import dataclass

from masksearch_agent.matching import (
    answer_exact,
    answer_recall,
    answer_slots,
    exact_match,
    f1,
    token_recall,
)
from masksearch_agent.records import SearchTask

__all__ = ("Scores", "exact_match", "f1", "score_answer", "token_recall")


@dataclass(frozen=True, slots=True)
class Scores:
    """The scores of one answer, each from 0 to 1."""

    recall: float
    em: float
    """Exact match: 1 where every part of the answer is exact."""
    f1: float


def score_answer(task: SearchTask, answer: str) -> Scores:
    """Score an answer against what the task accepts."""
    slots = answer_slots(task, answer)
    return Scores(
        recall=answer_recall(task, answer),
        em=answer_exact(task, answer),
        f1=sum(f1(part, golds) for part, golds in slots) / len(slots),
    )
