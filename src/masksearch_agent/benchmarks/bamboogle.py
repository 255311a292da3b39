"""Bamboogle (Press et al., arXiv 2210.03350), its table of questions; TriviaQA's published rows have its keys too."""

from __future__ import annotations

from masksearch_agent.benchmarks import Benchmark, Row, make_question, published_answers
from masksearch_agent.records import SearchTask, content_id

__all__ = ("BENCHMARK",)


def _task(row: Row) -> SearchTask:
    question = row["Question"]
    published = published_answers(row["Answer"])
    accepted = [row["Answer"]] if published is None else published
    # Bamboogle numbers no question.
    if number := row.get("QuestionId"):
        return make_question(number, question, accepted, category="triviaqa")
    return make_question(content_id(question), question, accepted, category="bamboogle")


BENCHMARK = Benchmark(keys=("Question", "Answer"), task=_task)
