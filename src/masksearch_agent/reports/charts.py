"""Charts as SVG pictures, drawn by Vega-Lite (altair) without a browser.

A picture is complete as it stands: it needs no script and no network, and every mark says its values to a screen
reader. `docs/reports.md` compares the libraries that could have drawn them.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from masksearch_agent.errors import needs_extra
from masksearch_agent.evaluation.intervals import Interval
from masksearch_agent.reports.records import Curve
from masksearch_agent.reports.wording import label

__all__ = ("Bin", "Chart", "Mark", "draw_bars", "draw_breakdown", "draw_curves", "draw_forest", "stack")

_COLOURS = ("#0b6e69", "#c8641b", "#3d5fc4", "#a8347c", "#77702a", "#555555")
_AGENT_COLOURS = {
    **dict.fromkeys(("agent", "agentic"), "#0b6e69"),
    **dict.fromkeys(("untrained", "agent-pe"), "#555555"),
    **dict.fromkeys(("rag", "rag-pe"), "#a8347c"),
    **{"rag-3shot": "#7a4fa3", "ramp_sft": "#c8641b", "ramp_dapo": "#3d5fc4", "qa_sft": "#77702a"},
}
"""Of the agents and stages that every run has; two that share one are never in the same chart."""
_WIDTH, _HEIGHT = 340, 200
"""As wide as a telephone leaves, so that text in a chart keeps its size there."""
_LINE_HEIGHT = 19
_SMOOTHED_FROM = 30
"""A curve of fewer points is drawn as measured."""


@dataclass(frozen=True, slots=True)
class Chart:
    """A picture and what it is about."""

    title: str
    svg: str


@dataclass(frozen=True, slots=True)
class Mark:
    """A mean with its interval, in a row of a forest plot."""

    row: str
    interval: Interval
    series: str = ""


@dataclass(frozen=True, slots=True)
class Bin:
    """The questions of an agent with one number of hops or searches."""

    agent: str
    name: str
    n: int
    interval: Interval | None
    """Of the mean recall; None without a question."""


def draw_curves(curves: Sequence[Curve], x_title: str = "training step") -> list[Chart]:
    """Return a chart a metric, with a line a stage: as measured, and a moving mean where a curve is long."""
    alt = _altair()
    by_metric: dict[str, list[Curve]] = {}
    for curve in curves:
        by_metric.setdefault(curve.metric, []).append(curve)
    stages = [label(stage) for stage in dict.fromkeys(curve.stage for curve in curves)]
    charts = []
    for metric, group in by_metric.items():
        rows: list[dict[str, Any]] = [
            {"step": step, "value": value, "mean": mean, "stage": label(curve.stage)}
            for curve in group
            for (step, value), mean in zip(_finite(curve), _moving_mean(_finite(curve)), strict=True)
        ]
        if not rows:
            continue
        is_long = any(len(curve.points) >= _SMOOTHED_FROM for curve in group)
        base = alt.Chart(alt.Data(values=rows)).encode(
            x=alt.X("step:Q", title=x_title),
            color=_colour(alt, stages, "stage", {row["stage"] for row in rows}),
        )
        raw = base.mark_line(
            strokeWidth=1 if is_long else 2, opacity=0.3 if is_long else 1, point=not is_long
        )
        layers = raw.encode(y=alt.Y("value:Q", title=label(metric), scale=alt.Scale(zero=False)))
        if is_long:
            layers += base.mark_line(strokeWidth=2).encode(y=alt.Y("mean:Q", title=label(metric)))
        charts.append(Chart(label(metric), _svg(layers.properties(width=_WIDTH, height=_HEIGHT))))
    return charts


def draw_forest(
    marks: Sequence[Mark], x_title: str, bounds: tuple[float, float] | None = None, width: int = _WIDTH
) -> str:
    """Return means with their 95% intervals, a row each, over a labelled scale with a line at 0."""
    alt = _altair()
    rows = [
        {"row": mark.row, "series": mark.series}
        | {end: round(getattr(mark.interval, end), 4) for end in ("mean", "low", "high")}
        for mark in marks
    ]
    names = list(dict.fromkeys(mark.row for mark in marks))
    series = list(dict.fromkeys(mark.series for mark in marks))
    scale = alt.Scale(domain=list(bounds), nice=True) if bounds else alt.Scale(zero=True, nice=True)
    # A row's name stands above its intervals, on a line of its own: beside them, long ones would leave a narrow screen
    # no room for the scale.
    lines = [" ", *series]
    row_height = _LINE_HEIGHT * len(lines)
    above = {"labelAlign": "left", "labelPadding": -4, "labelOffset": (_LINE_HEIGHT - row_height) / 2}
    axis = alt.Axis(**above, labelLimit=width, ticks=False, domain=False, zindex=1)
    base = alt.Chart(alt.Data(values=rows)).encode(
        y=alt.Y("row:N", title=None, sort=names, axis=axis),
        yOffset=alt.YOffset("series:N", scale=alt.Scale(domain=lines)),
        color=_colour(alt, series, "series"),
    )
    zero = alt.Chart(alt.Data(values=[{"zero": 0}])).mark_rule(color="#888").encode(x=alt.X("zero:Q"))
    line = base.mark_rule(strokeWidth=2).encode(x=alt.X("low:Q", title=x_title, scale=scale), x2="high:Q")
    dot = base.mark_circle(size=60, opacity=1).encode(x=alt.X("mean:Q", title=x_title))
    return _svg((zero + line + dot).properties(width=width, height=row_height * len(names)))


def draw_breakdown(bins: Sequence[Bin], unit: str) -> str:
    """Return recall by a whole number, such as hops: a dot with its interval an agent, and the number of questions."""
    alt = _altair()
    agents = [label(agent) for agent in dict.fromkeys(bin_.agent for bin_ in bins)]
    names = list(dict.fromkeys(bin_.name for bin_ in bins))
    rows = [
        {"agent": label(b.agent), "name": b.name, "n": b.n, "mean": i.mean, "low": i.low, "high": i.high}
        for b in bins
        if (i := b.interval) is not None
    ]
    title = f"{unit} (below the dots: questions)"
    base = alt.Chart(alt.Data(values=rows)).encode(
        x=alt.X("name:N", title=title, sort=names, axis=alt.Axis(labelAngle=0)),
        xOffset=alt.XOffset("agent:N", sort=agents),
        color=_colour(alt, agents, "agent"),
    )
    recall = alt.Y("low:Q", title="recall, 95% interval", scale=alt.Scale(domain=[0, 1]))
    line = base.mark_rule(strokeWidth=2, opacity=0.6).encode(y=recall, y2="high:Q")
    dot = base.mark_circle(size=60, opacity=1).encode(y="mean:Q")
    count = base.mark_text(baseline="top", dy=3, fontSize=9).encode(y="low:Q", text="n:Q")
    return _svg((line + dot + count).properties(width=_WIDTH, height=_HEIGHT))


def draw_bars(groups: Mapping[str, Mapping[str, float]], x_title: str, y_title: str) -> str:
    """Return bars side by side: a group a name along the axis, a bar a series."""
    alt = _altair()
    rows = [
        {"group": group, "series": series, "value": value}
        for group, bars in groups.items()
        for series, value in bars.items()
    ]
    series = list(dict.fromkeys(row["series"] for row in rows))
    base = alt.Chart(alt.Data(values=rows)).encode(
        x=alt.X("group:N", title=x_title, sort=list(groups), axis=alt.Axis(labelAngle=0)),
        xOffset=alt.XOffset("series:N", sort=series),
        y=alt.Y("value:Q", title=y_title),
    )
    bars = base.mark_bar().encode(color=_colour(alt, [str(name) for name in series], "series"))
    values = base.mark_text(dy=-6, fontSize=10).encode(text=alt.Text("value:Q", format=",.2~f"))
    return _svg((bars + values).properties(width=_WIDTH, height=_HEIGHT))


def stack(charts: Sequence[Chart]) -> str:
    """Return several charts below each other as one picture."""
    parts, top, width = [], 0.0, 0.0
    for chart in charts:
        head, _, body = chart.svg.partition(">")
        across, down = (float(head.split(f'{name}="')[1].split('"')[0]) for name in ("width", "height"))
        parts.append(f'<g transform="translate(0 {top:g})">{body.removesuffix("</svg>")}</g>')
        top, width = top + down + 12, max(width, across)
    attributes = f'xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {top:g}" role="img"'
    return f'<svg {attributes}><rect width="100%" height="100%" fill="#fff"/>{"".join(parts)}</svg>\n'


def _finite(curve: Curve) -> list[tuple[float, float]]:
    return [(step, value) for step, value in curve.points if value is not None and math.isfinite(value)]


def _moving_mean(points: Sequence[tuple[float, float]]) -> list[float]:
    """Return the mean over a tenth of the curve around each point."""
    reach = len(points) // 20
    values = [value for _, value in points]
    windows = (values[max(0, index - reach) : index + reach + 1] for index in range(len(values)))
    return [sum(window) / len(window) for window in windows]


def _colour(alt: Any, names: Sequence[str], field: str, shown: Container[str] | None = None) -> Any:
    """Return the colours of named series, of a known agent the same everywhere; one series needs no legend."""
    known = {label(agent): colour for agent, colour in _AGENT_COLOURS.items()}
    used = {known[name] for name in names if name in known}
    # More series than colours begin again; those of the agents that are here are left to them.
    free = itertools.cycle([colour for colour in _COLOURS if colour not in used] or _COLOURS)
    colours = {name: known.get(name) or next(free) for name in names}
    if shown is not None:
        colours = {name: colour for name, colour in colours.items() if name in shown}
    legend = alt.Legend(
        orient="top", title=None, columns=3, labelLimit=160, symbolOpacity=1, symbolStrokeWidth=2
    )
    scale = alt.Scale(domain=list(colours), range=list(colours.values()))
    return alt.Color(f"{field}:N", scale=scale, legend=legend if len(colours) > 1 else None)


def _altair() -> Any:
    with needs_extra("report"):
        import altair
    return altair


def _svg(chart: Any) -> str:
    with needs_extra("report"):
        import vl_convert
    chart = chart.configure(font="system-ui, sans-serif", background="#ffffff")
    return str(vl_convert.vegalite_to_svg(chart.to_dict()))
