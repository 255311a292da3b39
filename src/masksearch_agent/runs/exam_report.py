"""The exam's part of the report of a run."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from masksearch_agent.agent.bundle import read_bundle_info
from masksearch_agent.evaluation.comparison import Metric
from masksearch_agent.evaluation.results import QuestionResult, read_results
from masksearch_agent.reports.build import ScoredRuns
from masksearch_agent.reports.records import ExamReport
from masksearch_agent.runs.exam import EXAM, RIVAL, START, DocumentExam

if TYPE_CHECKING:
    from masksearch_agent.runs.pretraining import Pretraining

__all__ = ("compared_pairs", "report_exam")

_METRICS: tuple[Metric, ...] = ("recall", "em")


def report_exam(
    run: Pretraining, exam: DocumentExam, results: Mapping[str, Mapping[str, Sequence[QuestionResult]]]
) -> ExamReport:
    """Report the exam of a finished run.

    Args:
        results: By agent and dataset, those of the exam among them.
    """
    settings, where = run.recipe.evaluation, run.graph.where
    taken = {agent: _by_category(sets[EXAM]) for agent, sets in results.items() if EXAM in sets}
    scored = ScoredRuns(taken, settings)
    pairs = [(START, RIVAL), *compared_pairs(run.trained)]
    decided = {
        name: {"validation": read_results(where(candidate.results))}
        for name, candidate in exam.candidates.items()
    }
    parts = json.loads(where(exam.parts.counts).read_text(encoding="utf-8"))
    passages = sum(count for count in parts.values() if isinstance(count, int))
    held_out = (
        f"{parts['exam']:,} of {passages:,} passages; no training task was made from their {parts['unit']}"
    )
    return ExamReport(
        scores=scored.scores(),
        differences=tuple(
            found
            for metric in _METRICS
            for found in scored.differences(((*pair, EXAM) for pair in pairs), metric)
        ),
        validation=ScoredRuns(decided, settings).scores(),
        served=read_bundle_info(where(run.agent)).provenance["choice"]["chosen"],
        start=START,
        rival=RIVAL,
        held_out=held_out,
    )


def compared_pairs(trained: Iterable[str]) -> list[tuple[str, str]]:
    """Return which agents are compared (after, before): each stage with the untrained ones and the stage before it."""
    stages = list(trained)
    return [
        (after, before)
        for place, after in enumerate(stages)
        for before in (RIVAL, START, "rag-pe", *stages[:place][-1:])
    ]


def _by_category(results: Sequence[QuestionResult]) -> dict[str, Sequence[QuestionResult]]:
    """Return the results of all questions, then those of each category where there are several."""
    categories = sorted({result.category for result in results})
    parts = {name: [result for result in results if result.category == name] for name in categories}
    return {EXAM: results, **(parts if len(parts) > 1 else {})}
