"""FlashRAG's rows (`id, question, golden_answers`), to which it has brought many datasets."""

from __future__ import annotations

from masksearch_agent.benchmarks import Benchmark, Row, make_question
from masksearch_agent.errors import EvaluationError
from masksearch_agent.records import SearchTask

__all__ = ("BENCHMARK",)


def _task(row: Row) -> SearchTask:
    golden = row["golden_answers"]
    if not isinstance(golden, list):
        raise EvaluationError(f"golden_answers is a {type(golden).__name__}; expected a list")
    metadata = row.get("metadata") or {}
    facts = metadata.get("supporting_facts") or {}
    titles = facts.get("title", ()) if isinstance(facts, dict) else ()
    return make_question(
        row["id"],
        row["question"],
        golden,
        category=str(metadata.get("type") or ""),
        gold_titles=tuple(dict.fromkeys(titles)),
    )


BENCHMARK = Benchmark(keys=("question", "golden_answers"), task=_task)
