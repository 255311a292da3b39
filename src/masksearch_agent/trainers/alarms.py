"""When a training run goes wrong, as its log tells it.

All of it is read from the entries that a trainer keeps in its state, which a checkpoint holds: a run that is resumed
comes to the same conclusions as one that was not stopped.

Falling likelihood of right answers comes before a collapse (LLDS, arXiv 2512.04220), so it is watched beside the score.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from masksearch_agent.config.trainers import AlarmName, MonitorSettings

__all__ = ("ANSWER_LOGPROB", "EXAM_FAILED", "EXAM_SCORE", "Alarm", "Standing", "find_alarms", "find_standing")

EXAM_SCORE = "exam/recall"
"""The entry by which weights are compared."""
ANSWER_LOGPROB = "exam/answer_logprob"
EXAM_FAILED = "exam/failed"
"""The entry that counts the tasks of an exam that could not be run."""

_LIKELIHOOD_DROP = 0.5
"""Nats a token below its best: right answers have become less than 0.6 times as likely, token by token."""
_MIN_ENTROPY = 0.01
"""Nats a token, under which a group's rollouts are all but copies of each other."""
_STEPS_IN_A_ROW = 5
"""Of DAPO, without entropy or without a right answer: single steps may be bad luck."""

Log = Sequence[Mapping[str, Any]]
"""Entries of a trainer's log, each with its `step`."""


@dataclass(frozen=True, slots=True)
class Alarm:
    """Something that went wrong."""

    name: AlarmName
    step: int
    text: str
    """The number that told it."""


@dataclass(frozen=True, slots=True)
class Standing:
    """How the exam went so far."""

    step: int
    """Of the last exam."""
    score: float
    best_step: int
    """Of equal scores the latest: what trained longer saw more."""
    best_score: float


def find_standing(log: Log) -> Standing | None:
    """Return how the exam went so far; None before the first."""
    scores = _values(log, EXAM_SCORE)
    if not scores:
        return None
    best_step, best_score = max(scores, key=lambda scored: (scored[1], scored[0]))
    return Standing(*scores[-1], best_step, best_score)


def find_alarms(log: Log, settings: MonitorSettings) -> list[Alarm]:
    """Return the alarms of a run so far; one that lasts is raised once."""
    return [
        *_falls(log, "exam", EXAM_SCORE, "exam recall", settings.tolerance, settings.patience),
        *_falls(
            log, "likelihood", ANSWER_LOGPROB, "the mean log-probability of right answers", _LIKELIHOOD_DROP,
            settings.patience,
        ),
        *_streaks(
            log, "entropy", "entropy", _has_no_entropy,
            f"the entropy of sampled tokens was {{value:.2g}} nats after {_STEPS_IN_A_ROW} steps in a row below "
            f"{_MIN_ENTROPY:g}",
        ),
        *_streaks(
            log, "all_wrong", "dapo/groups_all_wrong", _is_all_wrong,
            f"not one rollout was right at all in {_STEPS_IN_A_ROW} steps in a row ({{value:.0f}} groups in the last)",
        ),
        *_non_finite(log),
    ]  # fmt: skip


def _falls(
    log: Log, name: AlarmName, metric: str, words: str, tolerance: float, patience: int
) -> Iterator[Alarm]:
    """Yield an alarm where a metric has been below its best by more than a tolerance for so many exams in a row."""
    best_step, best, below = 0, -math.inf, 0
    for step, value in _values(log, metric):
        if value >= best:
            best_step, best = step, value
        below = below + 1 if value < best - tolerance else 0
        if below == patience:
            exams = "1 exam" if patience == 1 else f"{patience} exams in a row"
            yield Alarm(
                name,
                step,
                f"step {step}: {words} is {value:.3f}, more than {tolerance:g} below its best ({best:.3f} at step "
                f"{best_step}) in {exams}",
            )


def _streaks(
    log: Log,
    name: AlarmName,
    metric: str,
    is_bad: Callable[[float, Mapping[str, Any]], bool],
    words: str,
) -> Iterator[Alarm]:
    """Yield an alarm where steps of DAPO are bad several times in a row."""
    bad = 0
    for entry in log:
        if "dapo/groups_sampled" not in entry or (value := entry.get(metric)) is None:
            continue
        bad = bad + 1 if is_bad(value, entry) else 0
        if bad == _STEPS_IN_A_ROW:
            step = int(entry["step"])
            yield Alarm(name, step, f"step {step}: {words.format(value=value)}")


def _has_no_entropy(entropy: float, entry: Mapping[str, Any]) -> bool:
    # Where no group was useful, no token was trained, and the mean over none is 0.
    return entropy < _MIN_ENTROPY and bool(entry.get("dapo/trained_tokens"))


def _is_all_wrong(wrong: float, entry: Mapping[str, Any]) -> bool:
    scored = entry["dapo/groups_sampled"] - (entry.get("dapo/groups_unscorable") or 0)
    return bool(scored > 0 and wrong >= scored)


def _non_finite(log: Log) -> Iterator[Alarm]:
    """Yield an alarm at the first loss or gradient that is no number; after it, none is."""
    for entry in log:
        for metric in ("loss", "grad_norm"):
            value = entry.get(metric)
            if value is not None and not math.isfinite(value):
                step = int(entry["step"])
                yield Alarm("non_finite", step, f"step {step}: {metric} is {value}")
                return


def _values(log: Log, metric: str) -> list[tuple[int, float]]:
    return [(int(entry["step"]), entry[metric]) for entry in log if entry.get(metric) is not None]
