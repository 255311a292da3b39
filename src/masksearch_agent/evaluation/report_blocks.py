"""What a report says about several runs: summaries, differences, and scores by hops and by searches.

A dataset's runs are compared with one of them, its reference: `references` names its agent, or is empty where there is
nothing to compare with. Blocks are plain data, as `viewer.evaluation.render_evaluation` takes them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from masksearch_agent.config.evaluation import EvaluationSettings
from masksearch_agent.evaluation.comparison import Metric, score_of
from masksearch_agent.evaluation.intervals import bootstrap_mean, paired_difference
from masksearch_agent.evaluation.runner import QuestionResult, summarise
from masksearch_agent.viewer.tables import label

__all__ = ("Run", "breakdowns_of", "comparisons_of", "gains_of", "summaries_of")

_LAST_BIN = 8
"""Larger numbers of hops or searches share a bin."""
_COUNTS: Mapping[str, Callable[[QuestionResult], int]] = {
    "hops": lambda result: result.hops,
    "searches": lambda result: result.searches,
}


@dataclass(frozen=True, slots=True)
class Run:
    """Who answered which dataset, and how."""

    dataset: str
    agent: str
    results: Sequence[QuestionResult]


def gains_of(runs: Sequence[Run], references: Mapping[str, str], metric: Metric) -> list[float | None]:
    """Return what each question of each run gained over the reference run; None where that did not ask it."""
    before = {
        (run.dataset, result.task_id, result.question): score_of(result, metric)
        for run in runs
        if run.agent == references[run.dataset]
        for result in run.results
    }
    gains: list[float | None] = []
    for run in runs:
        for result in run.results:
            earlier = before.get((run.dataset, result.task_id, result.question))
            score = score_of(result, metric) if run.agent != references[run.dataset] else None
            gains.append(score - earlier if score is not None and earlier is not None else None)
    return gains


def summaries_of(runs: Sequence[Run], settings: EvaluationSettings) -> dict[str, dict[str, Any]]:
    """Return the summaries by agent and dataset."""
    evals: dict[str, dict[str, Any]] = {}
    for run in runs:
        evals.setdefault(run.agent, {})[run.dataset] = dataclasses.asdict(summarise(run.results, settings))
    return evals


def comparisons_of(
    runs: Sequence[Run], references: Mapping[str, str], metric: Metric, settings: EvaluationSettings
) -> list[dict[str, Any]]:
    """Return the paired difference between each run and the reference run on the same questions."""
    scores = {
        (run.dataset, run.agent): {
            (result.task_id, result.question): score
            for result in run.results
            if (score := score_of(result, metric)) is not None
        }
        for run in runs
    }
    entries = []
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
        entries.append(
            {
                "name": f"{agent} over {reference}, {metric} on {dataset}",
                "mean": gain.mean,
                "low": gain.low,
                "high": gain.high,
                "n": len(shared),
            }
        )
    return entries


def breakdowns_of(runs: Sequence[Run], settings: EvaluationSettings) -> list[dict[str, Any]]:
    """Break the recall of every dataset down by hops, where they are known, and by searches."""
    datasets = list(dict.fromkeys(run.dataset for run in runs))
    figures = []
    for dataset in datasets:
        of_dataset = [run for run in runs if run.dataset == dataset]
        for unit, count in _COUNTS.items():
            values = sorted({min(count(result), _LAST_BIN) for run in of_dataset for result in run.results})
            if len(values) == 1:
                continue  # One dot is in the table of scores already.
            title = f"By {unit}" if len(datasets) == 1 else f"{label(dataset)}, by {unit}"
            series = {
                run.agent: [_bin(run, unit, count, value, settings) for value in values] for run in of_dataset
            }
            figures.append({"title": title, "unit": unit, "series": series})
    return figures


def _bin(
    run: Run, unit: str, count: Callable[[QuestionResult], int], value: int, settings: EvaluationSettings
) -> dict[str, Any]:
    recalls = [result.recall for result in run.results if min(count(result), _LAST_BIN) == value]
    name = "unknown" if unit == "hops" and value == 0 else f"{value}+" if value == _LAST_BIN else str(value)
    if not recalls:
        return {"name": name, "n": 0}
    interval = bootstrap_mean(recalls, settings.seed, settings.bootstrap_samples)
    return {"name": name, "n": len(recalls), **dataclasses.asdict(interval)}
