"""What a set of RAMP tasks is like: how many masks, which facts, how long, how hard to look up."""

from __future__ import annotations

import re
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import islice, pairwise

from masksearch_agent.errors import TaskError
from masksearch_agent.records import SearchTask
from masksearch_agent.retrieval.leak_guard import LeakGuard
from masksearch_agent.retrieval.search import Search
from masksearch_agent.text.matching import contains_phrase
from masksearch_agent.text.words import count_words, is_chinese

__all__ = ("describe_tasks", "fact_form")

_DATE = re.compile(
    r"\b(?:jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)[a-z]*\.?\s\d|\d\s(?:january|february|march|april|may"
    r"|june|july|august|september|october|november|december)\b|\d年|\d月\d",
    re.IGNORECASE,
)
_YEAR = re.compile(r"\d{4}s?")
_LENGTHS = (20, 40, 60, 80, 100, 150, 200)
_RANKS = (1, 3, 10)
_MEASURED = 200
"""Tasks whose masks are looked up."""


def describe_tasks(
    tasks: Iterable[SearchTask], search: Search | None = None
) -> Mapping[str, Mapping[str, int]]:
    """Count RAMP tasks by mask count and passage length, and their masks by form, length and difficulty.

    A search over the corpus adds `lookup rank`, the place at which the query of each mask's hop finds the mask's answer
    elsewhere than in the source, for the first 200 tasks. Tasks of other kinds are left out.

    Returns:
        One distribution per name, in the order of its values.

    Raises:
        TaskError: If there is no RAMP task.
    """
    chosen = [task for task in tasks if task.is_made_from_passage]
    if not chosen:
        raise TaskError("there is no RAMP task to inspect; build some with `masksearch ramp`")
    facts = [answers[0] for task in chosen for answers in task.answers]
    found = {
        "masks": _ordered(Counter(task.mask_count for task in chosen)),
        "facts by form": dict(Counter(map(fact_form, facts)).most_common()),
        "words of a fact": _ordered(Counter(map(count_words, facts))),
        "words of a passage": _in_steps([count_words(task.question) for task in chosen], _LENGTHS, "more"),
    }
    if search is not None:
        ranks = [rank for task in islice(chosen, _MEASURED) for rank in _lookup_ranks(task, search)]
        found["lookup rank"] = _in_steps(ranks, _RANKS, "not found")
    return found


def fact_form(fact: str) -> str:
    """Return what a fact looks like: `year`, `date`, `number`, `Chinese words`, `name` or `words`."""
    if _YEAR.fullmatch(fact):
        return "year"
    if _DATE.search(fact):
        return "date"
    if re.search(r"\d", fact):
        return "number"
    if is_chinese(fact):
        return "Chinese words"
    return "name" if any(word[:1].isupper() for word in fact.split()) else "words"


def _lookup_ranks(task: SearchTask, search: Search) -> list[int]:
    results = search.search([hop.query for hop in task.hops], _RANKS[-1], guard=LeakGuard.for_task(task))
    ranks = []
    for hop, hits in zip(task.hops, results, strict=True):
        texts = [f"{hit.passage.title}\n{hit.passage.text}" for hit in hits]
        found = (rank for rank, text in enumerate(texts, start=1) if contains_phrase(text, hop.answer))
        ranks.append(next(found, _RANKS[-1] + 1))
    return ranks


def _ordered(counts: Counter[int]) -> dict[str, int]:
    return {str(value): counts[value] for value in sorted(counts)}


def _in_steps(values: Sequence[int], steps: Sequence[int], beyond: str) -> dict[str, int]:
    """Count values up to each step, and those beyond the last one."""
    labels = [
        str(last) if last == before + 1 else f"{before + 1}–{last}" for before, last in pairwise((0, *steps))
    ]
    found = Counter(bisect_left(steps, value) for value in values)
    return {label: found[number] for number, label in enumerate([*labels, beyond])}
