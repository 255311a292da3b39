"""Our own `SearchTask` records: RAMP tasks and the questions of a closed world."""

from __future__ import annotations

from masksearch_agent.benchmarks import Benchmark, Row
from masksearch_agent.errors import EvaluationError
from masksearch_agent.jsonl import load_record
from masksearch_agent.records import SearchTask

__all__ = ("BENCHMARK",)


def _task(row: Row) -> SearchTask:
    return load_record(SearchTask, row, EvaluationError)


BENCHMARK = Benchmark(keys=("kind", "question", "answers"), task=_task)
