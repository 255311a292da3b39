"""The report of a run: what it took, what came out, and trajectories to read."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from masksearch_agent.config.recipe import Recipe
from masksearch_agent.environment import package_versions
from masksearch_agent.errors import EvaluationError, TaskError
from masksearch_agent.evaluation.intervals import paired_difference
from masksearch_agent.evaluation.report import sample_of
from masksearch_agent.evaluation.runner import QuestionResult, summarise
from masksearch_agent.jsonl import read_jsonl
from masksearch_agent.pipeline.stages import Run
from masksearch_agent.records import SearchTask
from masksearch_agent.retrieval.index import open_index
from masksearch_agent.retrieval.search import Search
from masksearch_agent.text.matching import contains_phrase
from masksearch_agent.traces.store import TraceStore
from masksearch_agent.trainers.callbacks import read_metrics

__all__ = ("build_report", "count_outcomes", "read_curves")

_CURVES = (
    ("ramp_sft", "loss", "loss"),
    ("ramp_dapo", "rewards/answer", "answer reward (recall)"),
    ("ramp_dapo", "rewards/format", "format reward"),
    ("ramp_dapo", "rewards/total", "total reward"),
    ("qa_sft", "loss", "loss"),
    ("agent", "loss", "loss"),
    ("agent", "rewards/answer", "answer reward (recall)"),
)
_RETRIEVAL_QUESTIONS = 200


def build_report(recipe: Recipe, run: Run, rows: Sequence[tuple[str, str, str]]) -> dict[str, Any]:
    """Collect the report of a finished run.

    Args:
        recipe: What was run.
        run: Its stages and folder.
        rows: The evaluated agents: name, bundle folder, way to answer.
    """
    directory = run.directory
    results = {row: _results(directory, row) for row, _, _ in rows}
    return {
        "title": f"{recipe.name}, seed {recipe.seed}",
        "seed": recipe.seed,
        "wall_seconds": sum(stage.seconds for stage in run.stages),
        "peak_memory_gb": run.peak_memory_gb,
        "versions": package_versions(),
        "stages": [asdict(stage) for stage in run.stages],
        "evals": {
            row: {name: asdict(summarise(scores, recipe.evaluation)) for name, scores in sets.items()}
            for row, sets in results.items()
        },
        "comparisons": _comparisons(results),
        "generation": count_outcomes(directory / "traces.sqlite", ("ramp", "qa")),
        "retrieval": _retrieval(directory, recipe),
        "curves": read_curves(directory),
        "samples": _samples(results["final"]),
        "next_steps": [
            f'Ask it something: masksearch ask "{_example_question(results["final"])}" --agent {directory}/agent',
            f"Read how every question was answered: open {directory}/evals/report.html",
            "Use it from Python: MaskSearchAgent.from_pretrained(...)",
            "Train on your own documents: masksearch index, ramp, generate, sft, dapo, eval (see the README)",
        ],
    }


def _results(directory: Path, row: str) -> dict[str, list[QuestionResult]]:
    files = sorted((directory / "evals").glob(f"{row}-*.jsonl"))
    return {
        file.stem.removeprefix(f"{row}-"): list(read_jsonl(file, QuestionResult, EvaluationError))
        for file in files
    }


def _comparisons(results: dict[str, dict[str, list[QuestionResult]]]) -> list[dict[str, Any]]:
    pairs = (
        ("ramp_dapo", "ramp_sft", "ramp"),
        ("ramp_sft", "untrained", "ramp"),
        ("final", "qa_sft", "qa_2hop"),
        ("final", "untrained", "qa_2hop"),
        ("final", "rag", "qa_2hop"),
    )
    comparisons = []
    for after, before, name in pairs:
        if name not in results.get(after, {}) or name not in results.get(before, {}):
            continue
        earlier = {result.task_id: result.recall for result in results[before][name]}
        later = [result for result in results[after][name] if result.task_id in earlier]
        interval = paired_difference([r.recall for r in later], [earlier[r.task_id] for r in later])
        comparisons.append(
            {
                "name": f"{after} over {before}, recall on {name}",
                "mean": interval.mean,
                "low": interval.low,
                "high": interval.high,
                "n": len(later),
            }
        )
    return comparisons


def count_outcomes(traces: Path, stages: Sequence[str]) -> list[dict[str, Any]]:
    """Return how many trajectories of each stage of a trace store were accepted, and why the others were not."""
    with TraceStore(traces) as store:
        return [
            {
                "stage": stage,
                "accepted": store.count(stage, accepted=True),
                "rejected": store.count(stage, accepted=False),
                "reasons": dict(store.reasons(stage)),
            }
            for stage in stages
        ]


def _retrieval(directory: Path, recipe: Recipe) -> dict[str, dict[str, float]]:
    """Measure how often a search with a hop's query shows a passage that holds the hop's answer."""
    tasks = list(read_jsonl(directory / "world" / "questions" / "qa_2hop_test.jsonl", SearchTask, TaskError))
    hops = [hop for task in tasks[:_RETRIEVAL_QUESTIONS] for hop in task.hops]
    measured = {}
    for mode in ("bm25", "dense", "hybrid"):
        search = Search(open_index(directory / "index", mode))
        found = search.search([hop.query for hop in hops], recipe.agent.passages_per_search)
        hits = [
            any(contains_phrase(hit.passage.text, hop.answer) for hit in shown)
            for hop, shown in zip(hops, found, strict=True)
        ]
        measured[mode] = {f"answer in top {recipe.agent.passages_per_search}": sum(hits) / len(hits)}
    return measured


def read_curves(directory: Path) -> list[dict[str, Any]]:
    """Return the training curves of a run folder's stages."""
    curves = []
    for stage, metric, label in _CURVES:
        points = [
            [int(entry["step"]), entry[metric]]
            for entry in read_metrics(directory / stage / "metrics.jsonl")
            # The loss of DAPO says nothing about progress: its gradient does the work, at a value around zero.
            if metric in entry and not (metric == "loss" and "rewards/total" in entry)
        ]
        if points:
            curves.append({"stage": stage, "metric": label, "points": points})
    return curves


def _samples(results: dict[str, list[QuestionResult]]) -> list[dict[str, Any]]:
    """Pick three trajectories to read: several masks, a chain of two, and a mistake (or a chain of three)."""
    masks = _first(
        result for result in results.get("ramp", []) if len(result.gold) > 1 and result.recall == 1.0
    )
    chain = _first(result for result in results.get("qa_2hop", []) if result.recall == 1.0)
    hard = results.get("qa_3hop", [])
    mistake = _first(result for result in hard if result.recall < 1.0) or _first(hard)
    titles = ("Several masks", "Two hops", "Three hops")
    return [
        sample_of(result, title)
        for title, result in zip(titles, (masks, chain, mistake), strict=True)
        if result is not None and result.trajectory is not None
    ]


def _first(results: Iterable[QuestionResult]) -> QuestionResult | None:
    return next(iter(results), None)


def _example_question(results: dict[str, list[QuestionResult]]) -> str:
    return results["qa_2hop"][0].question if results.get("qa_2hop") else "Who …?"
