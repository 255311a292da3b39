"""Questions of one's own: `{question, answer}`, where a list is one answer of several items, or `{question, answers}`.

Each of `answers` is accepted.
"""

from __future__ import annotations

from masksearch_agent.benchmarks import Benchmark, Row, answer_items, flatten_answer, make_question
from masksearch_agent.errors import EvaluationError
from masksearch_agent.records import SearchTask, content_id

__all__ = ("BENCHMARK",)


def _task(row: Row) -> SearchTask:
    question = row["question"]
    task_id = row.get("id") or content_id(question)
    category = str(row.get("category") or "")
    if "answers" not in row:
        answer = row["answer"]
        accepted = [flatten_answer(answer)] if answer is not None else []
        return make_question(
            task_id, question, accepted, category=category, answer_items=answer_items(answer)
        )
    if not isinstance(row["answers"], list):
        raise EvaluationError(f"answers is a {type(row['answers']).__name__}; expected a list")
    return make_question(task_id, question, map(flatten_answer, row["answers"]), category=category)


BENCHMARK = Benchmark(keys=("question",), one_of=("answer", "answers"), task=_task)
