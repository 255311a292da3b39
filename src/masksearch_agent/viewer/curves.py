"""Training curves as inline SVG: one chart a metric, one line a stage.

A noisy curve is drawn twice: faintly as measured, and as a moving mean to be read. The page's script reads
`hover_data` to show the measured values under the pointer; without a script the charts are complete.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from masksearch_agent.viewer.markup import Markup, join, svg_file, tag
from masksearch_agent.viewer.tables import label

__all__ = ("Chart", "build_charts", "draw_charts", "draw_charts_file", "hover_data", "nice_ticks")

Point = tuple[float, float]

_WIDTH, _HEIGHT = 440, 260
_LEFT, _RIGHT, _TOP, _BOTTOM = 48, 428, 12, 214
_SMOOTHED_FROM = 30
"""A curve of fewer points is drawn as measured."""
_COLOURS = 5
"""Line colours in the style sheet; more stages than that repeat them."""
_HEADING = 40
"""Height above each chart of a file, for its name and legend."""
_FILE_COLUMNS = 2
_FILE_COLOURS = ("#0b6e69", "#c8641b", "#3d5fc4", "#a8347c", "#77702a")
_FILE_STYLE = (
    "text{font:12px system-ui,sans-serif;fill:#444}.title{font-weight:600;fill:#111}.grid{stroke:#e4e4e4}"
    ".axis{stroke:#888}polyline{fill:none;stroke-width:2}.raw{stroke-width:1;opacity:.3}"
    + "".join(
        f"polyline.series-{n}{{stroke:{colour}}}.dot.series-{n},tspan.series-{n}{{fill:{colour}}}"
        for n, colour in enumerate(_FILE_COLOURS, start=1)
    )
)


@dataclass(frozen=True, slots=True)
class Chart:
    """The curves of one metric and the axes they share."""

    metric: str
    series: tuple[tuple[str, tuple[Point, ...]], ...]
    """Stage and its `(step, value)` points; never without a point."""
    x_range: Point
    y_ticks: tuple[float, ...]
    x_name: str = "training step"

    def place(self, point: Point) -> Point:
        """Return the position of a point in SVG units."""
        (first, last), low, high = self.x_range, self.y_ticks[0], self.y_ticks[-1]
        across, up = (point[0] - first) / (last - first), (point[1] - low) / (high - low)
        return round(_LEFT + across * (_RIGHT - _LEFT), 2), round(_BOTTOM - up * (_BOTTOM - _TOP), 2)


def build_charts(curves: Sequence[Mapping[str, Any]], x_name: str = "training step") -> list[Chart]:
    """Group a report's curves by metric; values that are not finite are left out. `x_name` says what runs along."""
    by_metric: dict[str, list[tuple[str, tuple[Point, ...]]]] = {}
    for curve in curves:
        points = tuple((step, value) for step, value in curve["points"] if _is_finite(value))
        if points:
            by_metric.setdefault(curve["metric"], []).append((curve["stage"], points))
    charts = []
    for metric, series in by_metric.items():
        steps = [step for _, points in series for step, _ in points]
        values = [value for _, points in series for _, value in points]
        x_range = (min(steps), max(steps)) if min(steps) < max(steps) else (steps[0] - 1, steps[0] + 1)
        charts.append(Chart(metric, tuple(series), x_range, nice_ticks(min(values), max(values)), x_name))
    return charts


def nice_ticks(low: float, high: float, count: int = 4) -> tuple[float, ...]:
    """Return about `count` round numbers whose first and last enclose both bounds."""
    if low == high:
        margin = abs(low) / 10 or 1.0
        low, high = low - margin, high + margin
    wanted = (high - low) / count
    magnitude = 10.0 ** math.floor(math.log10(wanted))
    step = next(factor * magnitude for factor in (1, 2, 5, 10) if factor * magnitude >= wanted)
    first, last = math.floor(low / step), math.ceil(high / step)
    return tuple(float(f"{index * step:.12g}") for index in range(first, last + 1))


def hover_data(charts: Sequence[Chart]) -> list[list[dict[str, Any]]]:
    """Return, for each chart, its series with their points as `[x, y, step, value]`, x and y in SVG units."""
    return [
        [
            {"stage": label(stage), "points": [[*chart.place(point), *point] for point in points]}
            for stage, points in chart.series
        ]
        for chart in charts
    ]


def draw_charts(charts: Sequence[Chart]) -> Markup:
    """Return the charts as figures, in order, and say what a bold and a faint line are."""
    if not charts:
        return Markup()
    figures = tag("div", *(_draw_figure(chart, index) for index, chart in enumerate(charts)), class_="charts")
    is_smoothed = any(len(points) >= _SMOOTHED_FROM for chart in charts for _, points in chart.series)
    note = "Faint lines are as measured, bold ones the moving mean over a tenth of the curve."
    return join((figures, tag("p", note) if is_smoothed else ""))


def draw_charts_file(charts: Sequence[Chart]) -> str:
    """Return the charts side by side as a picture that is a file of its own."""
    panels = []
    for index, chart in enumerate(charts):
        row, column = divmod(index, _FILE_COLUMNS)
        place = f"translate({column * _WIDTH} {row * (_HEIGHT + _HEADING)})"
        legend = join(
            tag("tspan", f"{label(stage)}  ", class_=f"series-{_colour(number)}")
            for number, (stage, _) in enumerate(chart.series)
        )
        panels.append(
            tag(
                "g",
                tag("text", label(chart.metric), x=_LEFT, y=18, class_="title"),
                tag("text", legend, x=_LEFT, y=34),
                tag("g", *_draw_axes(chart), *_draw_lines(chart), transform=f"translate(0 {_HEADING})"),
                transform=place,
            )
        )
    rows = -(-len(charts) // _FILE_COLUMNS)
    return svg_file(_FILE_STYLE, _FILE_COLUMNS * _WIDTH, rows * (_HEIGHT + _HEADING), *panels)


def _draw_figure(chart: Chart, index: int) -> Markup:
    name = label(chart.metric)
    legend = join(
        tag("li", tag("i", class_=f"series-{_colour(number)}"), label(stage))
        for number, (stage, _) in enumerate(chart.series)
    )
    return tag(
        "figure",
        tag("figcaption", tag("strong", name), tag("ul", legend, class_="legend")),
        _draw_svg(chart, index, f"{name} by {chart.x_name}. {_summarise(chart)}"),
        tag("output", class_="tip"),
        class_="chart",
    )


def _draw_svg(chart: Chart, index: int, description: str) -> Markup:
    cursor = tag("line", class_="cursor", y1=_TOP, y2=_BOTTOM, visibility="hidden")
    parts = (*_draw_axes(chart), *_draw_lines(chart), cursor)
    return tag(
        "svg", *parts, viewBox=f"0 0 {_WIDTH} {_HEIGHT}", role="img", aria_label=description, data_chart=index
    )


def _draw_lines(chart: Chart) -> list[Markup]:
    lines = []
    for number, (_, points) in enumerate(chart.series):
        placed = [chart.place(point) for point in points]
        colour = f"series-{_colour(number)}"
        smooth = _smooth(placed)
        if smooth != placed:
            lines.append(_draw_line(placed, f"{colour} raw"))
        lines.append(_draw_line(smooth, colour))
    return lines


def _draw_axes(chart: Chart) -> list[Markup]:
    first, last = chart.x_range
    parts = []
    for tick in chart.y_ticks:
        _, y = chart.place((first, tick))
        parts.append(tag("line", class_="grid", x1=_LEFT, x2=_RIGHT, y1=y, y2=y))
        parts.append(tag("text", f"{tick:,g}", x=_LEFT - 8, y=y + 4, text_anchor="end"))
    for tick in nice_ticks(first, last):
        if first <= tick <= last:
            x, _ = chart.place((tick, chart.y_ticks[0]))
            parts.append(tag("line", class_="axis", x1=x, x2=x, y1=_BOTTOM, y2=_BOTTOM + 4))
            parts.append(tag("text", f"{tick:,g}", x=x, y=_BOTTOM + 18, text_anchor="middle"))
    parts.append(tag("line", class_="axis", x1=_LEFT, x2=_RIGHT, y1=_BOTTOM, y2=_BOTTOM))
    middle = (_LEFT + _RIGHT) / 2
    parts.append(tag("text", chart.x_name, x=middle, y=_BOTTOM + 38, text_anchor="middle"))
    return parts


def _draw_line(placed: Sequence[Point], class_name: str) -> Markup:
    if len(placed) == 1:
        return tag("circle", class_=f"{class_name} dot", cx=placed[0][0], cy=placed[0][1], r=3)
    return tag("polyline", class_=class_name, points=" ".join(f"{x:g},{y:g}" for x, y in placed))


def _smooth(placed: list[Point]) -> list[Point]:
    """Return the moving mean over a tenth of the curve, centred; a short curve as it is."""
    if len(placed) < _SMOOTHED_FROM:
        return placed
    reach = len(placed) // 20
    heights = [y for _, y in placed]
    windows = (heights[max(0, index - reach) : index + reach + 1] for index in range(len(placed)))
    return [(x, round(sum(window) / len(window), 2)) for (x, _), window in zip(placed, windows, strict=True)]


def _summarise(chart: Chart) -> str:
    return "; ".join(
        f"{label(stage)}: {points[0][1]:.3g} at step {points[0][0]:g}, "
        f"{points[-1][1]:.3g} at step {points[-1][0]:g}"
        for stage, points in chart.series
    )


def _colour(number: int) -> int:
    return number % _COLOURS + 1


def _is_finite(value: float | None) -> bool:
    return value is not None and math.isfinite(value)
