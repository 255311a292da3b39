"""How well an answer solves its task, and how much of what it needed was retrieved.

The token metrics are `matching`'s, shared with the judge and the rewards; here they become one score a task:
a question is scored on its whole answer, a RAMP task on the mean over its masks. Exact match and F1 are those of
HotpotQA (`hotpot_evaluate_v1.py`); MuSiQue's (`metrics/answer.py`) differ only for yes, no and blank answers.
"""

from __future__ import annotations

import html
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from masksearch_agent.benchmarks.fanoutqa import list_accuracy
from masksearch_agent.records import Passage, SearchTask
from masksearch_agent.text.matching import answer_exact, answer_recall, answer_slots, f1

__all__ = ("OwnMetric", "Scores", "retrieval_recall", "score_answer")

OwnMetric = Callable[[SearchTask, str], float | None]
"""A benchmark's score of an answer, from 0 to 1; None for a question that it does not apply to."""


@dataclass(frozen=True, slots=True)
class Scores:
    """The scores of one answer, each from 0 to 1."""

    recall: float
    em: float
    """Exact match: 1 where every part of the answer is exact."""
    f1: float
    loose: float | None = None
    """The benchmark's own metric; where it has none, FanoutQA's loose accuracy of lists, and None of other answers."""


def score_answer(task: SearchTask, answer: str, own: OwnMetric = list_accuracy) -> Scores:
    """Score an answer against what the task accepts, and by a benchmark's own metric.

    Raises:
        MissingExtraError: The task wants a list, and spaCy is not installed.
    """
    slots = answer_slots(task, answer)
    return Scores(
        recall=answer_recall(task, answer),
        em=answer_exact(task, answer),
        f1=sum(f1(part, golds) for part, golds in slots) / len(slots),
        loose=own(task, answer),
    )


def retrieval_recall(task: SearchTask, passages: Sequence[Passage]) -> float | None:
    """Return the share of a task's gold passages that were retrieved; None where the task names none.

    Gold passages are known by their ids or, where the benchmark only names pages, by their titles. The passage that
    a RAMP task was made from is withheld and counts as none, unless the task is open.
    """
    gold = set(task.gold_passage_ids) - (set() if task.is_open else {task.source_passage_id})
    # What an application's own store calls a document is a passage of ours, where it was filled with them.
    found = {name for passage in passages for name in (passage.id, passage.document_id)}
    if not gold:
        gold = {_title(title) for title in task.gold_titles}
        found = {_title(passage.title) for passage in passages}
    return len(gold & found) / len(gold) if gold else None


def _title(title: str) -> str:
    return " ".join(unicodedata.normalize("NFKC", html.unescape(title)).replace("_", " ").casefold().split())
