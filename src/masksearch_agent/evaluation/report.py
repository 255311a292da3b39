"""The report of an evaluation as one HTML page: every run that a folder holds, side by side.

A folder is read one result file at a time, and a trajectory is let go once its text is on the page.
"""

from __future__ import annotations

import dataclasses
import heapq
import logging
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, zip_longest
from pathlib import Path
from typing import Any

from masksearch_agent.config.evaluation import EvaluationSettings
from masksearch_agent.errors import EvaluationError
from masksearch_agent.evaluation.comparison import Metric, score_of
from masksearch_agent.evaluation.intervals import bootstrap_mean, paired_difference
from masksearch_agent.evaluation.runner import QuestionResult, summarise
from masksearch_agent.records import Trajectory, read_jsonl
from masksearch_agent.viewer.evaluation import render_evaluation
from masksearch_agent.viewer.page import replace_file
from masksearch_agent.viewer.questions import QuestionTable
from masksearch_agent.viewer.tables import label

__all__ = ("PAGE_NAME", "RunFile", "find_runs", "sample_of", "write_comparison_page", "write_evaluation_page")

PAGE_NAME = "report.html"
_RUN_NAME = re.compile(r"(?P<dataset>.+)-(?P<agent>agentic|rag-pe|agent-pe|rag)(?P<corpus>-own-corpus)?")
"""A result file's name without `.jsonl`, as `masksearch eval` and the pytest plugin choose it."""
_REFERENCES = ("rag-pe", "agent-pe", "rag")
"""What an agent is compared with, by preference."""
_FAILURES = 10
_LAST_BIN = 8
"""Larger numbers of hops or searches share a bin."""
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class RunFile:
    """A file of results and what they are the results of."""

    path: Path
    dataset: str
    agent: str
    """Who answered: `agentic`, `rag-pe`, …"""


@dataclass(frozen=True, slots=True)
class _Run:
    """The results of a file without their trajectories."""

    file: RunFile
    results: list[QuestionResult]
    producer: str


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
    _write(files, references, f"Evaluation: {folder.resolve().name}", page, settings or EvaluationSettings())
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
    names = [(_RUN_NAME.fullmatch(path.stem), path) for path in (before, after)]
    dataset = names[0][0]["dataset"] if names[0][0] else before.stem
    agents = [match["agent"] if match else path.stem for match, path in names]
    if agents[0] == agents[1]:
        agents = [path.resolve().parent.name for path in (before, after)]
    if agents[0] == agents[1]:
        agents = ["before", "after"]
    files = [RunFile(path, dataset, agent) for path, agent in zip((after, before), reversed(agents), strict=True)]
    _write(files, {dataset: agents[0]}, f"Comparison: {dataset}", page, settings or EvaluationSettings(), metric)


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


def _write(
    files: Sequence[RunFile],
    references: Mapping[str, str],
    title: str,
    page: Path,
    settings: EvaluationSettings,
    metric: Metric = "recall",
) -> None:
    """Write the page of some runs, whose failures are those of the first agent on each dataset.

    Args:
        files: The runs, in the order of the page.
        references: The agent of each dataset that the others are compared with, or an empty name.
        title: Of the page.
        page: The HTML file.
        settings: Seed and number of resamples of the intervals.
        metric: The score that is compared.
    """
    table = QuestionTable()
    runs: list[_Run] = []
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
        if file.dataset not in {run.file.dataset for run in runs}:
            failures.append(_worst(file, results, len(files) > 1))
        producers = sorted({result.trajectory.producer for result in results if result.trajectory is not None})
        runs.append(
            _Run(file, [dataclasses.replace(result, trajectory=None) for result in results], ", ".join(producers))
        )
    _add_gains(table, runs, references, metric)
    report = {
        "title": title,
        "evals": _summaries(runs, settings),
        "comparisons": _comparisons(runs, references, metric, settings),
        "breakdowns": _breakdowns(runs, settings),
        "failures": [sample for sample in chain(*zip_longest(*failures)) if sample is not None][:_FAILURES],
        "producers": {run.file.agent: run.producer for run in runs},
        "notes": notes,
    }
    page.parent.mkdir(parents=True, exist_ok=True)
    replace_file(page, render_evaluation(report, table))


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


def _add_gains(
    table: QuestionTable, runs: Sequence[_Run], references: Mapping[str, str], metric: Metric
) -> None:
    before = {
        (run.file.dataset, result.task_id, result.question): score_of(result, metric)
        for run in runs
        if run.file.agent == references[run.file.dataset]
        for result in run.results
    }
    after = (score_of(result, metric) for run in runs for result in run.results)
    for row, score in zip(table.rows, after, strict=True):
        earlier = before.get((row["dataset"], row["task"], row["question"]))
        if row["agent"] != references[row["dataset"]] and score is not None and earlier is not None:
            row["gain"] = round(score - earlier, 4)


def _summaries(runs: Sequence[_Run], settings: EvaluationSettings) -> dict[str, dict[str, Any]]:
    evals: dict[str, dict[str, Any]] = {}
    for run in runs:
        evals.setdefault(run.file.agent, {})[run.file.dataset] = dataclasses.asdict(
            summarise(run.results, settings)
        )
    return evals


def _comparisons(
    runs: Sequence[_Run], references: Mapping[str, str], metric: Metric, settings: EvaluationSettings
) -> list[dict[str, Any]]:
    scores = {
        (run.file.dataset, run.file.agent): {
            (result.task_id, result.question): score
            for result in run.results
            if (score := score_of(result, metric)) is not None
        }
        for run in runs
    }
    comparisons = []
    for (dataset, agent), after in scores.items():
        reference = references[dataset]
        before = scores.get((dataset, reference), {})
        shared = [question for question in after if question in before]
        if agent == reference or not shared:
            continue
        gain = paired_difference(
            [after[question] for question in shared],
            [before[question] for question in shared],
            settings.seed,
            settings.bootstrap_samples,
        )
        comparisons.append(
            {
                "name": f"{agent} over {reference}, {metric} on {dataset}",
                "mean": gain.mean,
                "low": gain.low,
                "high": gain.high,
                "n": len(shared),
            }
        )
    return comparisons


def _breakdowns(runs: Sequence[_Run], settings: EvaluationSettings) -> list[dict[str, Any]]:
    """Break the recall of every dataset down by hops, where they are known, and by searches."""
    datasets = list(dict.fromkeys(run.file.dataset for run in runs))
    breakdowns = []
    for dataset in datasets:
        of_dataset = [run for run in runs if run.file.dataset == dataset]
        for unit, count in (("hops", lambda result: result.hops), ("searches", lambda result: result.searches)):
            values = sorted({min(count(result), _LAST_BIN) for run in of_dataset for result in run.results})
            if len(values) == 1:
                continue  # One dot is in the table of scores already.
            title = f"By {unit}" if len(datasets) == 1 else f"{label(dataset)}, by {unit}"
            series = {run.file.agent: [_bin(run, unit, count, value, settings) for value in values] for run in of_dataset}
            breakdowns.append({"title": title, "unit": unit, "series": series})
    return breakdowns


def _bin(
    run: _Run, unit: str, count: Callable[[QuestionResult], int], value: int, settings: EvaluationSettings
) -> dict[str, Any]:
    recalls = [result.recall for result in run.results if min(count(result), _LAST_BIN) == value]
    name = "unknown" if unit == "hops" and value == 0 else f"{value}+" if value == _LAST_BIN else str(value)
    if not recalls:
        return {"name": name, "n": 0}
    interval = bootstrap_mean(recalls, settings.seed, settings.bootstrap_samples)
    return {"name": name, "n": len(recalls), **dataclasses.asdict(interval)}
