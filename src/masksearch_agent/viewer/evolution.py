"""A self-evolution run for people: a Markdown page, and a plot of its rounds as an SVG file of its own."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich.table import Table

from masksearch_agent.viewer.curves import nice_ticks
from masksearch_agent.viewer.markup import Markup, join, svg_file, tag
from masksearch_agent.viewer.tables import score

__all__ = ("draw_evolution", "evolution_markdown", "evolution_table")

_PANEL_WIDTH, _HEIGHT = 290, 250
_LEFT, _RIGHT, _TOP, _BOTTOM = 46, 280, 34, 206
_LABELLED_ROUNDS = 5
"""With more there is no room for the values."""
_STYLE = (
    "text{font:12px system-ui,sans-serif;fill:#444}.title{font-weight:600;fill:#111}.grid{stroke:#e4e4e4}"
    ".mark{stroke:#3367b0;fill:#3367b0}.line{stroke:#3367b0;fill:none}.bar{fill:#9bb7dd}.trained{fill:#3367b0}"
)
_HEADS = (
    *("round", "taught by", "tasks", "attempts", "accepted", "trained on", "SFT steps"),
    *("held-out recall", "exact match", "over round 1 (95%)"),
)
_TERMINAL_HEADS = ("round", "tasks", "accepted", "held-out recall", "over round 1 (95%)")
"""What has room on a terminal; the page has all."""
_ENDS = {
    "max_rounds": "all rounds were done",
    "no_rise": "held-out recall stopped rising",
    "no_new_tasks": "no task was left",
    "nothing_accepted": "the judge accepted nothing new",
}


def evolution_table(report: Mapping[str, Any]) -> Table:
    """Return the rounds as a table for the terminal."""
    table = Table(title="Self-evolution, recall ± half of the 95% interval", title_justify="left")
    for head in _TERMINAL_HEADS:
        table.add_column(head, justify="right")
    for row in _rows(report):
        cells = dict(zip(_HEADS, row, strict=True))
        table.add_row(*(cells[head] for head in _TERMINAL_HEADS))
    return table


def evolution_markdown(report: Mapping[str, Any]) -> str:
    """Return the report as a Markdown page; it shows `evolution.svg` beside it."""
    lines = [
        f"# Self-evolution: {report['title']}",
        "",
        "![Held-out recall, accepted share and trajectories by round](evolution.svg)",
        "",
        f"| {' | '.join(_HEADS)} |",
        f"| --- | --- |{' ---: |' * (len(_HEADS) - 2)}",
        *(f"| {' | '.join(row)} |" for row in _rows(report)),
        "",
        f"It ended because {_ENDS[report['stop_reason']]}; the agent is the student of round {report['best_round']}. "
        f"Recall and exact match are on {_test_count(report)} held-out tasks that decided nothing, ± half of the 95% "
        f"bootstrap interval; differences are paired. {report['wall_seconds'] / 60:.1f} minutes, "
        f"{report['peak_memory_gb']:.2f} GB of memory at most.",
    ]
    return "\n".join(lines) + "\n"


def draw_evolution(report: Mapping[str, Any]) -> str:
    """Return the plot: recall with its 95% interval, the accepted share, and tasks and trajectories, by round."""
    rounds = report["rounds"]
    cells = [report["evals"][f"round_{entry['round']}"]["held_out"] for entry in rounds]
    recall = _draw_points([cell["recall"] for cell in cells], [cell["ci95"] for cell in cells])
    accepted = _draw_points([entry["accepted_share"] for entry in rounds])
    counts = _draw_bars([(entry["tasks"], entry["trained_on"]) for entry in rounds])
    titles = (
        "held-out recall, 95% interval",
        "accepted share of the attempts",
        "tasks (light), trained on (dark)",
    )
    panels = [
        tag("g", tag("text", title, x=_LEFT, y=18, class_="title"), panel, transform=f"translate({x} 0)")
        for x, title, panel in zip(
            range(0, 3 * _PANEL_WIDTH, _PANEL_WIDTH), titles, (recall, accepted, counts), strict=True
        )
    ]
    return svg_file(_STYLE, 3 * _PANEL_WIDTH, _HEIGHT, *panels)


def _rows(report: Mapping[str, Any]) -> Iterable[tuple[str, ...]]:
    gains = {comparison["name"].split()[1]: comparison for comparison in report["comparisons"]}
    for entry in report["rounds"]:
        number = str(entry["round"])
        cell = report["evals"][f"round_{number}"]["held_out"]
        gain = gains.get(number)
        yield (
            number,
            entry["producer"].split("#")[0],
            f"{entry['tasks']:,}",
            f"{entry['samples']:,}",
            f"{entry['accepted']:,} ({entry['accepted_share']:.0%})",
            f"{entry['trained_on']:,}",
            f"{entry['steps']:,}",
            score(cell),
            f"{cell['em']:.2f}",
            f"{gain['mean']:+.3f} ({gain['low']:+.3f} to {gain['high']:+.3f})" if gain else "–",
        )


def _test_count(report: Mapping[str, Any]) -> int:
    return int(report["evals"]["round_1"]["held_out"]["n"])


def _draw_points(values: Sequence[float], intervals: Sequence[Sequence[float]] = ()) -> Markup:
    """Draw shares between 0 and 1 by round, with their intervals where there are any."""
    ticks = (0.0, 0.25, 0.5, 0.75, 1.0)
    places = [(_across(index, len(values)), _height(value, ticks)) for index, value in enumerate(values)]
    parts = [tag("polyline", class_="line", points=" ".join(f"{x:g},{y:g}" for x, y in places))]
    for (x, _), (low, high) in zip(places, intervals, strict=False):
        parts.append(tag("line", class_="mark", x1=x, x2=x, y1=_height(low, ticks), y2=_height(high, ticks)))
    for (x, y), value in zip(places, values, strict=True):
        parts.append(tag("circle", class_="mark", cx=x, cy=y, r=3.5))
        if len(values) <= _LABELLED_ROUNDS:
            parts.append(tag("text", f"{value:.2f}", x=x + 7, y=y - 6))
    return join((*_draw_axes(ticks, len(values)), *parts))


def _draw_bars(pairs: Sequence[tuple[int, int]]) -> Markup:
    """Draw two counts by round side by side."""
    ticks = nice_ticks(0, max(1, *(count for pair in pairs for count in pair)))
    width = round(min(28.0, 0.4 * (_RIGHT - _LEFT) / len(pairs)), 2)
    parts = []
    for index, pair in enumerate(pairs):
        for side, (count, class_name) in enumerate(zip(pair, ("bar", "trained"), strict=True)):
            x, y = round(_across(index, len(pairs)) + width * (side - 1), 2), _height(count, ticks)
            parts.append(tag("rect", class_=class_name, x=x, y=y, width=width, height=round(_BOTTOM - y, 2)))
            if len(pairs) <= _LABELLED_ROUNDS:
                parts.append(tag("text", f"{count:,}", x=x + width / 2, y=y - 4, text_anchor="middle"))
    return join((*_draw_axes(ticks, len(pairs)), *parts))


def _draw_axes(ticks: Sequence[float], rounds: int) -> list[Markup]:
    parts = []
    for tick in ticks:
        y = _height(tick, ticks)
        parts.append(tag("line", class_="grid", x1=_LEFT, x2=_RIGHT, y1=y, y2=y))
        parts.append(tag("text", f"{tick:,g}", x=_LEFT - 6, y=y + 4, text_anchor="end"))
    for index in range(rounds):
        parts.append(
            tag("text", str(index + 1), x=_across(index, rounds), y=_BOTTOM + 18, text_anchor="middle")
        )
    parts.append(tag("text", "round", x=(_LEFT + _RIGHT) / 2, y=_BOTTOM + 36, text_anchor="middle"))
    return parts


def _across(index: int, rounds: int) -> float:
    return round(_LEFT + (index + 0.5) / rounds * (_RIGHT - _LEFT), 2)


def _height(value: float, ticks: Sequence[float]) -> float:
    return round(_BOTTOM - (value - ticks[0]) / (ticks[-1] - ticks[0]) * (_BOTTOM - _TOP), 2)
