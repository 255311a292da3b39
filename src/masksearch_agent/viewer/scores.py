"""What a run achieved: the headline, the table of scores with every metric behind it, and the comparisons.

Every section takes the whole report and is empty where its block is absent, so that a partial run has a page
too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from masksearch_agent.viewer.elements import decimal_cell, number_cell, number_table, section
from masksearch_agent.viewer.markup import Markup, join, tag
from masksearch_agent.viewer.tables import best_recalls, column_names, label, question_count, score

__all__ = ("comparisons_section", "headline", "headline_intervals", "scores_section")

_ROW_NOTES = {
    "untrained": "the model before it learned to search",
    "rag": "one retrieval with the question itself, then an answer",
    "ramp_sft": "after supervised fine-tuning on masked passages",
    "ramp_dapo": "after RAMP SFT and reinforcement learning on masked passages",
    "qa_sft": "after RAMP and supervised fine-tuning on questions",
    "final": "after RAMP and training on questions",
    "agentic": "the agent, searching as often as it wants",
    "rag-pe": "the untrained model, one retrieval with the question itself",
    "agent-pe": "the untrained model, searching as often as it wants",
}
_METRICS = (
    *(("recall", "recall", 3), ("ci95", "95%", 3), ("em", "exact match", 3), ("em_ci95", "95%", 3)),
    *(("f1", "F1", 3), ("gold_recall", "gold found", 3), ("searches", "searches", 2)),
    *(("sampled_tokens", "sampled tokens", 1), ("format_errors", "format errors", 2)),
)
"""Keys of a cell in the order of the metrics table, with their headings and decimals."""
_METRICS_OF_SOME = (
    *(("judge", "judge", 3), ("judge_ci95", "95%", 3), ("unjudged", "unjudged", 0), ("loose", "loose", 3)),
    *(("prompt_tokens", "prompt tokens", 1), ("seconds", "seconds", 2)),
)
"""Those that are shown where some cell has them."""


def headline(report: Mapping[str, Any]) -> str:
    """Return the run's result in one sentence: the final recall beside the untrained one."""
    found = _result_cells(report)
    if found is None:
        return "Nothing was evaluated in this run."
    column, final, reached, before = found
    if before is None:
        return f"Recall on {label(column)} is {reached['recall']:.2f} for {label(final)}."
    return (
        f"Recall on {label(column)} went from {before['recall']:.2f} untrained to "
        f"{reached['recall']:.2f} {label(final)}."
    )


def headline_intervals(report: Mapping[str, Any]) -> str:
    """Return how sure the headline is: its intervals and number of questions, or an empty text."""
    found = _result_cells(report)
    if found is None:
        return ""
    _, final, reached, before = found
    intervals = [
        f"{low:.2f}–{high:.2f} {name}"
        for name, cell in (("untrained", before), (label(final), reached))
        if cell and cell.get("ci95")
        for low, high in [cell["ci95"]]
    ]
    facts = [f"95% intervals: {', '.join(intervals)}"] if intervals else []
    facts += [f"{reached['n']} questions"] if "n" in reached else []
    return "; ".join(facts) + "." if facts else ""


def scores_section(report: Mapping[str, Any]) -> Markup:
    """Return the table of scores, what its rows are, and every other metric behind a fold."""
    evals = report.get("evals") or {}
    columns = column_names(evals)
    if not columns:
        return Markup()
    best = best_recalls(evals)
    rows = [
        [
            tag("th", label(row), scope="row"),
            *(_score_cell(cells.get(column), best.get(column)) for column in columns),
        ]
        for row, cells in evals.items()
    ]
    caption = (
        "Mean recall ± half of its 95% interval, and exact match (em). The fill behind a number is its recall, "
        "the line under it the interval."
    )
    titles = [
        join((label(column), tag("small", question_count(evals, column), class_="count")))
        for column in columns
    ]
    notes = [join((tag("dt", label(row)), tag("dd", _ROW_NOTES[row]))) for row in evals if row in _ROW_NOTES]
    return section(
        "Scores",
        number_table(caption, ["agent", *titles], rows, "scores sortable"),
        tag("dl", *notes, class_="notes") if notes else Markup(),
        tag("details", tag("summary", "All metrics"), _metrics_table(evals), class_="fold"),
    )


def comparisons_section(report: Mapping[str, Any]) -> Markup:
    """Return the paired differences, each with its interval drawn around zero."""
    comparisons = report.get("comparisons") or ()
    if not comparisons:
        return Markup()
    reach = max(abs(entry[key]) for entry in comparisons for key in ("mean", "low", "high")) or 1.0
    rows = []
    for entry in comparisons:
        low, mean, high = (0.5 + entry[key] / reach / 2 for key in ("low", "mean", "high"))
        verdict = "good" if entry["low"] > 0 else "bad" if entry["high"] < 0 else "even"
        interval = f"{entry['low']:+.2f} to {entry['high']:+.2f}"
        count = tag("small", f"n = {entry['n']}", class_="count") if "n" in entry else Markup()
        plot = tag("span", class_="interval", style=f"--low:{low:.4f};--mean:{mean:.4f};--high:{high:.4f}")
        rows.append(
            [
                tag("th", label(entry["name"]), count, scope="row"),
                tag("td", tag("b", f"{entry['mean']:+.2f}"), tag("small", interval), class_="number"),
                tag("td", plot, class_=f"forest {verdict}"),
            ]
        )
    caption = (
        "Mean difference over the same questions, with its 95% interval; the middle line is no difference."
    )
    heads = ["comparison", "difference", "95% interval"]
    return section("Comparisons", number_table(caption, heads, rows, "comparisons"))


def _result_cells(report: Mapping[str, Any]) -> tuple[str, str, Any, Any] | None:
    """Return the headline's column and row, with the row's cell and the untrained one (None where absent)."""
    evals = report.get("evals") or {}
    final = "final" if "final" in evals else next(reversed(evals), "")
    cells = evals.get(final) or {}
    if not cells:
        return None
    column = "qa_2hop" if "qa_2hop" in cells else next(iter(cells))
    before = None if final == "untrained" else evals.get("untrained", {}).get(column)
    return column, final, cells[column], before


def _metrics_table(evals: Mapping[str, Any]) -> Markup:
    cells = [cell for columns in evals.values() for cell in columns.values()]
    metrics = [
        *_METRICS,
        *(metric for metric in _METRICS_OF_SOME if any(cell.get(metric[0]) for cell in cells)),
    ]
    heads = ["agent", "benchmark", "n", *(title for _, title, _ in metrics)]
    rows = [
        [
            tag("th", label(row), scope="row"),
            tag("td", label(column)),
            number_cell(str(cell.get("n", "–")), cell.get("n")),
            *(
                _interval_cell(cell.get(key)) if key.endswith("ci95") else decimal_cell(cell.get(key), digits)
                for key, _, digits in metrics
            ),
        ]
        for row, cells in evals.items()
        for column, cell in cells.items()
    ]
    return number_table("Means over the questions of a benchmark.", heads, rows, "metrics sortable")


def _score_cell(cell: Mapping[str, Any] | None, best: float | None) -> Markup:
    if cell is None:
        return number_cell(score(None), None)
    recall = cell["recall"]
    low, high = cell.get("ci95") or (recall, recall)
    mean, _, margin = score(cell).partition(" ")
    return tag(
        "td",
        tag("b", mean),
        tag("small", f" {margin}") if margin else Markup(),
        tag("small", f"em {cell['em']:.2f}", class_="em") if cell.get("em") is not None else Markup(),
        class_="number score best" if recall == best else "number score",
        data_value=recall,
        style=f"--low:{low:.4f};--mean:{recall:.4f};--high:{high:.4f}",
    )


def _interval_cell(interval: Sequence[float] | None) -> Markup:
    if interval is None:
        return number_cell("–", None)
    return number_cell(f"{interval[0]:.3f}–{interval[1]:.3f}", interval[0])
