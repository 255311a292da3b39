"""Questions of one's own: `{question, answer}`, where a list is one answer of several items, or `{question, answers}`.

Each of `answers` is accepted, and so is each alias of TriviaQA's `{value, aliases}`.
"""

from __future__ import annotations

from masksearch_agent.benchmarks import Benchmark, Row, answer_items, make_question
from masksearch_agent.errors import EvaluationError
from masksearch_agent.records import SearchTask, content_id

__all__ = ("BENCHMARK",)


def _task(row: Row) -> SearchTask:
    question = row["question"]
    task_id = row.get("id") or row.get("question_id") or content_id(question)
    category = str(row.get("category") or "")
    if "answers" not in row:
        answer = row["answer"]
        if isinstance(answer, dict) and isinstance(answer.get("aliases"), list):
            return make_question(
                task_id, question, (answer.get("value"), *answer["aliases"]), category=category
            )
        return make_question(
            task_id, question, [answer], category=category, answer_items=answer_items(answer)
        )
    if not isinstance(row["answers"], list):
        raise EvaluationError(f"answers is a {type(row['answers']).__name__}; expected a list")
    return make_question(task_id, question, row["answers"], category=category)


BENCHMARK = Benchmark(keys=("question",), one_of=("answer", "answers"), task=_task)
