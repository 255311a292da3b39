"""The report of the ablations: JSON, and a Markdown page with a plot of each comparison."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from masksearch_agent.config.evaluation import EvaluationSettings
from masksearch_agent.config.recipe import Recipe
from masksearch_agent.environment import package_versions
from masksearch_agent.evaluation.intervals import bootstrap_over_runs
from masksearch_agent.evaluation.runner import QuestionResult
from masksearch_agent.lab.ablation_claims import (
    MEASURES,
    ArmRun,
    assess,
    claims_of,
    domains_of,
)
from masksearch_agent.lab.ablation_plan import RAMP
from masksearch_agent.lab.recipe import Experiment
from masksearch_agent.viewer.ablation import ablation_markdown, draw_claims, draw_experiment

__all__ = ("build_ablation_report", "write_ablation_report")

_TITLES: Mapping[Experiment, str] = {
    "table": "The paper's table, the same training on questions for all",
    "tokens": "The same total tokens: without pre-training, they are spent on questions",
    "curriculum": "Curriculum against mixed masks",
    "rewards": "Answer rewards",
    "sampling": "Dynamic sampling, for as many steps",
    "leak_guard": "Leak guard, while tasks and trajectories are made and in training",
    "evolution": "Self-evolution",
}


def build_ablation_report(
    recipe: Recipe, runs: Mapping[Experiment, Sequence[ArmRun]], seconds: float, peak_memory_gb: float
) -> dict[str, Any]:
    """Collect the report of a finished run.

    Args:
        recipe: What was run.
        runs: The arms of each comparison, each with each seed.
        seconds: What the stages took.
        peak_memory_gb: The most memory that one of them had.
    """
    settings = recipe.evaluation
    claims = claims_of(recipe, _common_rounds(runs.get("evolution", ())))
    return {
        "title": recipe.name,
        "seeds": list(recipe.ablation.seeds),
        "smallest_gain": recipe.ablation.smallest_gain,
        "claims": [
            assess(claim, runs[claim.experiment], recipe.ablation.smallest_gain, settings) for claim in claims
        ],
        "experiments": [
            {
                "name": name,
                "title": _TITLES[name],
                "columns": list(_columns(recipe, name)),
                "rows": _rows(arms, _columns(recipe, name), settings),
            }
            for name, arms in runs.items()
        ],
        "stage_seconds": seconds,
        "peak_memory_gb": peak_memory_gb,
        "versions": package_versions(),
    }


def write_ablation_report(report: Mapping[str, Any], directory: Path) -> None:
    """Write `ablation.json`, `ablation.md` and its plots, `ablation-claims.svg` and one for each comparison."""
    files = {
        "ablation.json": json.dumps(report, indent=2, ensure_ascii=False) + "\n",
        "ablation.md": ablation_markdown(report),
        "ablation-claims.svg": draw_claims(report),
        **{f"ablation-{entry['name']}.svg": draw_experiment(entry) for entry in report["experiments"]},
    }
    for name, text in files.items():
        (directory / name).write_text(text, encoding="utf-8")


def _columns(recipe: Recipe, experiment: Experiment) -> dict[str, tuple[str, ...]]:
    """Return the columns of a table, and the test sets that each is about."""
    if experiment not in ("table", "tokens"):
        return {RAMP: (RAMP,)}
    in_domain, out_of_domain = domains_of(recipe)
    single = {name: (name,) for name in in_domain + out_of_domain}
    return {"in domain": in_domain, "out of domain": out_of_domain, **single}


def _rows(
    runs: Sequence[ArmRun], columns: Mapping[str, tuple[str, ...]], settings: EvaluationSettings
) -> list[dict[str, Any]]:
    """Return a row an arm, over all of its seeds."""
    rows = []
    for arm in dict.fromkeys(run.arm for run in runs):
        mine = [run for run in runs if run.arm == arm]
        tokens = [run.tokens for run in mine if run.tokens is not None]
        cells = {
            column: _cell([[r for name in sets for r in run.results[name]] for run in mine], settings)
            for column, sets in columns.items()
        }
        row = {"arm": arm, "seeds": len(mine), "cells": cells}
        rows.append({**row, "tokens": sum(tokens) / len(tokens) if tokens else None})
    return rows


def _cell(seeds: Sequence[Sequence[QuestionResult]], settings: EvaluationSettings) -> dict[str, Any]:
    """Return the scores of a column's questions, over all seeds; each seed counts alike."""

    def mean(values: Sequence[Sequence[float]]) -> float:
        return sum(sum(of_seed) / len(of_seed) for of_seed in values) / len(values)

    scores = {
        name: [[measure(result) for result in results] for results in seeds]
        for name, measure in MEASURES.items()
    }
    recall = bootstrap_over_runs(scores["recall"], settings.seed, settings.bootstrap_samples)
    return {
        "recall": recall.mean,
        "ci95": [recall.low, recall.high],
        "em": mean(scores["em"]),
        "length": mean(scores["length"]),
        "searches": mean([[float(result.searches) for result in results] for results in seeds]),
        "n": round(sum(len(results) for results in seeds) / len(seeds)),
    }


def _common_rounds(runs: Sequence[ArmRun]) -> int:
    """Return how many rounds of self-evolution every seed has."""
    rounds: dict[int, int] = {run.seed: 0 for run in runs}
    for run in runs:
        rounds[run.seed] += run.arm.startswith("round ")
    return min(rounds.values(), default=0)
