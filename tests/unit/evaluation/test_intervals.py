from __future__ import annotations

import sys

import pytest

from masksearch_agent.errors import EvaluationError, MissingExtraError
from masksearch_agent.evaluation.intervals import (
    Interval,
    bootstrap_mean,
    bootstrap_over_runs,
    paired_difference,
)


def test_the_interval_matches_the_normal_approximation() -> None:
    values = [1.0] * 300 + [0.0] * 700
    interval = bootstrap_mean(values)
    standard_error = (0.3 * 0.7 / 1000) ** 0.5
    assert interval.mean == 0.3
    assert interval.low == pytest.approx(0.3 - 1.96 * standard_error, abs=0.004)
    assert interval.high == pytest.approx(0.3 + 1.96 * standard_error, abs=0.004)


def test_less_confidence_is_a_narrower_interval() -> None:
    values = [0.0, 1.0] * 50
    wide, narrow = bootstrap_mean(values), bootstrap_mean(values, confidence=0.5)
    assert wide.low < narrow.low < 0.5 < narrow.high < wide.high


def test_the_seed_decides_the_interval() -> None:
    values = [index / 37 for index in range(37)]
    assert bootstrap_mean(values, seed=1) == bootstrap_mean(values, seed=1)
    assert bootstrap_mean(values, seed=1) != bootstrap_mean(values, seed=2)


def test_many_values_are_resampled_in_parts() -> None:
    values = [0.0, 1.0] * 30_000
    interval = bootstrap_mean(values, samples=200)
    assert interval.mean == 0.5
    assert interval.high - interval.low == pytest.approx(2 * 1.96 * 0.5 / 60_000**0.5, rel=0.25)


def test_equal_values_leave_no_doubt() -> None:
    assert bootstrap_mean([0.5, 0.5, 0.5]) == Interval(0.5, 0.5, 0.5)


def test_pairing_sees_a_gain_that_the_separate_intervals_hide() -> None:
    before = [index / 50 for index in range(50)]
    after = [value + 0.05 for value in before]
    gain = paired_difference(after, before)
    assert gain.mean == pytest.approx(0.05)
    assert gain.low > 0.04
    assert bootstrap_mean(after).low < bootstrap_mean(before).high


def test_the_spread_between_runs_widens_the_interval() -> None:
    alike = [[0.0, 1.0] * 100] * 4
    apart = [[number / 3] * 200 for number in range(4)]
    narrow, wide = bootstrap_over_runs(alike), bootstrap_over_runs(apart)
    assert (narrow.mean, wide.mean) == pytest.approx((0.5, 0.5))
    # Means of four runs out of 0, 1/3, 2/3 and 1: standard error 0.373 / 2; of their 800 questions: 0.018.
    assert wide.high - wide.low == pytest.approx(2 * 1.96 * 0.186, rel=0.15)
    assert narrow.high - narrow.low == pytest.approx(2 * 1.96 * 0.5 / 800**0.5, rel=0.15)


def test_one_run_has_the_interval_of_its_questions() -> None:
    values = [1.0] * 30 + [0.0] * 70
    one, known = bootstrap_over_runs([values], samples=4000), bootstrap_mean(values, samples=4000)
    assert one.mean == known.mean
    assert (one.low, one.high) == pytest.approx((known.low, known.high), abs=0.011)


def test_runs_count_alike_whatever_their_number_of_questions() -> None:
    assert bootstrap_over_runs([[0.0], [1.0] * 99]).mean == 0.5


def test_scores_that_cannot_be_averaged_are_errors() -> None:
    for runs in ([], [[0.5], []]):
        with pytest.raises(EvaluationError, match="at least one question in every run"):
            bootstrap_over_runs(runs)
    with pytest.raises(EvaluationError, match="at least one question"):
        bootstrap_mean([])
    with pytest.raises(EvaluationError, match="cannot pair 2 scores with 1"):
        paired_difference([1.0, 0.0], [1.0])


def test_missing_numpy_names_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "numpy", None)
    with pytest.raises(MissingExtraError, match="numpy is not installed"):
        bootstrap_mean([1.0])


def test_an_interval_reads_as_mean_and_bounds() -> None:
    assert str(Interval(0.5, 0.25, 0.75)) == "0.500 [0.250, 0.750]"
