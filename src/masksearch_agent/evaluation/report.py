"""The report of an evaluation as one HTML page: every run that a folder holds, side by side.

A folder is read one result file at a time, and a trajectory is let go once its text is on the page.
"""

from __future__ import annotations

import dataclasses
import heapq
import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, zip_longest
from pathlib import Path
from typing import Any

from masksearch_agent.config.evaluation import EvaluationSettings
from masksearch_agent.errors import EvaluationError
from masksearch_agent.evaluation.comparison import Metric
from masksearch_agent.evaluation.report_blocks import (
    Run,
    breakdowns_of,
    comparisons_of,
    gains_of,
    summaries_of,
)
from masksearch_agent.evaluation.runner import QuestionResult
from masksearch_agent.files import replace_text
from masksearch_agent.jsonl import read_jsonl
from masksearch_agent.records import Trajectory
from masksearch_agent.viewer.evaluation import render_evaluation
from masksearch_agent.viewer.questions import QuestionTable
from masksearch_agent.viewer.tables import label

__all__ = (
    "PAGE_NAME",
    "RunFile",
    "find_runs",
    "sample_of",
    "write_comparison_page",
    "write_evaluation_page",
    "write_page",
)

PAGE_NAME = "report.html"
_RUN_NAME = re.compile(r"(?P<dataset>.+)-(?P<agent>agentic|rag-pe|agent-pe|rag)(?P<corpus>-own-corpus)?")
"""A result file's name without `.jsonl`, as `masksearch eval` and the pytest plugin choose it."""
_REFERENCES = ("rag-pe", "agent-pe", "rag")
"""What an agent is compared with, by preference."""
_FAILURES = 10
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class RunFile:
    """A file of results and what they are the results of."""

    path: Path
    dataset: str
    agent: str
    """Who answered: `agentic`, `rag-pe`, …"""


def find_runs(folder: Path) -> list[RunFile]:
    """Return the result files of a folder, datasets by name, the agent before what it is compared with."""
    order = ("agentic", *_REFERENCES)
    runs = []
    for path in folder.glob("*.jsonl"):
        match = _RUN_NAME.fullmatch(path.stem)
        if match is not None:
            dataset = match["dataset"] + (" (own corpus)" if match["corpus"] else "")
            runs.append(RunFile(path, dataset, match["agent"]))
    return sorted(runs, key=lambda run: (run.dataset, order.index(run.agent)))


def write_evaluation_page(folder: Path, settings: EvaluationSettings | None = None) -> Path:
    """Write `report.html` beside the results of a folder.

    Args:
        folder: What `masksearch eval --out` or `pytest --masksearch-out` wrote.
        settings: Seed and number of resamples of the intervals.

    Returns:
        The page.

    Raises:
        EvaluationError: The folder holds no results.
    """
    files = find_runs(folder)
    if not files:
        raise EvaluationError(f"no results in {folder}; evaluate with `masksearch eval --out {folder}`")
    asked = {(file.dataset, file.agent) for file in files}
    references = {
        dataset: next((name for name in _REFERENCES if (dataset, name) in asked), "") for dataset, _ in asked
    }
    page = folder / PAGE_NAME
    write_page(files, references, f"Evaluation: {folder.resolve().name}", page, settings)
    return page


def write_comparison_page(
    before: Path,
    after: Path,
    page: Path,
    metric: Metric = "recall",
    settings: EvaluationSettings | None = None,
) -> None:
    """Write the page of two runs on the same questions, whose table can be sorted by what each question gained.

    Args:
        before: Results of one run, as `masksearch eval --out` wrote them.
        after: Results of the other.
        page: The HTML file.
        metric: The score of which the gain is taken.
        settings: Seed and number of resamples of the intervals.
    """
    paths = (before, after)
    matches = [_RUN_NAME.fullmatch(path.stem) for path in paths]
    dataset = matches[0]["dataset"] if matches[0] else before.stem
    old, new = (match["agent"] if match else path.stem for match, path in zip(matches, paths, strict=True))
    if old == new:
        old, new = (path.resolve().parent.name for path in paths)
    if old == new:
        old, new = "before", "after"
    files = [RunFile(after, dataset, new), RunFile(before, dataset, old)]
    write_page(files, {dataset: old}, f"Comparison: {dataset}", page, settings, metric)


def write_page(
    files: Sequence[RunFile],
    references: Mapping[str, str],
    title: str,
    page: Path,
    settings: EvaluationSettings | None = None,
    metric: Metric = "recall",
) -> None:
    """Write the page of some runs; the failures to read are those of the first agent on each dataset.

    Args:
        files: The runs, in the order of the page.
        references: The agent of each dataset that the others are compared with, or an empty name.
        title: Of the page.
        page: The HTML file.
        settings: Seed and number of resamples of the intervals.
        metric: The score that is compared.
    """
    settings = settings or EvaluationSettings()
    table = QuestionTable()
    runs: list[Run] = []
    producers: dict[str, set[str]] = {}
    failures: list[list[dict[str, Any]]] = []
    notes: list[str] = []
    for file in files:
        try:
            results = _read(file.path)
        except EvaluationError as failure:
            # Another evaluation may be writing it right now.
            _log.warning("%s is left out of the report: %s", file.path, failure)
            notes.append(f"Left out: {failure}.")
            continue
        for result in results:
            table.add(_row(file, result), sample_of(result, ""))
        if file.dataset not in {run.dataset for run in runs}:
            failures.append(_worst(file, results, len(files) > 1))
        known = [result.trajectory for result in results if result.trajectory is not None]
        producers.setdefault(file.agent, set()).update(trajectory.producer for trajectory in known)
        slim = [dataclasses.replace(result, trajectory=None) for result in results]
        runs.append(Run(file.dataset, file.agent, slim))
    for row, gain in zip(table.rows, gains_of(runs, references, metric), strict=True):
        row["gain"] = None if gain is None else round(gain, 4)
    report = {
        "title": title,
        "evals": summaries_of(runs, settings),
        "comparisons": comparisons_of(runs, references, metric, settings),
        "breakdowns": breakdowns_of(runs, settings),
        "failures": [sample for sample in chain(*zip_longest(*failures)) if sample is not None][:_FAILURES],
        "producers": {agent: ", ".join(sorted(names)) for agent, names in producers.items() if names},
        "notes": notes,
    }
    page.parent.mkdir(parents=True, exist_ok=True)
    replace_text(page, render_evaluation(report, table))


def sample_of(result: QuestionResult, title: str) -> dict[str, Any]:
    """Return a question's trajectory as the viewer reads it (`viewer.trajectories.draw_sample`).

    Text from outside stays neutralised: the viewer restores it once the blocks of a step are told apart.
    """
    return {
        "title": title,
        "question": result.question,
        "gold": list(result.gold),
        "answer": result.answer,
        "recall": result.recall,
        "stop_reason": result.stop_reason,
        "messages": _messages(result.trajectory) if result.trajectory is not None else [],
    }


def _read(path: Path) -> list[QuestionResult]:
    """Read a file of results with no more of each trajectory than its text, which is a small part of it."""
    results = {}
    for result in read_jsonl(path, QuestionResult, EvaluationError):
        results[result.task_id] = dataclasses.replace(result, trajectory=_without_tokens(result.trajectory))
    if not results:
        raise EvaluationError(f"{path} holds no results")
    return list(results.values())


def _without_tokens(trajectory: Trajectory | None) -> Trajectory | None:
    if trajectory is None:
        return None
    turns = (
        dataclasses.replace(turn, context_ids=(), sampled_ids=(), logprobs=()) for turn in trajectory.turns
    )
    return dataclasses.replace(trajectory, turns=tuple(turns), retrieved=())


def _messages(trajectory: Trajectory) -> list[dict[str, str]]:
    messages = []
    for turn in trajectory.turns:
        messages += [{"role": message.role, "content": message.content} for message in turn.context]
        messages.append({"role": "assistant", "content": turn.text})
    return messages


def _row(file: RunFile, result: QuestionResult) -> dict[str, Any]:
    success = _success(result)
    return {
        "task": result.task_id,
        "question": result.question,
        "answer": result.answer,
        "gold": " | ".join(result.gold),
        "dataset": file.dataset,
        "agent": file.agent,
        "category": result.category,
        "grade": 2 if success >= 1 else 1 if success > 0 else 0,
        "recall": round(result.recall, 4),
        "gain": None,
        "judge": None if result.is_correct is None else int(result.is_correct),
        "em": result.em,
        "gold_recall": None if result.gold_recall is None else round(result.gold_recall, 4),
        "hops": result.hops or None,
        "searches": result.searches,
        "tokens": result.sampled_tokens,
        "seconds": round(result.seconds, 2),
        "stop": result.stop_reason,
        "trajectory": result.trajectory.id if result.trajectory is not None else "",
    }


def _success(result: QuestionResult) -> float:
    """Return the judge's verdict as 0 or 1, or the recall of an answer that nobody judged."""
    return result.recall if result.is_correct is None else float(result.is_correct)


def _worst(file: RunFile, results: Sequence[QuestionResult], is_named: bool) -> list[dict[str, Any]]:
    """Return the trajectories of the worst failures.

    Of equal ones, those that had found the gold passages and answered wrong all the same tell most.
    """

    def rank(result: QuestionResult) -> tuple[Any, ...]:
        return _success(result), -(result.gold_recall or 0.0), result.hops, result.task_id

    failed = heapq.nsmallest(_FAILURES, (result for result in results if _success(result) < 1), key=rank)
    where = f"{label(file.agent)} on {label(file.dataset)}, " if is_named else ""
    return [sample_of(result, f"{where}task {result.task_id}") for result in failed]
