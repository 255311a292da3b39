"""Runs an agent over tasks and scores every answer; resumable question by question.

Every result holds the trajectory behind it. Who answers and how is `answering`'s.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path

from masksearch_agent.benchmarks.fanoutqa import list_accuracy, load_lemmatizer
from masksearch_agent.calls.connections import close_connections
from masksearch_agent.concurrency import gather_bounded, run_many
from masksearch_agent.config.evaluation import EvaluationSettings
from masksearch_agent.errors import EvaluationError
from masksearch_agent.evaluation.answering import (
    Answered,
    Answerer,
    AnyAgent,
    BatchAgent,
    FailedAnswer,
    Mode,
    answerer_of,
    conditions_of,
)
from masksearch_agent.evaluation.intervals import Interval, bootstrap_mean
from masksearch_agent.evaluation.metrics import OwnMetric
from masksearch_agent.evaluation.results import QuestionResult, ResultLabel, append_result, check_producer
from masksearch_agent.evaluation.scoring import score_again, score_failure, score_run
from masksearch_agent.failures import Failures, kind_of
from masksearch_agent.files import holding
from masksearch_agent.judging.judge import ModelJudge
from masksearch_agent.records import SearchTask

__all__ = (
    "EvaluationSummary",
    "Mode",
    "count_failures",
    "evaluate",
    "summarise",
    "summarise_categories",
)


@dataclass(frozen=True, slots=True)
class EvaluationSummary:
    """Scores over a set of questions."""

    recall: float
    em: float
    f1: float
    n: int
    ci95: tuple[float, float]
    """95% bootstrap interval of the mean recall."""
    em_ci95: tuple[float, float]
    gold_recall: float | None
    """Share of the gold passages that were retrieved; None where no question names any."""
    searches: float
    sampled_tokens: float
    format_errors: float
    prompt_tokens: float = 0.0
    seconds: float = 0.0
    """Mean time of a question, under the run's concurrency."""
    loose: float | None = None
    """The benchmark's own metric, such as loose accuracy of lists, over the questions that have it; None where none."""
    judge: float | None = None
    """Share of the judged answers that are right; None where nobody judged."""
    judge_ci95: tuple[float, float] | None = None
    unjudged: int = 0
    """Answers without a verdict where others have one. Those that judging failed for count as wrong; the others, which
    nobody judged, are in no average of the judge."""
    failed: int = 0
    """Questions that were asked in vain or whose answer was judged in vain. They are among `n` and count as wrong; the
    means of what answers cost are without those that have none."""
    failures: Mapping[str, int] = field(default_factory=dict)
    """Why they failed."""


def evaluate(
    agent: AnyAgent,
    tasks: Sequence[SearchTask],
    settings: EvaluationSettings | None = None,
    mode: Mode = "agentic",
    results_path: Path | None = None,
    on_result: Callable[[QuestionResult], None] | None = None,
    judge: ModelJudge | None = None,
    label: ResultLabel | None = None,
    own: OwnMetric | None = None,
    retry_failed: bool = False,
) -> list[QuestionResult]:
    """Answer every task and score it. One that fails is kept with its reason, counts as wrong, and the rest goes on.

    Args:
        agent: What is evaluated; its model decodes as it is set up (greedy by default).
        tasks: RAMP tasks are run under their leak guard.
        settings: Concurrency, limit and seed.
        mode: `agentic`, or the `rag` baseline.
        results_path: JSON-lines file that receives each result at once. Answers already in it are kept where the
            question is the same, scored by the task as it is now, and not asked for again.
        on_result: Called after each result that is new or has other scores than the one that was kept.
        judge: Says of each answer whether it is right, those that were kept without a verdict included.
        label: What `results_path` is to say of itself; its name and the mode where None.
        own: The benchmark's own metric (`Benchmark.metric`); FanoutQA's loose accuracy of lists where None.
        retry_failed: Ask and judge again what failed in the kept results.

    Returns:
        One result per task, in the order of the tasks.

    Raises:
        EvaluationError: There are no tasks, two of them share an id, or the results kept in `results_path` are
            another model's or another seed's, or of answers that were searched for elsewhere or under other limits.
        ConfigError: Another process writes to `results_path`.
        ServiceError: Too many questions in a row failed because a service is down.
        MissingExtraError: The answers are lists, and spaCy, which their score needs, is not installed.
    """
    settings = settings or EvaluationSettings()
    tasks = list(tasks)[: settings.limit]
    if not tasks:
        raise EvaluationError("there are no questions to evaluate")
    _check_ids(tasks)
    own = own or list_accuracy
    if own is list_accuracy and any(task.answer_items for task in tasks):
        load_lemmatizer()  # What is missing is said before the first question is asked.
    asked_with, version = conditions_of(agent, mode), agent.model_version
    label = label or ResultLabel(results_path.stem if results_path is not None else "", mode)
    label = dataclasses.replace(
        label, mode=mode, model_version=version, seed=settings.seed, asked_with=asked_with
    )
    with holding(results_path) if results_path is not None else nullcontext():
        done = _still_asked(check_producer(results_path, version, settings.seed, asked_with), tasks)
        if retry_failed:
            done = {name: _without_verdict(kept, judge) for name, kept in done.items() if not kept.failure}
        run = _Run(answerer_of(agent, mode), settings, results_path, label, on_result, judge, own)
        if isinstance(agent, BatchAgent):
            for task, answered in agent.answer_tasks([task for task in tasks if task.id not in done]):
                run.keep(run.score(task, answered), done)
        run_many(run.work(tasks, done))
        return [done[task.id] for task in tasks]


def summarise(
    results: Sequence[QuestionResult], settings: EvaluationSettings | None = None
) -> EvaluationSummary:
    """Average the results, with bootstrap intervals."""
    settings = settings or EvaluationSettings()

    def interval(values: Sequence[float]) -> Interval:
        return bootstrap_mean(values, seed=settings.seed, samples=settings.bootstrap_samples)

    recall = interval([result.recall for result in results])
    em = interval([result.em for result in results])
    known = [result.gold_recall for result in results if result.gold_recall is not None]
    loose = [result.loose for result in results if result.loose is not None]
    verdicts = [result.verdict for result in results if result.verdict is not None]
    judged = interval(verdicts) if verdicts else None
    unjudged = sum(result.is_correct is None for result in results)
    answered = [result for result in results if not result.failure]
    failures = count_failures(results)
    return EvaluationSummary(
        recall=recall.mean,
        em=em.mean,
        f1=_mean([result.f1 for result in results]),
        n=len(results),
        ci95=(recall.low, recall.high),
        em_ci95=(em.low, em.high),
        gold_recall=_mean(known) if known else None,
        searches=_mean([result.searches for result in answered]),
        sampled_tokens=_mean([result.sampled_tokens for result in answered]),
        format_errors=_mean([result.format_errors for result in answered]),
        prompt_tokens=_mean([result.prompt_tokens for result in answered]),
        seconds=_mean([result.seconds for result in answered]),
        loose=_mean(loose) if loose else None,
        judge=judged.mean if judged else None,
        judge_ci95=(judged.low, judged.high) if judged else None,
        unjudged=unjudged if verdicts else 0,
        failed=sum(failures.values()),
        failures=failures,
    )


def count_failures(results: Sequence[QuestionResult]) -> dict[str, int]:
    """Count the questions that failed by reason, the most frequent first."""
    reasons = (kind_of(result.failure or result.judge_failure) for result in results if result.has_failed)
    return dict(Counter(reasons).most_common())


def summarise_categories(
    results: Sequence[QuestionResult], settings: EvaluationSettings | None = None
) -> dict[str, EvaluationSummary]:
    """Average the results of each category, such as FreshQA's `false-premise` and `fast-changing`."""
    categories = sorted({result.category for result in results if result.category})
    return {
        category: summarise([result for result in results if result.category == category], settings)
        for category in categories
    }


@dataclass(frozen=True)
class _Run:
    """One evaluation: what answers, judges and keeps each question."""

    answerer: Answerer
    settings: EvaluationSettings
    results_path: Path | None
    label: ResultLabel
    on_result: Callable[[QuestionResult], None] | None
    judge: ModelJudge | None
    own: OwnMetric
    failures: Failures = field(default_factory=Failures)
    judging: Failures = field(default_factory=Failures)
    """Of the judge: answers that come say nothing about it."""

    async def work(self, tasks: Sequence[SearchTask], done: dict[str, QuestionResult]) -> None:
        """Answer what is not done and judge what is not judged, a bounded number at once; results go to `done`."""

        async def finish(task: SearchTask) -> None:
            kept = done.get(task.id)
            result = score_again(kept, task, self.own) if kept is not None else await self._answer(task)
            if self.judge is not None and result.verdict is None:
                result = await self._judged(self.judge, task, result)
            self.keep(result, done)

        try:
            await gather_bounded(finish, tasks, self.settings.concurrency)
        finally:
            await close_connections()

    async def _answer(self, task: SearchTask) -> QuestionResult:
        try:
            return self.score(task, await self.answerer.answer_task(task, self.settings.seed))
        except Exception as failure:  # noqa: BLE001 (raised again where it is more than this question's)
            return score_failure(task, self.failures.add(f"question {task.id}", failure), self.own)

    async def _judged(self, judge: ModelJudge, task: SearchTask, result: QuestionResult) -> QuestionResult:
        if result.failure:
            return dataclasses.replace(result, is_correct=False)
        try:
            verdict = (await judge.judge(task, result.answer)).verdict
        except Exception as failure:  # noqa: BLE001 (raised again where it is more than this question's)
            reason = self.judging.add(f"judging question {task.id}", failure)
            return dataclasses.replace(result, judge_failure=reason)
        self.judging.note_success()
        return dataclasses.replace(result, is_correct=verdict == "right")

    def score(self, task: SearchTask, answered: Answered) -> QuestionResult:
        """Score an answer, or what stands in the place of one that failed."""
        if isinstance(answered, FailedAnswer):
            reason = self.failures.add_reason(f"question {task.id}", answered.reason, answered.is_outage)
            return score_failure(task, reason, self.own)
        self.failures.note_success()
        return score_run(task, *answered, self.own)

    def keep(self, result: QuestionResult, done: dict[str, QuestionResult]) -> None:
        """Write a result that is new."""
        if done.get(result.task_id) == result:
            return
        done[result.task_id] = result
        if self.results_path is not None:
            append_result(self.results_path, result, self.label)
        if self.on_result is not None:
            self.on_result(result)


def _still_asked(kept: dict[str, QuestionResult], tasks: Sequence[SearchTask]) -> dict[str, QuestionResult]:
    """Return the kept results of these tasks: an id may stay while the question under it changes."""
    questions = {task.id: task.question for task in tasks}
    return {name: result for name, result in kept.items() if questions.get(name) == result.question}


def _without_verdict(result: QuestionResult, judge: ModelJudge | None) -> QuestionResult:
    """Return a kept result as one that is still to be judged, where judging failed and there is a judge."""
    return result if judge is None else dataclasses.replace(result, judge_failure="")


def _check_ids(tasks: Sequence[SearchTask]) -> None:
    seen: dict[str, str] = {}
    for task in tasks:
        if task.id in seen:
            raise EvaluationError(
                f"two questions have the id {task.id!r}, so their results cannot be told apart: {seen[task.id]!r} and "
                f"{task.question!r}; make the ids distinct, or take out what is asked twice"
            )
        seen[task.id] = task.question


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else 0.0
