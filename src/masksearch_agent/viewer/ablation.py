"""The ablations for people: a Markdown page of claims and tables, plots as SVG files, and a table for the terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich.table import Table
from rich.text import Text

from masksearch_agent.viewer.curves import nice_ticks
from masksearch_agent.viewer.markup import svg_file, tag
from masksearch_agent.viewer.tables import label, score

__all__ = ("ablation_markdown", "claims_table", "draw_claims", "draw_experiment")

_WIDTH, _LEFT, _RIGHT, _TOP = 920, 450, 900, 56
_ROW_HEIGHT, _AXIS_HEIGHT = 26, 34
_STYLE = (
    "text{font:12px system-ui,sans-serif;fill:#444}.title{font-weight:600;fill:#111}.grid{stroke:#e4e4e4}"
    ".zero{stroke:#888}.series-1{stroke:#3367b0;fill:#3367b0}.series-2{stroke:#c2571a;fill:#c2571a}"
)
_MEASURES = {"recall": "recall", "em": "exact match", "length": "answer length"}
_QUESTION_COLUMNS = ("in domain", "out of domain")
"""Drawn in one plot; the kinds of questions behind them stand in the table."""


@dataclass(frozen=True, slots=True)
class _Mark:
    """A mean with its interval, to be drawn."""

    row: int
    series: int
    mean: float
    low: float
    high: float


def claims_table(report: Mapping[str, Any]) -> Table:
    """Return the claims and what became of them as a table for the terminal."""
    table = Table(title=_title(report), title_justify="left")
    for head in ("claim", "difference (95%)", "verdict"):
        table.add_column(head)
    for claim in report["claims"]:
        table.add_row(
            *(Text(text) for text in (claim["claim"], _difference(claim["gain"]), claim["verdict"]))
        )
    return table


def ablation_markdown(report: Mapping[str, Any]) -> str:
    """Return the report as a Markdown page; it shows the plots beside it."""
    sections = [f"# {_title(report)}", _explain(report)]
    if report["claims"]:
        sections += [
            "## Claims",
            "![Difference of each claim with its interval](ablation-claims.svg)",
            _claims(report),
        ]
    for entry in report["experiments"]:
        plot = f"![Recall of each agent with its interval](ablation-{entry['name']}.svg)"
        sections += [f"## {entry['title']}", plot, _experiment(entry)]
    versions = ", ".join(f"{name} {version}" for name, version in report["versions"].items())
    hours, memory_gb = report["stage_seconds"] / 3600, report["peak_memory_gb"]
    sections.append(f"{hours:.1f} hours in all, {memory_gb:.1f} GB of memory at most; {versions}.")
    return "\n\n".join(sections) + "\n"


def draw_claims(report: Mapping[str, Any]) -> str:
    """Return a plot of every claim's difference, with its interval and where no difference is."""
    claims = report["claims"]
    marks = [
        _Mark(row, 1, claim["gain"]["mean"], claim["gain"]["low"], claim["gain"]["high"])
        for row, claim in enumerate(claims)
    ]
    names = [claim["claim"] for claim in claims]
    return _draw("difference in the direction of the claim, 95% interval", names, marks, ())


def draw_experiment(entry: Mapping[str, Any]) -> str:
    """Return a plot of the recall of a comparison's agents, in and out of domain where it has both."""
    columns = [name for name in entry["columns"] if name in _QUESTION_COLUMNS] or entry["columns"]
    marks = [
        _Mark(row, series, cell["recall"], *cell["ci95"])
        for row, agent in enumerate(entry["rows"])
        for series, cell in enumerate((agent["cells"][column] for column in columns), start=1)
    ]
    legend = columns if len(columns) > 1 else ()
    names = [label(agent["arm"]) for agent in entry["rows"]]
    return _draw("recall, 95% interval", names, marks, legend, (0.0, 1.0))


def _title(report: Mapping[str, Any]) -> str:
    seeds = ", ".join(str(seed) for seed in report["seeds"])
    return f"Ablations: {report['title']}, seed{'s' if len(report['seeds']) > 1 else ''} {seeds}"


def _explain(report: Mapping[str, Any]) -> str:
    return (
        "Closed worlds, one a seed; entities that are asked about occur in no training stage. Differences are paired "
        "by question, in the direction of the claim; intervals are 95%, by a bootstrap over seeds and questions. A "
        "claim is *reproduced* where its whole interval lies above 0, *not reproduced* where it lies below "
        f"{report['smallest_gain']:g}, the smallest gain that matters, and *undecided at this scale* otherwise, "
        "and where no agent scores anything or all are perfect. "
        "Few seeds make intervals too narrow; those of a single one know nothing of other seeds. "
        "Not tested here: that small models gain most (there is one model), and masks by perplexity."
    )


def _claims(report: Mapping[str, Any]) -> str:
    rows = []
    for claim in report["claims"]:
        measure = f"{_MEASURES[claim['measure']]}, {claim['questions']} questions × {claim['seeds']}"
        verdict = f"**{claim['verdict']}**"
        rows.append((claim["claim"], claim["source"], measure, _difference(claim["gain"]), verdict))
        pairs = claim["pairs"] if len(claim["pairs"]) > 1 else ()
        rows += [
            (f"– {pair['after']} over {pair['before']}", "", "", _difference(pair), "") for pair in pairs
        ]
    return _markdown_table(("claim", "of", "measured by", "difference (95%)", "verdict"), rows)


def _experiment(entry: Mapping[str, Any]) -> str:
    if len(entry["columns"]) > 1:
        heads = ("agent", *(label(name) for name in entry["columns"]), "tokens trained")
        rows = [
            (row["arm"], *(score(row["cells"][name]) for name in entry["columns"]), _tokens(row))
            for row in entry["rows"]
        ]
    else:
        [column] = entry["columns"]
        heads = ("agent", "recall", "exact match", "answer length", "searches", "tokens trained")
        rows = [
            (
                label(row["arm"]),
                score(cell := row["cells"][column]),
                f"{cell['em']:.2f}",
                f"{cell['length']:.2f}",
                f"{cell['searches']:.1f}",
                _tokens(row),
            )
            for row in entry["rows"]
        ]
    counts = (
        {name: entry["rows"][0]["cells"][name]["n"] for name in entry["columns"]} if entry["rows"] else {}
    )
    asked = ", ".join(f"{label(name)} {count}" for name, count in counts.items())
    note = f"Recall ± half of the 95% interval. Questions a seed: {asked}. Tokens are those that training steps read."
    if len(entry["columns"]) == 1:
        note += " Answer length is relative to the expected answer's."
    return _markdown_table(heads, rows, "---:") + "\n\n" + note


def _tokens(row: Mapping[str, Any]) -> str:
    return "–" if row["tokens"] is None else f"{row['tokens'] / 1e6:.2f} M"


def _difference(gain: Mapping[str, Any]) -> str:
    return f"{gain['mean']:+.3f} ({gain['low']:+.3f} to {gain['high']:+.3f})"


def _markdown_table(heads: Sequence[str], rows: Sequence[Sequence[str]], align: str = "---") -> str:
    marks = ["---", *(align for _ in heads[1:])]
    return "\n".join(f"| {' | '.join(line)} |" for line in (heads, marks, *rows))


def _draw(
    title: str,
    names: Sequence[str],
    marks: Sequence[_Mark],
    legend: Sequence[str],
    bounds: tuple[float, float] = (0.0, 0.0),
) -> str:
    """Draw means with their intervals, a row each, over an axis that holds them and the bounds."""
    ends = [end for mark in marks for end in (mark.low, mark.high)]
    ticks = nice_ticks(min((*bounds, *ends)), max((*bounds, *ends)))
    bottom = _TOP + _ROW_HEIGHT * len(names)
    parts = [tag("text", title, x=_LEFT, y=18, class_="title")]
    for number, name in enumerate(legend):
        parts.append(tag("circle", class_=f"series-{number + 1}", cx=_LEFT + 5 + 120 * number, cy=34, r=4))
        parts.append(tag("text", name, x=_LEFT + 14 + 120 * number, y=38))
    for tick in ticks:
        x = _across(tick, ticks)
        line = "zero" if tick == 0 else "grid"
        parts.append(tag("line", class_=line, x1=x, x2=x, y1=_TOP - 8, y2=bottom))
        parts.append(tag("text", f"{tick:g}", x=x, y=bottom + 18, text_anchor="middle"))
    for row, name in enumerate(names):
        y = _TOP + _ROW_HEIGHT * (row + 0.5)
        parts.append(tag("text", name, x=_LEFT - 10, y=y + 4, text_anchor="end"))
    for mark in marks:
        y = _TOP + _ROW_HEIGHT * (mark.row + 0.5) + (6 * mark.series - 9 if legend else 0)
        low, high = _across(mark.low, ticks), _across(mark.high, ticks)
        class_name = f"series-{mark.series}"
        parts.append(tag("line", class_=class_name, x1=low, x2=high, y1=y, y2=y))
        parts.append(tag("circle", class_=class_name, cx=_across(mark.mean, ticks), cy=y, r=3.5))
    return svg_file(_STYLE, _WIDTH, bottom + _AXIS_HEIGHT, *parts)


def _across(value: float, ticks: Sequence[float]) -> float:
    return round(_LEFT + (value - ticks[0]) / (ticks[-1] - ticks[0]) * (_RIGHT - _LEFT), 2)
