"""Bamboogle (Press et al., arXiv 2210.03350), its table of questions."""

from __future__ import annotations

from masksearch_agent.benchmarks import Benchmark, Row, make_question
from masksearch_agent.records import SearchTask, content_id

__all__ = ("BENCHMARK",)


def _task(row: Row) -> SearchTask:
    question = row["Question"]
    return make_question(content_id(question), question, [str(row["Answer"])], category="bamboogle")


BENCHMARK = Benchmark(keys=("Question", "Answer"), task=_task)
