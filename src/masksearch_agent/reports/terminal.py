"""Tables of a report for the terminal."""

from __future__ import annotations

from rich.console import Group
from rich.table import Table
from rich.text import Text

from masksearch_agent.reports.exam import evidence, exam_table, verdict
from masksearch_agent.reports.records import ExamReport, RunReport
from masksearch_agent.reports.wording import best_recalls, difference, label, question_count, score

__all__ = ("exam_summary", "rounds_table", "scores_table")


def exam_summary(exam: ExamReport) -> Group:
    """Return what an exam says: the verdict, the scores and what is served."""
    return Group(Text(verdict(exam), style="bold"), scores_table(exam_table(exam)), Text(evidence(exam)))


def scores_table(report: RunReport) -> Table:
    """Return the recall of a run's agents; the best of each dataset is bold."""
    best = best_recalls(report.scores)
    # Cells are `Text`, because rich would read `[mask]` in a name as a style.
    table = Table(title="Recall ± half of the 95% interval", title_justify="left")
    table.add_column("agent")
    for dataset in report.datasets:
        heading = f"{label(dataset)}\n{question_count(report, dataset)}".rstrip()
        table.add_column(Text(heading), justify="right")
    for agent in report.agents:
        cells = [report.score(agent, dataset) for dataset in report.datasets]
        styles = ("bold" if c and c.summary.recall == best.get(c.dataset) else "" for c in cells)
        texts = (Text(score(cell), style=style) for cell, style in zip(cells, styles, strict=True))
        table.add_row(Text(label(agent)), *texts)
    return table


def rounds_table(report: RunReport) -> Table:
    """Return the rounds of self-evolution; the page has more of them."""
    table = Table(title="Self-evolution, recall ± half of the 95% interval", title_justify="left")
    for head in ("round", "tasks", "accepted", "held-out recall", "over round 1 (95%)"):
        table.add_column(head, justify="right")
    gains = {found.after: difference(found.gain) for found in report.differences}
    for entry in report.rounds:
        agent = f"round_{entry.number}"
        recall = score(report.score(agent, "test"))
        accepted = f"{entry.accepted:,} ({entry.accepted_share:.0%})"
        table.add_row(str(entry.number), f"{entry.tasks:,}", accepted, recall, gains.get(agent, "–"))
    return table
