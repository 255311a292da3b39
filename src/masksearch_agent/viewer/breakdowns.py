"""Scores by a whole number, such as hops or searches: one figure each, a dot with its interval an agent.

Below the axis stands how many questions are behind each dot, because a mean of three questions says little.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from masksearch_agent.viewer.markup import Markup, tag
from masksearch_agent.viewer.tables import label

__all__ = ("draw_breakdown",)

_WIDTH = 440
_LEFT, _RIGHT, _TOP, _BOTTOM = 48, 428, 12, 190
_COUNTS_FROM, _LINE = _BOTTOM + 60, 17
_SHIFT = 9
"""Between the dots of two agents over one number, so that their intervals stay apart."""
_COLOURS = 5


def draw_breakdown(breakdown: Mapping[str, Any]) -> Markup:
    """Return the figure of one breakdown.

    Args:
        breakdown: `title`; `unit`, what the numbers count; and `series` by agent, each a list of bins with `name`, `n`,
            `mean`, `low` and `high` (scores from 0 to 1). Every agent's bins have the same names in the same order, of
            which it may lack some (`n` is 0).
    """
    series: Mapping[str, Sequence[Mapping[str, Any]]] = breakdown["series"]
    legend = (
        tag("li", tag("i", class_=_colour(number)), label(agent)) for number, agent in enumerate(series)
    )
    return tag(
        "figure",
        tag("figcaption", tag("strong", breakdown["title"]), tag("ul", *legend, class_="legend")),
        _draw_svg(breakdown, series),
        class_="chart",
    )


def _draw_svg(breakdown: Mapping[str, Any], series: Mapping[str, Sequence[Mapping[str, Any]]]) -> Markup:
    names = [bin_["name"] for bin_ in next(iter(series.values()))]
    across = [_LEFT + (_RIGHT - _LEFT) * (index + 0.5) / len(names) for index in range(len(names))]
    parts = _draw_axes(names, across, breakdown["unit"])
    parts.append(tag("text", "n", x=_LEFT - 8, y=_COUNTS_FROM, text_anchor="end"))
    for number, bins in enumerate(series.values()):
        shift = _SHIFT * (number - (len(series) - 1) / 2)
        known = [(x + shift, bin_) for x, bin_ in zip(across, bins, strict=True) if bin_["n"]]
        dots = [_draw_dot(x, bin_, breakdown["unit"]) for x, bin_ in known]
        points = " ".join(f"{x:g},{_up(bin_['mean']):g}" for x, bin_ in known)
        parts.append(tag("g", tag("polyline", points=points, class_="raw"), *dots, class_=_colour(number)))
        parts += [
            tag(
                "text", f"{bin_['n']:,}", x=round(x, 2), y=_COUNTS_FROM + number * _LINE, text_anchor="middle",
                class_=f"count-of {_colour(number)}" if len(series) > 1 else None,
            )
            for x, bin_ in zip(across, bins, strict=True)
        ]  # fmt: skip
    height = _COUNTS_FROM + len(series) * _LINE - 8
    return tag(
        "svg", *parts, viewBox=f"0 0 {_WIDTH} {height}", role="img", aria_label=_describe(breakdown, series)
    )


def _draw_axes(names: Sequence[str], across: Sequence[float], unit: str) -> list[Markup]:
    parts = []
    for tick in (0, 0.25, 0.5, 0.75, 1):
        y = _up(tick)
        parts.append(tag("line", class_="grid", x1=_LEFT, x2=_RIGHT, y1=y, y2=y))
        parts.append(tag("text", f"{tick:g}", x=_LEFT - 8, y=y + 4, text_anchor="end"))
    for name, x in zip(names, across, strict=True):
        parts.append(tag("text", name, x=round(x, 2), y=_BOTTOM + 18, text_anchor="middle"))
    parts.append(tag("line", class_="axis", x1=_LEFT, x2=_RIGHT, y1=_BOTTOM, y2=_BOTTOM))
    middle = (_LEFT + _RIGHT) / 2
    parts.append(tag("text", unit, x=middle, y=_BOTTOM + 37, text_anchor="middle"))
    return parts


def _draw_dot(x: float, bin_: Mapping[str, Any], unit: str) -> Markup:
    x = round(x, 2)
    return tag(
        "g",
        tag("title", _say(bin_, unit)),
        tag("line", class_="whisker", x1=x, x2=x, y1=_up(bin_["low"]), y2=_up(bin_["high"])),
        tag("circle", class_="dot", cx=x, cy=_up(bin_["mean"]), r=4),
    )


def _up(score: float) -> float:
    return round(_BOTTOM - score * (_BOTTOM - _TOP), 2)


def _say(bin_: Mapping[str, Any], unit: str) -> str:
    interval = f"{bin_['low']:.2f} to {bin_['high']:.2f}"
    return f"{unit} {bin_['name']}: {bin_['mean']:.2f} (95% {interval}), n = {bin_['n']:,}"


def _describe(breakdown: Mapping[str, Any], series: Mapping[str, Sequence[Mapping[str, Any]]]) -> str:
    told = (
        f"{label(agent)}: {'; '.join(_say(bin_, breakdown['unit']) for bin_ in bins if bin_['n'])}"
        for agent, bins in series.items()
    )
    return f"{breakdown['title']}. {'. '.join(told)}."


def _colour(number: int) -> str:
    return f"series-{number % _COLOURS + 1}"
