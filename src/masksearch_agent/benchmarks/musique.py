"""MuSiQue (Trivedi et al., arXiv 2108.00573); rows marked unanswerable are left out."""

from __future__ import annotations

import re
from collections.abc import Iterator

from masksearch_agent.benchmarks import Benchmark, Row, expect, make_question
from masksearch_agent.records import Evidence, Hop, SearchTask
from masksearch_agent.text.values import as_text

__all__ = ("BENCHMARK",)

_EARLIER_ANSWER = re.compile(r"#(\d+)")


def _passages(row: Row) -> Iterator[tuple[str, str]]:
    for paragraph in expect(row["paragraphs"], list, "paragraphs"):
        entry: Row = expect(paragraph, dict, "a paragraph")
        yield as_text(entry.get("title")), expect(entry.get("paragraph_text"), str, "paragraph_text")


def _task(row: Row) -> SearchTask | None:
    if not row.get("answerable", True):
        return None
    supporting = [entry for entry in row["paragraphs"] if entry["is_supporting"]]
    return make_question(
        row["id"],
        row["question"],
        (row["answer"], *row["answer_aliases"]),
        category=row["id"].split("__")[0],
        gold_passages=_passages({"paragraphs": supporting}),
        hops=_hops(row["question_decomposition"]),
        evidence=tuple(_evidence(row)),
    )


def _evidence(row: Row) -> Iterator[Evidence]:
    """Yield the supporting paragraphs in the order of the steps that they answer."""
    by_index = {paragraph.get("idx", place): paragraph for place, paragraph in enumerate(row["paragraphs"])}
    places = dict.fromkeys(step.get("paragraph_support_idx") for step in row["question_decomposition"])
    for place in places:
        if (paragraph := by_index.get(place)) is not None:
            yield Evidence(as_text(paragraph["title"]), paragraph["paragraph_text"])


def _hops(steps: list[Row]) -> tuple[Hop, ...]:
    """Put the answers of earlier steps where a step refers to them as `#1`, `#2`, …"""
    answers = [str(step["answer"]) for step in steps]
    hops = []
    for step in steps:
        need = _EARLIER_ANSWER.sub(lambda reference: answers[int(reference[1]) - 1], step["question"])
        hops.append(Hop(need, need.replace(" >> ", " "), str(step["answer"])))
    return tuple(hops)


BENCHMARK = Benchmark(
    keys=("question", "paragraphs", "question_decomposition"),
    task=_task,
    passages=_passages,
    passage_keys=("paragraphs",),
)
