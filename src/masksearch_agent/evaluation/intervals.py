"""Confidence intervals of means, by the bootstrap.

A score over fifty questions moves by several points from chance alone; every reported number carries its
interval. Comparing two systems on the same questions is done on the differences per question, which is far
sharper than comparing two intervals (percentile bootstrap; Efron and Tibshirani 1993, chapter 13).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from masksearch_agent.errors import EvaluationError, needs_extra

__all__ = ("Interval", "bootstrap_mean", "bootstrap_over_runs", "paired_difference")

_CONFIDENCE = 0.95
_MAX_DRAWS_AT_ONCE = 4_000_000
"""Bounds memory: 32 MB of indices."""


@dataclass(frozen=True, slots=True)
class Interval:
    """A mean and its confidence interval."""

    mean: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.mean:.3f} [{self.low:.3f}, {self.high:.3f}]"


def bootstrap_mean(
    values: Sequence[float], seed: int = 0, samples: int = 2000, confidence: float = _CONFIDENCE
) -> Interval:
    """Return the mean of the values with its percentile bootstrap interval.

    Args:
        values: One score per question.
        seed: Of the resampling; the same seed gives the same interval.
        samples: Number of resamples.
        confidence: Share of resampled means inside the interval.

    Raises:
        EvaluationError: If there are no values.
        MissingExtraError: If numpy is not installed.
    """
    with needs_extra("eval"):
        import numpy as np
    if not values:
        raise EvaluationError("cannot average no scores; expected at least one question")
    scores = np.asarray(values, dtype=np.float64)
    means = _resampled_means(scores, samples, np.random.default_rng(seed))
    return _interval(float(scores.mean()), means, confidence)


def bootstrap_over_runs(runs: Sequence[Sequence[float]], seed: int = 0, samples: int = 2000) -> Interval:
    """Return the mean over several runs with a 95% interval that holds for another run and for other questions.

    A two-level bootstrap: runs are drawn with replacement, then the questions of each drawn run (Davison and Hinkley
    1997, section 3.8). Every run counts alike. With few runs the interval is on the narrow side, because the spread
    between runs is taken from those few; with one it is `bootstrap_mean`'s kind, which knows nothing of other runs.

    Args:
        runs: For each run, such as a training seed, one score (or paired difference) per question.
        seed: Of the resampling.
        samples: Number of resamples.

    Raises:
        EvaluationError: If there is no run, or one without scores.
        MissingExtraError: If numpy is not installed.
    """
    with needs_extra("eval"):
        import numpy as np
    if not runs or not all(runs):
        raise EvaluationError("cannot average no scores; expected at least one question in every run")
    generator = np.random.default_rng(seed)
    scores = [np.asarray(values, dtype=np.float64) for values in runs]
    drawn = generator.integers(len(scores), size=(samples, len(scores)))
    means = np.empty(drawn.shape)
    for number, values in enumerate(scores):
        is_drawn = drawn == number
        means[is_drawn] = _resampled_means(values, int(is_drawn.sum()), generator)
    return _interval(float(np.mean([values.mean() for values in scores])), means.mean(axis=1), _CONFIDENCE)


def paired_difference(
    after: Sequence[float], before: Sequence[float], seed: int = 0, samples: int = 2000
) -> Interval:
    """Return the mean gain of `after` over `before` with its 95% interval; a gain is sure where `low` is above 0.

    Args:
        after: One score per question.
        before: The scores of the other system on the same questions, in the same order.
        seed: Of the resampling.
        samples: Number of resamples.

    Raises:
        EvaluationError: If the two do not have the same, positive number of scores.
    """
    if len(after) != len(before):
        raise EvaluationError(
            f"cannot pair {len(after)} scores with {len(before)}; score both systems on the same questions"
        )
    return bootstrap_mean([a - b for a, b in zip(after, before, strict=True)], seed, samples)


def _resampled_means(scores: Any, samples: int, generator: Any) -> Any:
    """Return `(samples,)` means of scores drawn with replacement."""
    import numpy as np

    rows = max(1, _MAX_DRAWS_AT_ONCE // len(scores))
    drawn = [
        scores[generator.integers(len(scores), size=(min(rows, samples - start), len(scores)))].mean(axis=1)
        for start in range(0, samples, rows)
    ]
    return np.concatenate(drawn) if drawn else np.empty(0)


def _interval(mean: float, means: Any, confidence: float) -> Interval:
    import numpy as np

    tail = (1 - confidence) / 2
    low, high = np.quantile(means, [tail, 1 - tail])
    return Interval(mean, float(low), float(high))
