"""The report of a self-evolution run: JSON, a Markdown page with its plot, and the page that every run has."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from masksearch_agent.config.evaluation import EvaluationSettings
from masksearch_agent.config.recipe import Recipe
from masksearch_agent.environment import package_versions
from masksearch_agent.errors import EvaluationError
from masksearch_agent.evaluation.intervals import paired_difference
from masksearch_agent.evaluation.runner import QuestionResult, summarise
from masksearch_agent.jsonl import read_jsonl
from masksearch_agent.pipeline.stages import Run
from masksearch_agent.traces.store import TraceStore
from masksearch_agent.trainers.callbacks import read_metrics
from masksearch_agent.viewer.evolution import draw_evolution, evolution_markdown
from masksearch_agent.viewer.report import write_report

__all__ = ("build_evolution_report", "write_evolution_report")

_HELD_OUT = "held_out"


def build_evolution_report(recipe: Recipe, run: Run, state: Mapping[str, Any]) -> dict[str, Any]:
    """Collect the report of a finished run.

    Args:
        recipe: What was run.
        run: Its steps and folder.
        state: What the graph returned.
    """
    directory = run.directory
    numbers = [score["round"] for score in state["rounds"]]
    results = {number: _results(directory / "rounds" / f"{number}" / "test.jsonl") for number in numbers}
    with TraceStore(directory / "traces.sqlite") as store:
        rounds = [
            {**score, **_generation(store, score["round"]), **_training(run, score["round"])}
            for score in state["rounds"]
        ]
    for entry in rounds:
        entry["validation_recall"] = entry.pop("recall")
    return {
        "title": f"{recipe.name}, seed {recipe.seed}",
        "seed": recipe.seed,
        "settings": recipe.evolution.model_dump(mode="json"),
        "stop_reason": state["stop_reason"],
        "best_round": state["best_round"],
        "rounds": rounds,
        "evals": {
            f"round_{number}": {_HELD_OUT: asdict(summarise(scores, recipe.evaluation))}
            for number, scores in results.items()
        },
        "comparisons": [_compare(number, results, recipe.evaluation) for number in numbers[1:]],
        "curves": [
            {"stage": f"round_{number}", "metric": "loss", "points": _loss(directory, number)}
            for number in numbers
        ],
        "generation": [{"stage": f"round {entry['round']}", **_outcomes(entry)} for entry in rounds],
        "wall_seconds": sum(stage.seconds for stage in run.stages),
        "peak_memory_gb": run.peak_memory_gb,
        "stages": [asdict(stage) for stage in run.stages],
        "versions": package_versions(),
        "next_steps": [f"Evaluate the best student elsewhere: `masksearch eval --agent {directory}/agent`"],
    }


def write_evolution_report(report: Mapping[str, Any], directory: Path) -> None:
    """Write `report.json`, `report.html`, `report.md` and its plot, `evolution.svg`."""
    write_report(report, directory)
    (directory / "evolution.svg").write_text(draw_evolution(report), encoding="utf-8")
    (directory / "report.md").write_text(evolution_markdown(report), encoding="utf-8")


def _results(path: Path) -> list[QuestionResult]:
    return list(read_jsonl(path, QuestionResult, EvaluationError))


def _compare(
    number: int, results: Mapping[int, list[QuestionResult]], settings: EvaluationSettings
) -> dict[str, Any]:
    first = {result.task_id: result.recall for result in results[1]}
    later = {result.task_id: result.recall for result in results[number]}
    gain = paired_difference(
        [later[task_id] for task_id in first], list(first.values()), settings.seed, settings.bootstrap_samples
    )
    name = f"round {number} over round 1, held-out recall"
    return {"name": name, "mean": gain.mean, "low": gain.low, "high": gain.high, "n": len(first)}


def _generation(store: TraceStore, number: int) -> dict[str, Any]:
    """Return what a round's teacher or student did; the producer of its trajectories names it."""
    stage = f"round-{number}"
    samples = store.count(stage)
    tasks = len(store.finished_task_ids(stage))
    producer = next((trajectory.producer for trajectory in store.trajectories(stage, limit=1)), "")
    return {
        "producer": producer,
        "tasks": tasks,
        "samples": samples,
        "accepted_share": store.count(stage, accepted=True) / samples if samples else 0.0,
        "reasons": dict(store.reasons(stage).most_common()),
    }


def _training(run: Run, number: int) -> dict[str, Any]:
    finished = {stage.name: stage for stage in run.stages}
    training = finished[f"round_{number}_train"]
    seconds = sum(stage.seconds for name, stage in finished.items() if name.startswith(f"round_{number}_"))
    return {"steps": training.steps, "tokens": training.tokens, "seconds": seconds}


def _loss(directory: Path, number: int) -> list[list[float]]:
    metrics = read_metrics(directory / "rounds" / f"{number}" / "student" / "metrics.jsonl")
    return [[int(entry["step"]), entry["loss"]] for entry in metrics if "loss" in entry]


def _outcomes(entry: Mapping[str, Any]) -> dict[str, Any]:
    rejected = entry["samples"] - entry["accepted"]
    return {"accepted": entry["accepted"], "rejected": rejected, "reasons": entry["reasons"]}
