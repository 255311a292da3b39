"""The reports of the runs: what their stages left, collected and written."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from masksearch_agent.agent.escaping import PROTOCOL_TAGS
from masksearch_agent.config.recipe import Recipe
from masksearch_agent.environment import package_versions, usable_cores
from masksearch_agent.evaluation.metrics import score_answer
from masksearch_agent.evaluation.results import QuestionResult, ResultFile, ResultLabel, read_results
from masksearch_agent.evaluation.sources import read_tasks
from masksearch_agent.generator.evolution import EvolutionState, RoundScore
from masksearch_agent.reports.build import ScoredRuns, curves_of, generation_of, sample_of
from masksearch_agent.reports.evaluation_page import PAGE_NAME, write_page
from masksearch_agent.reports.markdown import write_evolution, write_pretraining
from masksearch_agent.reports.records import Round, RunReport, Sample, StageCost
from masksearch_agent.reports.run_page import write_run_report
from masksearch_agent.runs.exam import EXAM, START
from masksearch_agent.runs.exam_report import compared_pairs, report_exam
from masksearch_agent.runs.rounds import Rounds
from masksearch_agent.stages.evaluation import Evaluation
from masksearch_agent.stages.graph import FinishedStage, StageGraph
from masksearch_agent.stages.tasks import read_task_files
from masksearch_agent.traces.rows import POLICY_ROLE
from masksearch_agent.traces.store import TraceStore

if TYPE_CHECKING:
    from masksearch_agent.runs.pretraining import Pretraining

__all__ = (
    "about_run",
    "last_words",
    "report_evolution",
    "report_pretraining",
    "results_of",
    "write_questions",
)

_READ = "ramp_sft"
"""Whose trajectories are shown."""
_SAMPLES = 5
_TAGS = re.compile(rf"</?(?:{'|'.join(PROTOCOL_TAGS)})>")

Results = dict[str, dict[str, list[QuestionResult]]]
"""By agent and dataset."""


def report_pretraining(run: Pretraining) -> RunReport:
    """Report a run on documents of one's own.

    The format of an answer is half of what training teaches: a model that was never trained on it often says what it
    would answer without any tag, and has no answer then. So each run is scored a second time on what the model wrote
    last, whatever its form. That favours the untrained model, which writes more than an answer.
    """
    results = results_of(run.evaluations, run.graph)
    asked = {name: found.questions for stage in run.evaluations for name, found in stage.asked.items()}
    asked.pop(EXAM, None)
    tasks = {name: {t.id: t for t in read_tasks(run.graph.where(file))} for name, file in asked.items()}
    of_files = {
        agent: {name: found for name, found in sets.items() if name in asked}
        for agent, sets in results.items()
    }

    def said(dataset: str, result: QuestionResult) -> float:
        return score_answer(tasks[dataset][result.task_id], last_words(result)).recall

    scored = ScoredRuns(of_files, run.recipe.evaluation, said)
    where = run.graph.where
    made = Counter(task.category for task in read_task_files([where(run.training.tasks)]))
    report = RunReport(
        **about_run(run.recipe, run.graph.took(run.stages)),
        command=run.command,
        scores=scored.scores(),
        differences=scored.differences(
            (*pair, name) for pair in compared_pairs(run.trained) for name in asked
        ),
        exam=report_exam(run, run.exam, results) if run.exam else None,
        tasks=dict(made),
        generation=tuple(
            generation_of(where(traces), traces.trace_stage)
            for traces in (run.training.traces, *run.training.lessons)
        ),
        trained_questions=_accepted(run),
        curves=curves_of({name: where(agent) for name, agent in run.trained.items()}),
        samples=tuple(_choose_samples(results[_READ])),
        next_steps=(
            f"Read how every question was answered: open {run.directory}/evals/{PAGE_NAME}",
            f"Serve it: masksearch serve --agent {where(run.agent)}",
        ),
    )
    write_run_report(report, run.directory)
    write_pretraining(report, run.directory)
    write_questions(run.graph, run.evaluations, START, report.title)
    return report


def _accepted(run: Pretraining) -> int:
    """Return how many training questions were answered in a trajectory that was accepted."""
    accepted: set[str] = set()
    for traces in run.training.lessons:
        with TraceStore(run.graph.where(traces)) as store:
            accepted |= {found.task_id for found in store.trajectories(traces.trace_stage, accepted=True)}
    return len(accepted)


def report_evolution(rounds: Rounds, state: EvolutionState) -> RunReport:
    """Report a run of self-evolution."""
    graph, recipe = rounds.graph, rounds.make.recipe
    results = {
        f"round_{number}": {"test": read_results(graph.where(exam.results["test"]))}
        for number, exam in enumerate(rounds.exams, start=1)
    }
    scored = ScoredRuns(results, recipe.evaluation)
    took = graph.took(rounds.exams)
    first, *later = results
    students = {f"round_{number}": graph.where(s) for number, s in enumerate(rounds.students, start=1)}
    report = RunReport(
        **about_run(recipe, took),
        scores=scored.scores(),
        differences=scored.differences((name, first, "test") for name in later),
        curves=curves_of(students),
        generation=tuple(
            generation_of(graph.where(traces), traces.trace_stage) for traces in rounds.traces[: len(results)]
        ),
        rounds=tuple(_round(rounds, entry, took) for entry in state["rounds"]),
        stop_reason=state["stop_reason"] or "",
        best_round=state["best_round"],
        next_steps=(
            f"Evaluate the best student elsewhere: `masksearch eval --agent {graph.directory}/agent`",
        ),
    )
    write_run_report(report, graph.directory)
    write_evolution(report, graph.directory)
    return report


def about_run(recipe: Recipe, took: Sequence[FinishedStage]) -> dict[str, Any]:
    """Return what every report says: what was run, where, and what its stages cost."""
    return {
        "title": f"{recipe.name}, seed {recipe.seed}",
        "name": recipe.name,
        "seed": recipe.seed,
        "base_model": recipe.base_model,
        "stages": tuple(
            StageCost(
                s.name, s.seconds, s.tokens, s.steps, s.exam_seconds, s.notes, s.items, s.failed, s.failures
            )
            for s in took
        ),
        "wall_seconds": sum(stage.seconds for stage in took),
        "peak_memory_gb": max((stage.peak_memory_gb for stage in took), default=0.0),
        "cores": usable_cores(),
        "versions": package_versions(),
    }


def results_of(exams: Sequence[Evaluation], graph: StageGraph) -> Results:
    """Return the results of evaluation stages."""
    return {
        exam.name.removeprefix("evals/"): {
            name: read_results(graph.where(file)) for name, file in exam.results.items()
        }
        for exam in exams
    }


def write_questions(graph: StageGraph, exams: Sequence[Evaluation], reference: str, title: str) -> None:
    """Write the page of every question, in the folder of the evaluations; the last agent stands first."""
    datasets = dict.fromkeys(dataset for exam in exams for dataset in exam.asked)
    files = [
        ResultFile(graph.where(exam.results[dataset]), ResultLabel(dataset, exam.name.removeprefix("evals/")))
        for dataset in datasets
        for exam in reversed(exams)
        if dataset in exam.asked
    ]
    references = {file.label.dataset: reference for file in files}
    settings = exams[0].settings
    write_page(files, references, f"{title}: every question", graph.directory / "evals" / PAGE_NAME, settings)


def last_words(result: QuestionResult) -> str:
    """Return a run's answer or, where it has none, the model's last text without its tags."""
    if result.answer or result.trajectory is None:
        return result.answer
    said = [turn.text for turn in result.trajectory.turns if turn.role == POLICY_ROLE]
    return " ".join(_TAGS.sub(" ", said[-1]).split()) if said else ""


def _choose_samples(sets: Mapping[str, Sequence[QuestionResult]]) -> list[Sample]:
    """Take of each dataset in turn the first right answer, the first wrong one, the next right one, …"""
    samples: list[Sample] = []
    for number in range(_SAMPLES):
        for name, results in sets.items():
            searched = [result for result in results if result.searches]
            group = [result for result in searched if (result.recall == 1.0) == (number % 2 == 0)]
            if len(group) > number // 2 and len(samples) < _SAMPLES:
                found = group[number // 2]
                samples.append(sample_of(found, f"{name}: {found.task_id}"))
    return samples


def _round(rounds: Rounds, entry: RoundScore, took: Sequence[FinishedStage]) -> Round:
    """Return what a round's teacher or student did; the producer of its trajectories names it."""
    number = entry["round"]
    traces = rounds.traces[number - 1]
    with TraceStore(rounds.graph.where(traces)) as store:
        stage = traces.trace_stage
        producer = next((trajectory.producer for trajectory in store.trajectories(stage, limit=1)), "")
        tasks, samples = len(store.finished_task_ids(stage)), store.count(stage)
    own = [stage for stage in took if stage.name.endswith(f"round_{number}")]
    training = next(stage for stage in own if stage.name == f"round_{number}")
    return Round(
        number=number,
        producer=producer,
        tasks=tasks,
        samples=samples,
        accepted=entry["accepted"],
        trained_on=entry["trained_on"],
        validation_recall=entry["recall"],
        steps=training.steps,
        tokens=training.tokens,
        seconds=sum(stage.seconds for stage in own),
    )
