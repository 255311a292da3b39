"""From a question and what came of asking it to its result, also when the answer was given in an earlier run."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from masksearch_agent.evaluation.metrics import OwnMetric, retrieval_recall, score_answer
from masksearch_agent.evaluation.results import QuestionResult
from masksearch_agent.records import Passage, SearchTask, Trajectory, Usage, content_id

__all__ = ("score_again", "score_failure", "score_run")


def score_run(task: SearchTask, trajectory: Trajectory, usage: Usage, own: OwnMetric) -> QuestionResult:
    """Return the result of a question that was answered; `own` is the benchmark's own metric."""
    return QuestionResult(
        task_id=task.id,
        question=task.question,
        answer=trajectory.answer,
        stop_reason=trajectory.stop_reason,
        searches=len(trajectory.queries),
        sampled_tokens=usage.sampled_tokens,
        format_errors=trajectory.format_errors,
        seconds=usage.seconds,
        trajectory=trajectory,
        prompt_tokens=usage.prompt_tokens,
        **_by_task(task, trajectory.answer, own),
        gold_recall=retrieval_recall(task, _retrieved(trajectory)),
    )


def score_failure(task: SearchTask, reason: str, own: OwnMetric) -> QuestionResult:
    """Return the result of a question that could not be answered: wrong."""
    return QuestionResult(
        task_id=task.id,
        question=task.question,
        answer="",
        stop_reason="failed",
        searches=0,
        sampled_tokens=0,
        format_errors=0,
        seconds=0.0,
        **(_by_task(task, "", own) | {"recall": 0.0, "em": 0.0, "f1": 0.0}),
        gold_recall=retrieval_recall(task, []),
        failure=reason,
    )


def score_again(kept: QuestionResult, task: SearchTask, own: OwnMetric) -> QuestionResult:
    """Return a result of an earlier run with the scores that its answer has by the task as it is now.

    The judge's verdict is dropped where other answers were accepted when it was given.
    """
    if kept.failure:
        return dataclasses.replace(score_failure(task, kept.failure, own), is_correct=kept.is_correct)
    scores = _by_task(task, kept.answer, own)
    compared = ("accepted_id",) if kept.accepted_id else ("gold", "recall", "em", "f1")
    if any(getattr(kept, name) != scores[name] for name in compared):
        scores |= {"is_correct": None, "judge_failure": ""}
    if kept.trajectory is not None:
        scores["gold_recall"] = retrieval_recall(task, _retrieved(kept.trajectory))
    return dataclasses.replace(kept, **scores)


def _by_task(task: SearchTask, answer: str, own: OwnMetric) -> dict[str, Any]:
    """Return the fields of a result that the task decides, besides what was retrieved."""
    scores = score_answer(task, answer, own)
    return {
        "gold": tuple(slot[0] for slot in task.answers),
        "accepted_id": content_id(task.answers),
        "recall": scores.recall,
        "em": scores.em,
        "f1": scores.f1,
        "loose": scores.loose,
        "hops": task.hop_count,
        "category": task.category,
    }


def _retrieved(trajectory: Trajectory) -> Sequence[Passage]:
    return [passage for shown in trajectory.retrieved for passage in shown]
