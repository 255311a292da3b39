"""Markdown pages of runs, with their pictures beside them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from masksearch_agent.evaluation.intervals import Interval
from masksearch_agent.files import replace_text
from masksearch_agent.reports.charts import Chart, Mark, draw_bars, draw_curves, draw_forest, stack
from masksearch_agent.reports.conversations import split_blocks
from masksearch_agent.reports.exam import evidence, exam_table, verdict
from masksearch_agent.reports.page import render_markdown
from masksearch_agent.reports.records import RunReport, Score

__all__ = ("draw_rounds", "mean_scores", "summarise_runs", "write_evolution", "write_pretraining")

_ENDS = {
    "max_rounds": "all rounds were done",
    "no_rise": "held-out recall stopped rising",
    "no_new_tasks": "no task was left",
    "nothing_accepted": "the judge accepted nothing new",
}


def write_pretraining(report: RunReport, directory: Path) -> None:
    """Write `NAME.md` and its curves, `NAME.svg`, after the recipe's name."""
    replace_text(directory / f"{report.name}.svg", stack(draw_curves(report.curves)))
    exam = exam_table(report.exam) if report.exam else None
    values: dict[str, Any] = {"exam": exam, "verdict": verdict, "evidence": evidence}
    page = render_markdown("pretraining.md", report=report, split_blocks=split_blocks, **values)
    replace_text(directory / f"{report.name}.md", page)


def write_evolution(report: RunReport, directory: Path) -> None:
    """Write `report.md` and its plot, `evolution.svg`."""
    replace_text(directory / "evolution.svg", draw_rounds(report))
    replace_text(directory / "report.md", render_markdown("evolution.md", report=report, ends=_ENDS))


def draw_rounds(report: RunReport) -> str:
    """Return the plot of self-evolution: recall with its interval, the accepted share, tasks and trajectories."""
    recall = []
    for entry in report.rounds:
        found = report.score(f"round_{entry.number}", "test")
        if found is not None:
            recall.append(Mark(f"round {entry.number}", Interval(found.summary.recall, *found.summary.ci95)))
    shares = {str(e.number): {"accepted share": e.accepted_share} for e in report.rounds}
    counts = {
        str(e.number): {"tasks": float(e.tasks), "trained on": float(e.trained_on)} for e in report.rounds
    }
    return stack(
        [
            Chart("recall", draw_forest(recall, "held-out recall, 95% interval", (0.0, 1.0))),
            Chart("accepted", draw_bars(shares, "round", "accepted share of the attempts")),
            Chart("counts", draw_bars(counts, "round", "tasks, and trajectories trained on")),
        ]
    )


def summarise_runs(reports: Sequence[RunReport]) -> str:
    """Return a Markdown page with one section a run, and their mean."""
    mean = mean_scores(reports) if len(reports) > 1 else None
    return render_markdown("runs.md", reports=reports, mean=mean)


def mean_scores(reports: Sequence[RunReport]) -> dict[str, dict[str, float]]:
    """Return the mean recall by agent and dataset, of what all runs have."""
    means: dict[str, dict[str, float]] = {}
    for found in reports[0].scores:
        others = [report.score(found.agent, found.dataset) for report in reports]
        known: list[Score] = [other for other in others if other is not None]
        if len(known) == len(reports):
            recall = sum(other.summary.recall for other in known) / len(known)
            means.setdefault(found.agent, {})[found.dataset] = recall
    return means
