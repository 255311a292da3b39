"""The page of an evaluation: every run that a folder holds, side by side, and every question.

A folder is read one result file at a time, and a trajectory is let go once its text is on the page.
"""

from __future__ import annotations

import dataclasses
import heapq
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain, zip_longest
from pathlib import Path
from typing import Any

from masksearch_agent.config.evaluation import EvaluationSettings
from masksearch_agent.errors import EvaluationError
from masksearch_agent.evaluation.comparison import Metric, compare, pair_up, score_of
from masksearch_agent.evaluation.intervals import bootstrap_mean
from masksearch_agent.evaluation.results import (
    QuestionResult,
    ResultFile,
    ResultLabel,
    list_results,
    read_label,
    read_results,
)
from masksearch_agent.evaluation.runner import summarise
from masksearch_agent.files import replace_text
from masksearch_agent.records import Trajectory
from masksearch_agent.reports.build import sample_of
from masksearch_agent.reports.charts import Bin, Chart, draw_breakdown
from masksearch_agent.reports.page import render_html
from masksearch_agent.reports.questions import QuestionTable, success
from masksearch_agent.reports.records import Difference, RunReport, Sample, Score
from masksearch_agent.reports.run_page import forest_of
from masksearch_agent.reports.wording import label

__all__ = ("PAGE_NAME", "write_comparison_page", "write_evaluation_page", "write_page")

PAGE_NAME = "report.html"
_REFERENCES = ("rag-3shot", "rag-pe", "agent-pe", "rag", "untrained")
"""What an agent is compared with, by preference."""
_FAILURES = 10
_IN_HEADLINE = 3
_LAST_BIN = 8
"""Larger numbers of hops or searches share a bin."""
_COUNTS: Mapping[str, Callable[[QuestionResult], int]] = {
    "hops": lambda result: result.hops,
    "searches": lambda result: result.searches,
}
_log = logging.getLogger(__name__)


@dataclass
class _Collected:
    """What is kept of the runs of a page, without their trajectories."""

    results: dict[ResultLabel, list[QuestionResult]] = field(default_factory=dict)
    table: QuestionTable = field(default_factory=QuestionTable)
    producers: dict[str, set[str]] = field(default_factory=dict)
    failures: dict[str, list[Sample]] = field(default_factory=dict)
    """Of the first run on each dataset."""
    notes: list[str] = field(default_factory=list)


def write_evaluation_page(folder: Path, settings: EvaluationSettings | None = None) -> Path:
    """Write `report.html` beside the results of a folder, and return where it is.

    Args:
        folder: What `masksearch eval --out` or `pytest --masksearch-out` wrote, or the `evals` of a run.

    Raises:
        EvaluationError: The folder holds no results.
    """
    files = list_results(folder, ("agent", "agentic", "qa_sft", "ramp_dapo", "ramp_sft", *_REFERENCES))
    if not files:
        raise EvaluationError(f"no results in {folder}; evaluate with `masksearch eval --out {folder}`")
    asked: dict[str, set[str]] = {}
    for file in files:
        asked.setdefault(file.label.dataset, set()).add(file.label.agent)
    references = {
        dataset: next((name for name in _REFERENCES if name in agents), "")
        for dataset, agents in asked.items()
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
        before, after: Results of a run each, as `masksearch eval --out` wrote them.
        page: The HTML file.
        metric: The score of which the gain is taken.
    """
    labels = [read_label(path) or ResultLabel(path.stem, path.stem) for path in (before, after)]
    dataset, (old, new) = labels[0].dataset, (found.agent for found in labels)
    if old == new:
        old, new = (path.resolve().parent.name for path in (before, after))
    if old == new:
        old, new = "before", "after"
    files = [ResultFile(after, ResultLabel(dataset, new)), ResultFile(before, ResultLabel(dataset, old))]
    write_page(files, {dataset: old}, f"Comparison: {dataset}", page, settings, metric)


def write_page(
    files: Sequence[ResultFile],
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
        page: The HTML file.
        metric: The score that is compared.
    """
    settings = settings or EvaluationSettings()
    kept = _Collected()
    for file in files:
        _collect(file, kept, is_named=len(files) > 1)
    gains: dict[tuple[ResultLabel, str], float] = {}
    differences: list[Difference] = []
    for of, reference, old, new in _beside_references(kept.results, references):
        pairs = pair_up(old, new, lambda result: score_of(result, metric))
        gains |= {(of, change.task_id): round(change.gain, 4) for change in pairs}
        if pairs:
            found = compare(old, new, metric, settings)
            differences.append(Difference(of.agent, reference, of.dataset, found.gain, found.n, metric))
    asked = [(of, result.task_id) for of, results in kept.results.items() for result in results]
    for row, question in zip(kept.table.rows, asked, strict=True):
        row["gain"] = gains.get(question)
    scores = tuple(
        Score(of.agent, of.dataset, summarise(results, settings)) for of, results in kept.results.items()
    )
    report = RunReport(title, scores=scores, differences=tuple(differences))
    html = render_html(
        "evaluation.html",
        ("page.js", "questions.js") if kept.table.rows else ("page.js",),
        title=title,
        headline=_headline(report),
        report=report,
        forest=forest_of(differences),
        breakdowns=_breakdowns(kept.results, settings),
        failures=[s for s in chain(*zip_longest(*kept.failures.values())) if s is not None][:_FAILURES],
        producers={agent: ", ".join(sorted(names)) for agent, names in kept.producers.items() if names},
        notes=kept.notes,
        questions=kept.table,
    )
    replace_text(page, html)


def _collect(file: ResultFile, kept: _Collected, is_named: bool) -> None:
    try:
        results = [_without_tokens(result) for result in read_results(file.path)]
        if not results:
            raise EvaluationError(f"{file.path} holds no results")
    except EvaluationError as failure:
        # Another evaluation may be writing it right now.
        _log.warning("%s is left out of the report: %s", file.path, failure)
        kept.notes.append(f"Left out: {failure}.")
        return
    for result in results:
        kept.table.add(file.label, result)
        if result.trajectory is not None:
            kept.producers.setdefault(file.label.agent, set()).add(result.trajectory.producer)
    kept.failures.setdefault(file.label.dataset, _worst(file.label, results, is_named))
    kept.results[file.label] = [dataclasses.replace(result, trajectory=None) for result in results]


def _without_tokens(result: QuestionResult) -> QuestionResult:
    """Return a result with no more of its trajectory than the text, which is a small part of it."""
    trajectory: Trajectory | None = result.trajectory
    if trajectory is None:
        return result
    turns = tuple(
        dataclasses.replace(turn, context_ids=(), sampled_ids=(), logprobs=()) for turn in trajectory.turns
    )
    return dataclasses.replace(result, trajectory=dataclasses.replace(trajectory, turns=turns, retrieved=()))


def _beside_references(
    runs: Mapping[ResultLabel, Sequence[QuestionResult]], references: Mapping[str, str]
) -> Iterator[tuple[ResultLabel, str, list[QuestionResult], list[QuestionResult]]]:
    """Yield each run but the references with its reference, that one's results, and its own on the same questions."""
    for of, results in runs.items():
        reference = references[of.dataset]
        before = list(runs.get(ResultLabel(of.dataset, reference), ()))
        asked = {(result.task_id, result.question) for result in before}
        if of.agent != reference:
            yield of, reference, before, [r for r in results if (r.task_id, r.question) in asked]


def _headline(report: RunReport) -> str:
    """Return the recall of every agent that answered all datasets; of many agents, of the first and the last."""
    datasets = report.datasets
    recalls = {}
    for agent in report.agents:
        mine = [found.summary.recall for found in report.scores if found.agent == agent]
        if len(mine) == len(datasets):
            recalls[label(agent)] = sum(mine) / len(mine)
    if not recalls:
        return f"{len(datasets)} datasets were evaluated." if datasets else "Nothing was evaluated."
    if len(recalls) > _IN_HEADLINE:
        recalls = dict([next(iter(recalls.items())), next(reversed(recalls.items()))])
    one = len(datasets) == 1
    where = f"Recall on {label(datasets[0])}" if one else f"Mean recall over {len(datasets)} datasets"
    told = [f"{recall:.2f} {agent}" for agent, recall in recalls.items()]
    text = f"{where}: {', '.join(told)}." if len(told) > 1 else f"{where} is {told[0].split()[0]}."
    # U+2011 keeps `2-hop` and `RAG-PE` on one line, which a browser would break at a plain hyphen.
    return text.replace("-", "\u2011")


def _breakdowns(
    runs: Mapping[ResultLabel, Sequence[QuestionResult]], settings: EvaluationSettings
) -> list[Chart]:
    """Break the recall of every dataset down by hops, where they are known, and by searches."""
    datasets = list(dict.fromkeys(of.dataset for of in runs))
    charts = []
    for dataset in datasets:
        mine = {of.agent: results for of, results in runs.items() if of.dataset == dataset}
        for unit, count in _COUNTS.items():
            values = sorted(
                {min(count(result), _LAST_BIN) for results in mine.values() for result in results}
            )
            if len(values) == 1:
                continue  # One dot is in the table of scores already.
            title = f"By {unit}" if len(datasets) == 1 else f"{label(dataset)}, by {unit}"
            bins = []
            for agent, results in mine.items():
                for value in values:
                    recalls = [r.recall for r in results if min(count(r), _LAST_BIN) == value]
                    bins.append(_bin(agent, recalls, unit, value, settings))
            charts.append(Chart(title, draw_breakdown(bins, unit)))
    return charts


def _bin(agent: str, recalls: list[float], unit: str, value: int, settings: EvaluationSettings) -> Bin:
    name = "unknown" if unit == "hops" and value == 0 else f"{value}+" if value == _LAST_BIN else str(value)
    interval = bootstrap_mean(recalls, settings.seed, settings.bootstrap_samples) if recalls else None
    return Bin(agent, name, len(recalls), interval)


def _worst(of: ResultLabel, results: Sequence[QuestionResult], is_named: bool) -> list[Sample]:
    """Return the trajectories of the worst failures.

    Of equal ones, those that had found the gold passages and answered wrong all the same tell most.
    """

    def rank(result: QuestionResult) -> tuple[Any, ...]:
        return success(result), -(result.gold_recall or 0.0), result.hops, result.task_id

    failed = heapq.nsmallest(_FAILURES, (result for result in results if success(result) < 1), key=rank)
    where = f"{label(of.agent)} on {label(of.dataset)}, " if is_named else ""
    return [sample_of(result, f"{where}task {result.task_id}") for result in failed]
