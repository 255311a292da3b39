"""FlashRAG's rows (`id, question, golden_answers`), to which it has brought many datasets."""

from __future__ import annotations

from masksearch_agent.benchmarks import Benchmark, Row, fact_titles, make_question, remark, unpacked
from masksearch_agent.errors import EvaluationError
from masksearch_agent.records import SearchTask

__all__ = ("BENCHMARK",)


def _task(row: Row) -> SearchTask:
    golden = row["golden_answers"]
    if not isinstance(golden, list):
        raise EvaluationError(f"golden_answers is a {type(golden).__name__}; expected a list")
    metadata = unpacked(row.get("metadata"))
    return make_question(
        row["id"],
        row["question"],
        golden,
        category=remark(metadata.get("type")),
        gold_titles=fact_titles(metadata),
    )


BENCHMARK = Benchmark(keys=("question", "golden_answers"), task=_task)
