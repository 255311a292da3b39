"""Makes report records of what a run left: results, traces, metrics."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path

from masksearch_agent.config.evaluation import EvaluationSettings
from masksearch_agent.evaluation.comparison import Metric, compare
from masksearch_agent.evaluation.intervals import bootstrap_mean
from masksearch_agent.evaluation.results import QuestionResult
from masksearch_agent.evaluation.runner import summarise
from masksearch_agent.records import Message
from masksearch_agent.reports.records import Curve, Difference, Generation, Sample, Score
from masksearch_agent.traces.store import TraceStore
from masksearch_agent.trainers.callbacks import read_metrics

__all__ = ("Said", "ScoredRuns", "curves_of", "generation_of", "sample_of")

Said = Callable[[str, QuestionResult], float]
"""The recall of what a model wrote last on a question of a dataset."""

_METRICS = {
    "loss": "loss",
    "rewards/answer": "answer reward (recall)",
    "rewards/format": "format reward",
    "rewards/total": "total reward",
    "exam/recall": "exam recall",
    "exam/em": "exam exact match",
    "exam/well_formed": "exam: well-formed steps",
    "exam/answer_logprob": "exam: log-probability of right answers",
    "exam/entropy": "exam: entropy, nats a token",
    "exam/sampled_tokens": "exam: tokens sampled a run",
    "exam/answer_tokens": "exam: tokens of an answer",
}


class ScoredRuns:
    """The results of a run's agents, to be summed up and compared.

    Args:
        results: By agent and dataset.
        settings: Seed and number of resamples of the intervals.
        said: Scores what models wrote last as well.
    """

    def __init__(
        self,
        results: Mapping[str, Mapping[str, Sequence[QuestionResult]]],
        settings: EvaluationSettings,
        said: Said | None = None,
    ) -> None:
        self.results = results
        self.settings = settings
        self.said = said

    def scores(self) -> tuple[Score, ...]:
        """Return every agent's score on every dataset."""
        return tuple(
            self._score(agent, dataset, results)
            for agent, sets in self.results.items()
            for dataset, results in sets.items()
        )

    def differences(
        self, pairs: Iterable[tuple[str, str, str]], metric: Metric = "recall"
    ) -> tuple[Difference, ...]:
        """Return the paired differences between agents (after, before) on a dataset, where both answered."""
        return tuple(
            self._difference(after, before, dataset, metric)
            for after, before, dataset in pairs
            if dataset in self.results.get(after, {}) and dataset in self.results.get(before, {})
        )

    def _score(self, agent: str, dataset: str, results: Sequence[QuestionResult]) -> Score:
        summary = summarise(results, self.settings)
        if self.said is None:
            return Score(agent, dataset, summary)
        said = [self.said(dataset, result) for result in results]
        interval = bootstrap_mean(said, self.settings.seed, self.settings.bootstrap_samples)
        answered = sum(bool(result.answer) for result in results) / len(results)
        return Score(agent, dataset, summary, interval, answered)

    def _difference(self, after: str, before: str, dataset: str, metric: Metric) -> Difference:
        old, new = (list(self.results[agent][dataset]) for agent in (before, after))
        compared, said = compare(old, new, metric, self.settings), None
        if self.said is not None and metric == "recall":
            said = compare(old, new, settings=self.settings, score=partial(self.said, dataset)).gain
        return Difference(after, before, dataset, compared.gain, compared.n, metric, said)


def generation_of(traces: Path, stage: str) -> Generation:
    """Return how many trajectories of a stage of a trace store were accepted, and why the others were not."""
    with TraceStore(traces) as store:
        accepted, rejected = (store.count(stage, accepted=verdict) for verdict in (True, False))
        return Generation(stage, accepted, rejected, dict(store.reasons(stage)))


def curves_of(bundles: Mapping[str, Path]) -> tuple[Curve, ...]:
    """Return the training curves of the stages that made some bundles; the names are those on the page."""
    curves = []
    for stage, folder in bundles.items():
        entries = read_metrics(folder / "metrics.jsonl")
        for metric, label in _METRICS.items():
            # The loss of DAPO says nothing about progress: its gradient does the work, at a value around zero.
            points = tuple(
                (entry["step"], entry[metric])
                for entry in entries
                if metric in entry and not (metric == "loss" and "rewards/total" in entry)
            )
            if points:
                curves.append(Curve(stage, label, points))
    return tuple(curves)


def sample_of(result: QuestionResult, title: str) -> Sample:
    """Return a question's trajectory to read."""
    turns = result.trajectory.turns if result.trajectory is not None else ()
    return Sample(
        title=title,
        question=result.question,
        gold=result.gold,
        answer=result.answer,
        recall=result.recall,
        stop_reason=result.stop_reason,
        citations=result.trajectory.citations if result.trajectory is not None else (),
        messages=tuple(m for turn in turns for m in (*turn.context, Message("assistant", turn.text))),
    )
