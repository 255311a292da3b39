"""The page of a run: `report.json` and `report.html` in its folder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from masksearch_agent.files import replace_text
from masksearch_agent.reports.charts import Mark, draw_curves, draw_forest
from masksearch_agent.reports.exam import evidence, exam_table, verdict
from masksearch_agent.reports.page import render_html
from masksearch_agent.reports.records import Difference, RunReport, Score, write_json
from masksearch_agent.reports.wording import label

__all__ = ("forest_of", "headline", "render_run", "sureness", "write_run_report")

_FINAL = ("agent", "final")
"""What the agent that a run made is called; the second name is that of earlier versions."""
_HEADLINE_DATASET = "qa_2hop"


def write_run_report(report: RunReport, directory: Path) -> None:
    """Write `report.json` and `report.html`; each file appears only when it is complete."""
    page = render_run(report)
    write_json(report, directory / "report.json")
    replace_text(directory / "report.html", page)


def render_run(report: RunReport) -> str:
    """Return the page of a run."""
    return render_html(
        "run.html",
        title=report.title or "Search agent report",
        # U+2011 keeps `2-hop` on one line, which a browser would break at a plain hyphen.
        headline=headline(report).replace("-hop", "\u2011hop"),
        sureness=sureness(report),
        report=report,
        exam=exam_table(report.exam) if report.exam else None,
        exam_forest=forest_of(report.exam.differences) if report.exam else "",
        forest=forest_of(report.differences),
        charts=draw_curves(report.curves),
    )


def headline(report: RunReport) -> str:
    """Return the run's result in a sentence or two: what its exam says or, where there was none, the recall of what it
    made beside the untrained one.
    """
    if report.exam is not None:
        return verdict(report.exam)
    reached, before = _result(report)
    if reached is None:
        return "Nothing was evaluated in this run."
    where, agent = label(reached.dataset), label(reached.agent)
    recall = reached.summary.recall
    if before is None:
        return f"Recall on {where} is {recall:.2f} for {agent}."
    return f"Recall on {where} went from {before.summary.recall:.2f} untrained to {recall:.2f} {agent}."


def sureness(report: RunReport) -> str:
    """Return how sure the headline is: its intervals and number of questions."""
    if report.exam is not None:
        return evidence(report.exam)
    reached, before = _result(report)
    if reached is None:
        return ""
    named = (("untrained", before), (label(reached.agent), reached))
    intervals = [
        f"{found.summary.ci95[0]:.2f}–{found.summary.ci95[1]:.2f} {name}" for name, found in named if found
    ]
    return f"95% intervals: {', '.join(intervals)}; {reached.summary.n} questions."


def forest_of(differences: Sequence[Difference]) -> str:
    """Return the plot of paired differences; empty where there are none."""
    if not differences:
        return ""
    marks = [Mark(label(found.name), found.gain) for found in differences]
    return draw_forest(marks, "difference, 95% interval")


def _result(report: RunReport) -> tuple[Score | None, Score | None]:
    """Return the headline's score, and the untrained model's on the same questions."""
    if not report.scores:
        return None, None
    agent = next((name for name in _FINAL if name in report.agents), report.agents[-1])
    mine = [found for found in report.scores if found.agent == agent]
    reached = next((found for found in mine if found.dataset == _HEADLINE_DATASET), mine[0])
    before = None if agent == "untrained" else report.score("untrained", reached.dataset)
    return reached, before
