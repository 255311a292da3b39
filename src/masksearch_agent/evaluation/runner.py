"""Runs an agent over tasks and scores every answer; resumable question by question.

Two ways to answer: `agentic` runs the search graph; `rag` is the paper's RAG-PE baseline, which retrieves once
with the question itself and then has the same model answer, with no search of its own.
"""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from langchain_core.messages import HumanMessage

from masksearch_agent.agent.escaping import neutralise
from masksearch_agent.agent.protocol import render_information
from masksearch_agent.agent.runnable import MaskSearchAgent
from masksearch_agent.agent.state import RunContext
from masksearch_agent.config.evaluation import EvaluationSettings
from masksearch_agent.errors import EvaluationError
from masksearch_agent.evaluation.intervals import Interval, bootstrap_mean
from masksearch_agent.evaluation.metrics import score_answer
from masksearch_agent.records import SearchTask, Trajectory, dump_record, read_jsonl
from masksearch_agent.retrieval.leak_guard import LeakGuard
from masksearch_agent.retrieval.search import interleave
from masksearch_agent.traces.recorder import Recorder

__all__ = ("EvaluationSummary", "Mode", "QuestionResult", "evaluate", "summarise")

Mode = Literal["agentic", "rag"]


@dataclass(frozen=True, slots=True)
class QuestionResult:
    """One question's answer and scores."""

    task_id: str
    question: str
    gold: tuple[str, ...]
    """The first accepted answer of each slot."""
    answer: str
    recall: float
    em: float
    f1: float
    stop_reason: str
    searches: int
    sampled_tokens: int
    format_errors: int
    gold_recall: float | None
    """Share of the gold passages that were retrieved; None where unknown."""
    hops: int
    seconds: float
    trajectory: Trajectory | None = None


@dataclass(frozen=True, slots=True)
class EvaluationSummary:
    """Scores over a set of questions."""

    recall: float
    em: float
    f1: float
    n: int
    ci95: tuple[float, float]
    """95% bootstrap interval of the mean recall."""
    em_ci95: tuple[float, float]
    gold_recall: float | None
    searches: float
    sampled_tokens: float
    format_errors: float


def evaluate(
    agent: MaskSearchAgent,
    tasks: Sequence[SearchTask],
    settings: EvaluationSettings | None = None,
    mode: Mode = "agentic",
    results_path: Path | None = None,
    on_result: Callable[[QuestionResult], None] | None = None,
) -> list[QuestionResult]:
    """Answer every task and score it.

    Args:
        agent: What is evaluated; its model decodes as it is set up (greedy by default).
        tasks: RAMP tasks are run under their leak guard.
        settings: Concurrency and limit.
        mode: `agentic`, or the `rag` baseline.
        results_path: JSON-lines file that receives each result at once; results already in it are kept and
            their questions not asked again.
        on_result: Called after each new result.

    Returns:
        One result per task, in the order of the tasks.

    Raises:
        EvaluationError: There are no tasks, or the results kept in `results_path` are another model's.
    """
    settings = settings or EvaluationSettings()
    tasks = list(tasks)[: settings.limit]
    if not tasks:
        raise EvaluationError("there are no questions to evaluate")
    done = _read_results(results_path, agent.model_version)
    pending = [task for task in tasks if task.id not in done]
    fresh = asyncio.run(_evaluate_all(agent, pending, settings, mode, results_path, on_result))
    done |= {result.task_id: result for result in fresh}
    return [done[task.id] for task in tasks]


def summarise(
    results: Sequence[QuestionResult], settings: EvaluationSettings | None = None
) -> EvaluationSummary:
    """Average the results, with bootstrap intervals."""
    settings = settings or EvaluationSettings()

    def interval(values: Sequence[float]) -> Interval:
        return bootstrap_mean(values, seed=settings.seed, samples=settings.bootstrap_samples)

    recall = interval([result.recall for result in results])
    em = interval([result.em for result in results])
    known = [result.gold_recall for result in results if result.gold_recall is not None]
    return EvaluationSummary(
        recall=recall.mean,
        em=em.mean,
        f1=_mean([result.f1 for result in results]),
        n=len(results),
        ci95=(recall.low, recall.high),
        em_ci95=(em.low, em.high),
        gold_recall=_mean(known) if known else None,
        searches=_mean([result.searches for result in results]),
        sampled_tokens=_mean([result.sampled_tokens for result in results]),
        format_errors=_mean([result.format_errors for result in results]),
    )


async def _evaluate_all(
    agent: MaskSearchAgent,
    tasks: Sequence[SearchTask],
    settings: EvaluationSettings,
    mode: Mode,
    results_path: Path | None,
    on_result: Callable[[QuestionResult], None] | None,
) -> list[QuestionResult]:
    slots = asyncio.Semaphore(settings.concurrency)
    results: list[QuestionResult] = []

    async def answer(task: SearchTask) -> None:
        async with slots:
            started_s = time.perf_counter()
            run = _run_rag(agent, task) if mode == "rag" else agent.run_task(task, seed=settings.seed)
            result = _score(task, await run, time.perf_counter() - started_s)
        results.append(result)
        if results_path is not None:
            _append(results_path, result)
        if on_result is not None:
            on_result(result)

    await asyncio.gather(*(answer(task) for task in tasks))
    return results


async def _run_rag(agent: MaskSearchAgent, task: SearchTask) -> Trajectory:
    """Retrieve once with the question, show the passages with it, and let the model answer."""
    guard = LeakGuard.for_task(task)
    limit = agent.settings.passages_per_search
    found = await agent.search.asearch([task.question], limit, guard)
    passages = [hit.passage for hit in interleave(found, limit)]
    parts = (neutralise(task.question), render_information(passages), agent.prompts.force_answer)
    prompt = "\n".join(parts)
    rag = agent.with_limits(max_searches=0)
    recorder = Recorder()
    state = await rag.graph.ainvoke(
        {"question": task.question, "kind": task.kind, "messages": [HumanMessage(prompt)]},
        rag.new_thread(),
        context=RunContext(recorder=recorder, guard=guard),
    )
    return rag.trajectory_of(state, recorder, task.id, retrieved_before=passages)


def _score(task: SearchTask, trajectory: Trajectory, seconds: float) -> QuestionResult:
    scores = score_answer(task, trajectory.answer)
    retrieved = {passage.id for shown in trajectory.retrieved for passage in shown}
    gold = set(task.gold_passage_ids) - {task.source_passage_id}
    return QuestionResult(
        task_id=task.id,
        question=task.question,
        gold=tuple(slot[0] for slot in task.answers),
        answer=trajectory.answer,
        recall=scores.recall,
        em=scores.em,
        f1=scores.f1,
        stop_reason=trajectory.stop_reason,
        searches=len(trajectory.queries),
        sampled_tokens=sum(len(turn.sampled_ids) for turn in trajectory.turns),
        format_errors=trajectory.format_errors,
        gold_recall=len(gold & retrieved) / len(gold) if gold else None,
        hops=task.hop_count,
        seconds=seconds,
        trajectory=trajectory,
    )


def _read_results(path: Path | None, model_version: str) -> dict[str, QuestionResult]:
    if path is None or not path.is_file():
        return {}
    _drop_torn_line(path)
    results = {result.task_id: result for result in read_jsonl(path, QuestionResult, EvaluationError)}
    producers = {result.trajectory.producer for result in results.values() if result.trajectory is not None}
    if producers - {model_version}:
        raise EvaluationError(
            f"{path} holds results of {', '.join(sorted(producers))}, but the agent to evaluate is {model_version}; "
            f"choose another folder, or delete the file to ask again"
        )
    return results


def _drop_torn_line(path: Path) -> None:
    """Cut a last line that a killed process left half written."""
    data = path.read_bytes()
    if data and not data.endswith(b"\n"):
        with path.open("r+b") as file:
            file.truncate(data.rfind(b"\n") + 1)


def _append(path: Path, result: QuestionResult) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(dump_record(result), ensure_ascii=False) + "\n")
        file.flush()
        os.fsync(file.fileno())


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else 0.0
