"""Confidence intervals of means, by the bootstrap.

A score over fifty questions moves by several points from chance alone; every reported number carries its
interval. Comparing two systems on the same questions is done on the differences per question, which is far
sharper than comparing two intervals (percentile bootstrap; Efron and Tibshirani 1993, chapter 13).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from masksearch_agent.errors import EvaluationError, needs_extra

__all__ = ("Interval", "bootstrap_mean", "paired_difference")

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
    values: Sequence[float], seed: int = 0, samples: int = 2000, confidence: float = 0.95
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
    generator = np.random.default_rng(seed)
    rows = max(1, _MAX_DRAWS_AT_ONCE // len(scores))
    means = np.concatenate(
        [
            scores[generator.integers(len(scores), size=(min(rows, samples - start), len(scores)))].mean(
                axis=1
            )
            for start in range(0, samples, rows)
        ]
    )
    tail = (1 - confidence) / 2
    low, high = np.quantile(means, [tail, 1 - tail])
    return Interval(float(scores.mean()), float(low), float(high))


def paired_difference(
    after: Sequence[float],
    before: Sequence[float],
    seed: int = 0,
    samples: int = 2000,
    confidence: float = 0.95,
) -> Interval:
    """Return the mean gain of `after` over `before` with its interval; a gain is sure where `low` is above 0.

    Args:
        after: One score per question.
        before: The scores of the other system on the same questions, in the same order.
        seed: Of the resampling.
        samples: Number of resamples.
        confidence: Share of resampled means inside the interval.

    Raises:
        EvaluationError: If the two do not have the same, positive number of scores.
    """
    if len(after) != len(before):
        raise EvaluationError(
            f"cannot pair {len(after)} scores with {len(before)}; score both systems on the same questions"
        )
    return bootstrap_mean([a - b for a, b in zip(after, before, strict=True)], seed, samples, confidence)
