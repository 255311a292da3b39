from __future__ import annotations

import math

import pytest

from masksearch_agent.viewer.curves import build_charts, draw_charts, hover_data, nice_ticks


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0.0, 1.0, (0.0, 0.5, 1.0)),
        (0.0, 100.0, (0.0, 50.0, 100.0)),
        (0.13, 0.9, (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)),
        (-1.0, 2.9, (-1.0, 0.0, 1.0, 2.0, 3.0)),
        (7.0, 7.0, (6.0, 6.5, 7.0, 7.5, 8.0)),
        (0.0, 0.0, (-1.0, -0.5, 0.0, 0.5, 1.0)),
    ],
)
def test_ticks_are_round_and_enclose_the_values(low: float, high: float, expected: tuple[float, ...]) -> None:
    assert nice_ticks(low, high) == expected
    assert nice_ticks(low, high)[0] <= low <= high <= nice_ticks(low, high)[-1]


def test_stages_of_one_metric_share_a_chart() -> None:
    charts = build_charts(
        [
            {"stage": "ramp_sft", "metric": "loss", "points": [[0, 4.0], [100, 0.0]]},
            {"stage": "ramp_dapo", "metric": "reward", "points": [[5, 0.5]]},
            {"stage": "qa_sft", "metric": "loss", "points": [[50, 2.0]]},
        ]
    )
    assert [chart.metric for chart in charts] == ["loss", "reward"]
    assert hover_data(charts)[0] == [
        {"stage": "RAMP SFT", "points": [[48.0, 12.0, 0, 4.0], [428.0, 214.0, 100, 0.0]]},
        {"stage": "QA SFT", "points": [[238.0, 113.0, 50, 2.0]]},
    ]
    drawn = draw_charts(charts)
    assert drawn.count("<svg") == 2
    assert 'points="48,12 428,214"' in drawn
    assert 'cx="238.0" cy="113.0"' in drawn
    for text in ("RAMP SFT", "QA SFT", "training step", ">100</text>", ">4</text>"):
        assert text in drawn
    assert 'aria-label="loss by training step. RAMP SFT: 4 at step 0, 0 at step 100; QA SFT: 2' in drawn


def test_values_that_are_not_finite_are_left_out() -> None:
    points = [[0, math.nan], [1, 1.0], [2, math.inf], [3, None], [4, 2.0]]
    (chart,) = build_charts([{"stage": "a", "metric": "loss", "points": points}])
    assert list(chart.series) == [("a", ((1, 1.0), (4, 2.0)))]
    assert not build_charts([{"stage": "a", "metric": "loss", "points": [[0, math.nan]]}])


def test_a_noisy_curve_is_drawn_as_measured_and_smoothed_and_says_so() -> None:
    points = [[step, float(step % 2)] for step in range(40)]
    drawn = draw_charts(build_charts([{"stage": "a", "metric": "loss", "points": points}]))
    raw, smooth = drawn.split("<polyline")[1:3]
    assert raw.startswith(' class="series-1 raw"')
    assert " 428,12" in raw
    heights = [float(pair.split(",")[1]) for pair in smooth.split('points="')[1].split('"')[0].split()]
    # Five neighbours around an interior point: two or three of them are at the top.
    assert {round(height, 1) for height in heights[2:-2]} == {133.2, 92.8}
    assert "moving mean" in drawn
    assert "moving mean" not in draw_charts(
        build_charts([{"stage": "a", "metric": "loss", "points": points[:9]}])
    )


def test_a_chart_says_what_runs_along() -> None:
    [chart] = build_charts([{"stage": "a", "metric": "recall", "points": [[0, 0.1], [9, 0.2]]}], "seconds")
    drawn = str(draw_charts([chart]))
    assert ">seconds</text>" in drawn
    assert 'aria-label="recall by seconds. ' in drawn
    assert "training step" not in drawn
