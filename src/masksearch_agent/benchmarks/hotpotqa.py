"""HotpotQA (Yang et al., arXiv 1809.09600), distractor and fullwiki, as published and as the hub stores it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from masksearch_agent.benchmarks import Benchmark, Row, expect, make_question
from masksearch_agent.errors import CorpusError
from masksearch_agent.records import Evidence, Hop, SearchTask

__all__ = ("BENCHMARK", "read_task")


def read_task(row: Row, hops: tuple[Hop, ...] = ()) -> SearchTask:
    """Return a row's question; `answer_aliases` of the row are accepted too."""
    facts = _pairs(row["supporting_facts"], "supporting_facts", "title", "sent_id")
    titles = tuple(dict.fromkeys(title for title, _ in facts))
    shipped = list(_passages(row))
    # In the fullwiki setting the context is what a retriever found, without some of the gold pages.
    is_complete = {title for title, _ in shipped} >= set(titles)
    return make_question(
        row["_id"] if "_id" in row else row["id"],
        row["question"],
        (row["answer"], *row.get("answer_aliases", ())),
        category=row["type"],
        gold_passages=[(title, text) for title, text in shipped if is_complete and title in titles],
        gold_titles=() if is_complete else titles,
        hops=hops,
        evidence=tuple(_evidence(row, facts)),
    )


def _evidence(row: Row, facts: list[Any]) -> Iterator[Evidence]:
    """Yield what the supporting sentences of each title say; a number that no sentence has is a fault of the data."""
    context = dict(_pairs(row["context"], "context", "title", "sentences"))
    for title in dict.fromkeys(title for title, _ in facts):
        sentences = context.get(title, [])
        chosen = [
            sentences[number].strip() for name, number in facts if name == title and number < len(sentences)
        ]
        if any(chosen):
            yield Evidence(title, " ".join(filter(None, chosen)))


def _passages(row: Row) -> Iterator[tuple[str, str]]:
    for entry in _pairs(row["context"], "context", "title", "sentences"):
        if not isinstance(entry, list) or len(entry) != 2:
            raise CorpusError("an entry of context is not [title, [sentences]]")
        sentences = [expect(each, str, "a sentence").strip() for each in expect(entry[1], list, "sentences")]
        yield expect(entry[0], str, "a title in context"), " ".join(filter(None, sentences))


def _pairs(value: Any, what: str, first: str, second: str) -> list[Any]:
    """Return `[first, second]` pairs; the hub stores both as columns, or the whole as JSON text."""
    if isinstance(value, str):
        value = json.loads(value)
    if isinstance(value, dict):
        return [list(pair) for pair in zip(value[first], value[second], strict=True)]
    return expect(value, list, what)


BENCHMARK = Benchmark(
    keys=("question", "supporting_facts", "context"),
    task=read_task,
    passages=_passages,
    passage_keys=("context",),
)
