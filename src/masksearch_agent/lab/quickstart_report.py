"""The report of the quickstart: what every run's says, what each retriever finds, and three trajectories to read."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from masksearch_agent.evaluation.results import QuestionResult
from masksearch_agent.reports.build import ScoredRuns, curves_of, generation_of, sample_of
from masksearch_agent.reports.records import RetrievalScore, RunReport, Sample
from masksearch_agent.reports.run_page import write_run_report
from masksearch_agent.retrieval.index import open_index
from masksearch_agent.retrieval.search import Search
from masksearch_agent.runs.reporting import about_run, results_of, write_questions
from masksearch_agent.stages.tasks import read_task_files
from masksearch_agent.text.matching import contains_phrase

if TYPE_CHECKING:
    from masksearch_agent.lab.quickstart import Quickstart

__all__ = ("report_quickstart",)

_COMPARED = (
    ("ramp_dapo", "ramp_sft", "ramp"),
    ("ramp_sft", "untrained", "ramp"),
    # What RAMP alone is for, a question answered that nobody taught to answer, and what Stage II keeps of it.
    ("ramp_dapo", "untrained", "qa_1hop"),
    ("agent", "ramp_dapo", "ramp"),
    ("agent", "qa_sft", "qa_2hop"),
    ("agent", "untrained", "qa_2hop"),
    ("agent", "rag", "qa_2hop"),
)
_RETRIEVAL_QUESTIONS = 200


def report_quickstart(run: Quickstart) -> RunReport:
    """Report a quickstart."""
    graph, recipe, directory = run.graph, run.recipe, run.directory
    results = results_of(run.exams, graph)
    scored = ScoredRuns(results, recipe.evaluation)
    bundles = {
        exam.name.removeprefix("evals/"): graph.where(exam.agent)
        for exam in run.exams
        if exam.agent.stage is not None and exam.name != "evals/rag"
    }
    report = RunReport(
        **about_run(recipe, graph.took(run.exams)),
        scores=scored.scores(),
        differences=scored.differences(_COMPARED),
        generation=tuple(generation_of(graph.where(traces), traces.trace_stage) for traces in run.traces),
        retrieval=tuple(_retrieval(run)),
        curves=curves_of(bundles),
        samples=tuple(_samples(results["agent"])),
        next_steps=(
            f'Ask it something: masksearch ask "{_example(results["agent"])}" --agent {directory}/agent',
            f"Read how every question was answered: open {directory}/evals/report.html",
            "Use it from Python: MaskSearchAgent.from_pretrained(...)",
            "Train on your own documents: masksearch index, ramp, generate, sft, dapo, eval (see the README)",
        ),
    )
    write_run_report(report, directory)
    write_questions(graph, run.exams, "untrained", report.title)
    return report


def _retrieval(run: Quickstart) -> Iterable[RetrievalScore]:
    """Measure how often a search with a hop's query shows a passage that holds the hop's answer."""
    two_hops = run.exams[0].asked.get("qa_2hop")
    if two_hops is None:
        return
    tasks = read_task_files([run.graph.where(two_hops.questions)])
    hops = [hop for task in tasks[:_RETRIEVAL_QUESTIONS] for hop in task.hops]
    limit = run.recipe.agent.passages_per_search
    mode = run.recipe.retrieval.mode
    for searched in ("bm25", "dense", "hybrid") if mode == "hybrid" else (mode,):
        search = Search(open_index(run.graph.where(two_hops.searched.index), searched))
        found = search.search([hop.query for hop in hops], limit)
        hits = [
            any(contains_phrase(hit.passage.text, hop.answer) for hit in shown)
            for hop, shown in zip(hops, found, strict=True)
        ]
        yield RetrievalScore(searched, f"answer in top {limit}", sum(hits) / len(hits))


def _samples(results: dict[str, list[QuestionResult]]) -> Iterable[Sample]:
    """Pick three trajectories to read: several masks, a chain of two, and a mistake (or a chain of three)."""
    masks = [r for r in results.get("ramp", ()) if len(r.gold) > 1 and r.recall == 1.0]
    chains = [r for r in results.get("qa_2hop", ()) if r.recall == 1.0]
    hard = results.get("qa_3hop", [])
    mistakes = [r for r in hard if r.recall < 1.0] or hard
    choices = (("Several masks", masks), ("Two hops", chains), ("Three hops", mistakes))
    return [
        sample_of(found[0], title) for title, found in choices if found and found[0].trajectory is not None
    ]


def _example(results: dict[str, list[QuestionResult]]) -> str:
    return results["qa_2hop"][0].question if results.get("qa_2hop") else "Who …?"
