"""Questions of one's own: `{question, answer}`, where a list is one answer of several items, or `{question, answers}`.

Each of `answers` is accepted, and so is each of the row's `aliases` and of what `published_answers` knows.
"""

from __future__ import annotations

from masksearch_agent.benchmarks import (
    Benchmark,
    Row,
    answer_items,
    as_list,
    make_question,
    published_answers,
)
from masksearch_agent.errors import EvaluationError
from masksearch_agent.records import SearchTask
from masksearch_agent.text.values import as_text

__all__ = ("BENCHMARK",)


def _task(row: Row) -> SearchTask:
    question = row["question"]
    task_id = as_text(row.get("id")).strip() or row.get("question_id")
    category = str(row.get("category") or "")
    answer = row["answers"] if "answers" in row else row["answer"]
    aliases = as_list(row.get("aliases"))
    published = published_answers(answer)
    if published is not None:
        return make_question(task_id, question, [*published, *aliases], category=category)
    if "answers" not in row:
        items = answer_items(answer)
        return make_question(task_id, question, [answer, *aliases], category=category, answer_items=items)
    if not isinstance(answer, list):
        raise EvaluationError(f"answers is a {type(answer).__name__}; expected a list")
    return make_question(task_id, question, [*answer, *aliases], category=category)


BENCHMARK = Benchmark(keys=("question",), one_of=("answer", "answers"), task=_task)
