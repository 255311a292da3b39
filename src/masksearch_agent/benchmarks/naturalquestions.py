"""Natural Questions with the paragraph that answers each (`id, question, answers, title, passage`)."""

from __future__ import annotations

from masksearch_agent.benchmarks import Benchmark, Row, expect, make_question
from masksearch_agent.records import Evidence, SearchTask
from masksearch_agent.text.values import as_text

__all__ = ("BENCHMARK",)


def _passages(row: Row) -> list[tuple[str, str]]:
    return [(as_text(row["title"]), expect(row["passage"], str, "passage"))]


def _task(row: Row) -> SearchTask:
    answers = expect(row["answers"], list, "answers")
    [(title, text)] = _passages(row)
    evidence = (Evidence(title, text),)
    return make_question(
        row["id"], row["question"], answers, gold_passages=[(title, text)], evidence=evidence
    )


BENCHMARK = Benchmark(keys=("question", "answers", "title", "passage"), task=_task, passages=_passages)
