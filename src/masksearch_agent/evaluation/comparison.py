"""Two runs on the same questions: what got better, what got worse, and whether the difference is more than chance."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from masksearch_agent.config.evaluation import EvaluationSettings
from masksearch_agent.errors import EvaluationError
from masksearch_agent.evaluation.intervals import Interval, bootstrap_over_runs, paired_difference
from masksearch_agent.evaluation.results import QuestionResult, read_results

__all__ = (
    "Change",
    "Comparison",
    "Metric",
    "Score",
    "compare",
    "compare_files",
    "gain_over_runs",
    "pair_up",
    "score_of",
)

Metric = Literal["recall", "em", "f1", "loose", "judge", "gold_recall"]

_SCORES: Mapping[Metric, Callable[[QuestionResult], float | None]] = {
    "recall": lambda result: result.recall,
    "em": lambda result: result.em,
    "f1": lambda result: result.f1,
    "loose": lambda result: result.loose,
    "judge": lambda result: result.verdict,
    "gold_recall": lambda result: result.gold_recall,
}


Score = Callable[[QuestionResult], float | None]
"""What a question scores; None where it has no score."""


def score_of(result: QuestionResult, metric: Metric) -> float | None:
    """Return a question's score; None where it has none."""
    return _SCORES[metric](result)


@dataclass(frozen=True, slots=True)
class Change:
    """A question in two runs."""

    task_id: str
    question: str
    gold: tuple[str, ...]
    before: float
    after: float
    answer_before: str
    answer_after: str
    trajectory_before: str
    """Id of the trajectory behind the answer; empty where none was kept."""
    trajectory_after: str

    @property
    def gain(self) -> float:
        """Score after minus score before."""
        return self.after - self.before


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two runs, question by question."""

    metric: Metric
    n: int
    """Questions that both runs answered."""
    before: float
    after: float
    gain: Interval
    """Of the mean paired difference; sure where its interval leaves out 0."""
    better: tuple[Change, ...]
    """Largest gain first."""
    worse: tuple[Change, ...]
    """Largest loss first."""
    only_before: int
    """Questions that only one run answered; they are in no average."""
    only_after: int

    @property
    def is_significant(self) -> bool:
        """Whether the interval of the gain leaves out 0."""
        return self.gain.low > 0 or self.gain.high < 0


def compare(
    before: Sequence[QuestionResult],
    after: Sequence[QuestionResult],
    metric: Metric = "recall",
    settings: EvaluationSettings | None = None,
    score: Score | None = None,
) -> Comparison:
    """Compare two runs on the questions that both answered.

    Args:
        before: Results of one run.
        after: Results of the other.
        metric: The score to compare; questions that lack it in either run are left out.
        settings: Seed and number of resamples of the interval.
        score: Takes the place of the metric's, for a score of your own.

    Raises:
        EvaluationError: The runs share no scored question, or a question of one is another one in the other.
    """
    settings = settings or EvaluationSettings()
    pairs = pair_up(before, after, score or _SCORES[metric])
    if not pairs:
        raise EvaluationError(
            f"the runs share no question with a {metric} score ({len(before)} and {len(after)} questions); compare "
            f"runs over the same file"
        )
    first, second = ({result.task_id for result in results} for results in (before, after))
    old_scores, new_scores = [change.before for change in pairs], [change.after for change in pairs]
    changed = sorted((change for change in pairs if change.gain), key=lambda change: -abs(change.gain))
    return Comparison(
        metric=metric,
        n=len(pairs),
        before=sum(old_scores) / len(pairs),
        after=sum(new_scores) / len(pairs),
        gain=paired_difference(new_scores, old_scores, settings.seed, settings.bootstrap_samples),
        better=tuple(change for change in changed if change.gain > 0),
        worse=tuple(change for change in changed if change.gain < 0),
        only_before=len(first - second),
        only_after=len(second - first),
    )


def pair_up(before: Sequence[QuestionResult], after: Sequence[QuestionResult], score: Score) -> list[Change]:
    """Return each question that both runs answered and that has a score in both.

    Raises:
        EvaluationError: A question of one is another one in the other.
    """
    second = {result.task_id: result for result in after}
    pairs = []
    for old in before:
        new = second.get(old.task_id)
        if new is None:
            continue
        if (old.question, old.gold) != (new.question, new.gold):
            raise EvaluationError(
                f"the runs asked different questions under the id {old.task_id!r} ({old.question!r} and "
                f"{new.question!r}); compare runs over the same file"
            )
        old_score, new_score = score(old), score(new)
        if old_score is not None and new_score is not None:
            pairs.append(_change(old, new, old_score, new_score))
    return pairs


def compare_files(
    before: Path, after: Path, metric: Metric = "recall", settings: EvaluationSettings | None = None
) -> Comparison:
    """Compare two result files, as `masksearch eval --out` writes them; see `compare`."""
    return compare(read_results(before), read_results(after), metric, settings)


def gain_over_runs(
    runs: Sequence[Sequence[tuple[Sequence[QuestionResult], Sequence[QuestionResult]]]],
    score: Callable[[QuestionResult], float],
    settings: EvaluationSettings,
) -> Interval:
    """Return the mean gain over several runs, with an interval that holds for other runs and other questions.

    Args:
        runs: For each run, such as a training seed, pairs of results (before, after) on the same questions; a
            question's gain is its mean over the pairs.
        score: What a question scores.
        settings: Seed and number of resamples of the interval.

    Raises:
        EvaluationError: There is no run, or two results of a run are of different questions.
    """
    return bootstrap_over_runs(
        [_gains(pairs, score) for pairs in runs], settings.seed, settings.bootstrap_samples
    )


def _gains(
    pairs: Sequence[tuple[Sequence[QuestionResult], Sequence[QuestionResult]]],
    score: Callable[[QuestionResult], float],
) -> list[float]:
    """Return, for each question in the order of the first pair's `after`, the mean over the pairs of what it gained."""
    sides = [[{r.task_id: score(r) for r in results} for results in pair] for pair in pairs]
    asked = {result.task_id: 0.0 for result in pairs[0][1]} if pairs else {}
    if any(side.keys() != asked.keys() for pair in sides for side in pair):
        raise EvaluationError("the runs were asked different questions; compare runs over the same files")
    return [sum(after[task] - before[task] for before, after in sides) / len(sides) for task in asked]


def _change(old: QuestionResult, new: QuestionResult, before: float, after: float) -> Change:
    return Change(
        task_id=old.task_id,
        question=old.question,
        gold=old.gold,
        before=before,
        after=after,
        answer_before=old.answer,
        answer_after=new.answer,
        trajectory_before=old.trajectory.id if old.trajectory else "",
        trajectory_after=new.trajectory.id if new.trajectory else "",
    )
