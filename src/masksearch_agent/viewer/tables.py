"""The table of evaluation scores, for the terminal and for Markdown.

A row is a stage of the agent, a column a benchmark, a cell the mean recall with half its 95% interval. Scores
stand in the order in which the run reported them; the best recall of each column is bold.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from rich.table import Table
from rich.text import Text

__all__ = (
    "best_recalls",
    "column_names",
    "evals_markdown",
    "evals_table",
    "label",
    "question_count",
    "score",
)


def label(name: str) -> str:
    """Return a row's, column's or stage's name as a reader wants it: `qa_2hop` is `QA 2-hop`."""
    spaced = re.sub(r"(\d)hop\b", r"\1-hop", name.replace("_", " "))
    return re.sub(r"\b(dapo|pe|qa|rag|ramp|sft)\b", lambda match: match[0].upper(), spaced)


def column_names(evals: Mapping[str, Any]) -> list[str]:
    """Return every benchmark that some row was evaluated on, in order of first appearance."""
    return list(dict.fromkeys(column for cells in evals.values() for column in cells))


def question_count(evals: Mapping[str, Any], column: str) -> str:
    """Return a column's number of questions as `n = 120`, or an empty text where rows disagree on it."""
    counts = {cells[column].get("n") for cells in evals.values() if column in cells}
    count = counts.pop() if len(counts) == 1 else None
    return "" if count is None else f"n = {count}"


def best_recalls(evals: Mapping[str, Any]) -> dict[str, float]:
    """Return the highest recall of each column where it is above 0; nothing is best where all rows failed."""
    best = {
        column: max(cells[column]["recall"] for cells in evals.values() if column in cells)
        for column in column_names(evals)
    }
    return {column: recall for column, recall in best.items() if recall > 0}


def score(cell: Mapping[str, Any] | None) -> str:
    """Return a cell as `0.61 ± 0.06`, without the interval where it is unknown, or a dash where it is empty."""
    if cell is None:
        return "–"
    interval = cell.get("ci95")
    if interval is None:
        return f"{cell['recall']:.2f}"
    return f"{cell['recall']:.2f} ± {(interval[1] - interval[0]) / 2:.2f}"


def evals_table(report: Mapping[str, Any]) -> Table:
    """Return the recall table of a report for the terminal."""
    evals = report.get("evals", {})
    best = best_recalls(evals)
    # Cells are `Text`, because rich would read `[mask]` in a name as a style.
    table = Table(title="Recall ± half of the 95% interval", title_justify="left")
    table.add_column("agent")
    for column in column_names(evals):
        table.add_column(Text(f"{label(column)}\n{question_count(evals, column)}".rstrip()), justify="right")
    for row, cells in evals.items():
        scores = [
            Text(score(cells.get(column)), style="bold" if _is_best(cells, column, best) else "")
            for column in column_names(evals)
        ]
        table.add_row(Text(label(row)), *scores)
    return table


def evals_markdown(report: Mapping[str, Any]) -> str:
    """Return the recall table of a report as a Markdown table, ending in a line feed."""
    evals = report.get("evals", {})
    columns = column_names(evals)
    best = best_recalls(evals)
    titles = [", ".join(filter(None, (label(name), question_count(evals, name)))) for name in columns]
    lines = [["agent", *titles], ["---", *("---:" for _ in columns)]]
    for row, cells in evals.items():
        scores = [score(cells.get(column)) for column in columns]
        lines.append(
            [
                label(row),
                *(
                    f"**{text}**" if _is_best(cells, column, best) else text
                    for column, text in zip(columns, scores, strict=True)
                ),
            ]
        )
    return "".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |\n" for line in lines)


def _is_best(cells: Mapping[str, Any], column: str, best: Mapping[str, float]) -> bool:
    return column in cells and column in best and bool(cells[column]["recall"] == best[column])
