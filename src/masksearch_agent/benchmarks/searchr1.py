"""Search-R1's training and test files (arXiv 2503.09516), as its `scripts/data_process` write them for verl.

A row holds a ready-made prompt and what a reward compares with: `{data_source, prompt: [{role, content}], reward_model:
{style, ground_truth: {target: […]}}, extra_info}`. The question is taken out of the prompt again, because the prompt of
an agent is our own protocol's; where the row has kept its `question`, that is taken.
"""

from __future__ import annotations

from masksearch_agent.benchmarks import (
    Benchmark,
    Row,
    as_list,
    expect,
    fact_titles,
    make_question,
    unpacked,
)
from masksearch_agent.errors import EvaluationError
from masksearch_agent.records import SearchTask, content_id
from masksearch_agent.text.values import as_text

__all__ = ("BENCHMARK",)

_MARK = "Question:"
"""What stands before the question at the end of a prompt of Search-R1's."""


def _task(row: Row) -> SearchTask:
    truth = expect(row["reward_model"], dict, "reward_model")["ground_truth"]
    target = truth["target"] if isinstance(truth, dict) else truth
    question, source = _question(row), str(row["data_source"])
    return make_question(
        # Rows of several datasets are written into one file, each numbered from 0.
        f"{source}-{as_text(row.get('id')).strip() or content_id(question)}",
        question,
        as_list(target),
        category=source,
        gold_titles=fact_titles(unpacked(row.get("metadata"))),
    )


def _question(row: Row) -> str:
    if isinstance(row.get("question"), str):
        return str(row["question"]).strip()
    told = [each for each in expect(row["prompt"], list, "prompt") if each.get("role") == "user"]
    if not told:
        raise EvaluationError("the prompt has no message of the user's")
    text = expect(told[-1]["content"], str, "content")
    return text.rpartition(_MARK)[2].strip()


BENCHMARK = Benchmark(keys=("data_source", "prompt", "reward_model"), task=_task)
