"""Several runs on one page: their mean, and the result table and comparisons of each seed."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from masksearch_agent.errors import EvaluationError
from masksearch_agent.viewer.tables import evals_markdown

__all__ = ("read_report", "summarise_runs")


def read_report(directory: Path) -> dict[str, Any]:
    """Read the report of a run folder.

    Raises:
        EvaluationError: The run has none yet.
    """
    path = directory / "report.json"
    if not path.is_file():
        raise EvaluationError(
            f"no report at {path}; finish the run with `masksearch quickstart --out {directory}`"
        )
    report: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return report


def summarise_runs(reports: Sequence[Mapping[str, Any]]) -> str:
    """Return a Markdown page with one section per run."""
    sections = [
        "# Quickstart runs",
        "One section per run of `masksearch quickstart`. Recall with 95% bootstrap intervals.",
    ]
    if len(reports) > 1:
        sections.append(
            f"## Mean of {len(reports)} seeds\n\n{evals_markdown({'evals': _mean_evals(reports)})}".rstrip()
        )
    for report in reports:
        lines = [f"## Seed {report['seed']}", evals_markdown(report)]
        lines += [
            f"- {item['name']}: {item['mean']:+.3f} (95% {item['low']:+.3f} to {item['high']:+.3f}, n = {item['n']})"
            for item in report["comparisons"]
        ]
        minutes = report["wall_seconds"] / 60
        lines.append(f"- {minutes:.1f} minutes, {report['peak_memory_gb']:.2f} GB of memory at most")
        for name, scores in report["retrieval"].items():
            lines += [f"- {name}: {label} {value:.3f}" for label, value in scores.items()]
        sections.append("\n".join(["\n\n".join(lines[:2]), "", *lines[2:]]))
    return "\n\n".join(sections) + "\n"


def _mean_evals(reports: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, dict[str, float]]]:
    """Return the mean recall of every cell that all runs have."""
    first, *others = (report["evals"] for report in reports)
    return {
        row: {
            column: {"recall": sum(evals[row][column]["recall"] for evals in (first, *others)) / len(reports)}
            for column in cells
            if all(column in evals.get(row, {}) for evals in others)
        }
        for row, cells in first.items()
    }
