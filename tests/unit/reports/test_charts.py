from __future__ import annotations

import dataclasses
import math
import re
from xml.etree import ElementTree

from masksearch_agent.evaluation.intervals import Interval
from masksearch_agent.reports.charts import (
    Bin,
    Chart,
    Mark,
    draw_bars,
    draw_breakdown,
    draw_curves,
    draw_forest,
    stack,
)
from masksearch_agent.reports.records import Curve


def labels(svg: str) -> list[str]:
    """Return what a picture says of its marks."""
    ElementTree.fromstring(svg)
    return re.findall(r'aria-label="([^"]*)" role="graphics-symbol"', svg)


def test_a_metric_has_a_chart_and_a_stage_a_line() -> None:
    curves = [
        Curve("ramp_sft", "loss", ((1, 2.0), (2, 1.0))),
        Curve("qa_sft", "loss", ((1, 3.0),)),
        Curve("ramp_dapo", "reward", ((1, 0.5), (4, 0.75))),
    ]
    loss, reward = draw_curves(curves)
    assert (loss.title, reward.title) == ("loss", "reward")
    assert "training step: 2; loss: 1; stage: RAMP SFT" in labels(loss.svg)
    assert "training step: 1; loss: 3; stage: QA SFT" in labels(loss.svg)
    assert ">training step</text>" in loss.svg
    assert ">loss</text>" in loss.svg
    assert "RAMP DAPO" not in loss.svg


def test_a_stage_has_one_colour_in_all_charts() -> None:
    curves = [
        Curve("a", "loss", ((1, 2.0),)),
        *(Curve("b", m, ((1, 1.0), (2, 2.0))) for m in ("loss", "reward")),
    ]
    loss, reward = draw_curves(curves)
    second = "#c8641b"
    assert second in loss.svg
    assert second in reward.svg
    assert "#0b6e69" not in reward.svg


def test_values_that_are_not_finite_are_left_out() -> None:
    [chart] = draw_curves([Curve("a", "loss", ((1, math.nan), (2, 1.0), (3, math.inf)))])
    assert [text for text in labels(chart.svg) if "loss" in text and "step: 2" in text]
    assert not [text for text in labels(chart.svg) if "NaN" in text or "Infinity" in text]
    assert draw_curves([Curve("a", "loss", ((1, math.nan),))]) == []
    assert draw_curves([]) == []


def test_a_long_curve_is_drawn_twice_and_a_short_one_as_measured() -> None:
    points = tuple((float(step), float(step % 2)) for step in range(40))
    [long], [short] = (draw_curves([Curve("a", "loss", points[:count])]) for count in (40, 20))
    assert long.svg.count("mark-line role-mark") == 2
    assert short.svg.count("mark-line role-mark") == 1


def test_a_forest_shows_dot_and_interval_of_each_row_over_a_titled_scale() -> None:
    marks = [Mark("helps", Interval(0.25, 0.2, 0.3)), Mark("hurts <", Interval(-0.1, -0.2, 0.0))]
    svg = draw_forest(marks, "difference, 95% interval")
    told = labels(svg)
    assert [text for text in told if "0.2" in text and "high: 0.3" in text]
    assert [text for text in told if "-0.2" in text.replace("−", "-")]
    assert svg.count("mark-rule role-mark") == 2, "the line at no difference, and the intervals"
    assert ">difference, 95% interval</text>" in svg
    assert "hurts &lt;" in svg


def test_rows_of_two_series_have_a_legend() -> None:
    marks = [Mark("SFT", Interval(0.5, 0.4, 0.6), series) for series in ("in domain", "out of domain")]
    svg = draw_forest(marks, "recall", (0.0, 1.0))
    assert svg.count(">in domain</text>") == 1
    assert "legend" not in draw_forest(marks[:1], "recall", (0.0, 1.0))


def test_dots_of_a_breakdown_say_what_they_are_about() -> None:
    bins = [Bin("agentic", "1", 4, Interval(0.5, 0.25, 0.75)), Bin("agentic", "2", 0, None)]
    told = labels(draw_breakdown(bins, "hops"))
    assert [text for text in told if "0.5" in text and "agentic" in text]
    svg = draw_breakdown([*bins, Bin("rag", "2", 3, Interval(1.0, 1.0, 1.0))], "hops")
    assert "recall, 95% interval" in svg
    assert ">RAG</text>" in svg


def test_bars_stand_in_their_groups() -> None:
    svg = draw_bars(
        {"1": {"tasks": 200, "trained on": 150}, "2": {"tasks": 400, "trained on": 300}}, "round", "n"
    )
    assert [text for text in labels(svg) if "400" in text]
    assert svg.count("mark-rect role-mark") == 1


def test_charts_below_each_other_are_one_picture() -> None:
    svg = draw_forest([Mark("a", Interval(0.5, 0.4, 0.6))], "recall")
    root = ElementTree.fromstring(stack([Chart("one", svg), Chart("two", svg)]))
    assert len(root.findall("{http://www.w3.org/2000/svg}g")) == 2
    assert root.get("viewBox")
    ElementTree.fromstring(stack([]))


def test_an_agent_has_one_colour_whatever_the_chart_and_whoever_else_is_in_it() -> None:
    interval = Interval(0.5, 0.4, 0.6)
    [loss] = draw_curves([Curve("new", "loss", ((1, 2.0),)), Curve("ramp_sft", "loss", ((1, 1.0),))])
    recall = draw_breakdown([Bin(agent, "1", 4, interval) for agent in ("rag", "ramp_sft", "new")], "hops")
    for svg in (loss.svg, recall):
        assert re.search(r'stage: RAMP SFT"[^>]*stroke="#c8641b"|agent: RAMP SFT[^>]*fill="#c8641b"', svg)
        assert "#0b6e69" in svg, "the first colour that no agent here has"


def test_the_name_of_a_row_takes_no_width_from_the_scale() -> None:
    mark = Mark("A claim of so many words that it is as long as a chart is wide", Interval(0.5, 0.4, 0.6))
    for series in (("",), ("in domain", "out of domain")):
        svg = draw_forest([dataclasses.replace(mark, series=name) for name in series], "recall", (0.0, 1.0))
        width = ElementTree.fromstring(svg).get("width")
        assert width is not None
        assert float(width) <= 370, "what a telephone shows of a page without scaling"
