"""Results of an evaluation with trajectories to read, without an agent that made them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from masksearch_agent.agent.escaping import neutralise
from masksearch_agent.evaluation.results import QuestionResult
from masksearch_agent.jsonl import write_jsonl
from masksearch_agent.records import Message, Trajectory, Turn, content_id


def result(task_id: str, recall: float, **changes: Any) -> QuestionResult:
    """Return a result whose trajectory searched once and read one passage."""
    question = changes.pop("question", f"Who built {task_id}?")
    answer = changes.pop("answer", "Ann Bo" if recall else "Cy Do")
    passage = changes.pop("passage", f"{task_id} was built by Ann Bo.")
    information = f"<information>\n[1] {task_id}: {neutralise(passage)}\n</information>"
    turns = (
        Turn(
            "first", None, "policy",
            (Message("system", "Search until you know."), Message("user", neutralise(question))),
            f"<think>I need the builder of {task_id}.</think><search>builder of {task_id}</search>",
            (1, 2), (3,), (-0.5,),
        ),
        Turn(
            "second", "first", "policy", (Message("user", information),),
            f"<think>Read.</think><answer>{answer}</answer>",
        ),
    )  # fmt: skip
    trajectory = Trajectory(content_id(task_id), task_id, turns, answer, "answered", producer="model#1")
    values: dict[str, Any] = {
        **{
            "gold": ("Ann Bo",),
            "em": float(recall == 1),
            "f1": recall,
            "stop_reason": "answered",
            "searches": 1,
        },
        **{"sampled_tokens": 12, "format_errors": 0, "gold_recall": 0.5, "hops": 1, "seconds": 0.25},
        "trajectory": trajectory,
    }
    return QuestionResult(
        task_id=task_id, question=question, answer=answer, recall=recall, **(values | changes)
    )


def write_results(folder: Path, name: str, *results: QuestionResult) -> Path:
    """Write results as `masksearch eval --out` does, and return the file."""
    path = folder / f"{name}.jsonl"
    write_jsonl(path, results)
    return path
