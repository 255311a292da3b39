"""The report of a run on documents of your own: JSON, the page that every run has, and Markdown with its curves.

The format of an answer is half of what training teaches: a model that was never trained on it often says what it would
answer without any tag, and has no answer then. So each run is scored a second time on what the model wrote last,
whatever its form. That favours the untrained model, which writes more than an answer.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from masksearch_agent.agent.escaping import PROTOCOL_TAGS
from masksearch_agent.config.evaluation import EvaluationSettings
from masksearch_agent.config.recipe import Recipe
from masksearch_agent.environment import package_versions, usable_cores
from masksearch_agent.evaluation.benchmarks import read_tasks
from masksearch_agent.evaluation.intervals import bootstrap_mean, paired_difference
from masksearch_agent.evaluation.metrics import score_answer
from masksearch_agent.evaluation.report import sample_of
from masksearch_agent.evaluation.runner import QuestionResult, read_results, summarise
from masksearch_agent.pipeline.data import read_task_files
from masksearch_agent.pipeline.report import count_outcomes, read_curves
from masksearch_agent.pipeline.stages import Run
from masksearch_agent.traces.rows import POLICY_ROLE
from masksearch_agent.viewer.curves import build_charts, draw_charts_file
from masksearch_agent.viewer.pretraining import pretraining_markdown
from masksearch_agent.viewer.report import write_report

__all__ = ("build_pretraining_report", "last_words", "write_pretraining_report")

_PAIRS = (
    *(("ramp_sft", "agent-pe"), ("ramp_sft", "rag-pe")),
    *(("ramp_dapo", "agent-pe"), ("ramp_dapo", "rag-pe"), ("ramp_dapo", "ramp_sft")),
)
_READ = "ramp_sft"
"""Whose trajectories are shown."""
_SAMPLES = 5
_TAGS = re.compile(rf"</?(?:{'|'.join(PROTOCOL_TAGS)})>")


@dataclass(frozen=True, slots=True)
class _Scored:
    """A result and the recall of what the model wrote last."""

    result: QuestionResult
    said: float


def build_pretraining_report(
    recipe: Recipe, run: Run, files: Mapping[str, Mapping[str, tuple[Path, Path]]], command: str = ""
) -> dict[str, Any]:
    """Collect the report of a finished run.

    Args:
        recipe: What was run.
        run: Its stages and folder.
        files: Of each agent and question file, the questions and the results.
        command: What started it; empty where nothing did that could be typed.
    """
    settings = recipe.evaluation
    scored = {agent: {name: _score(*paths) for name, paths in sets.items()} for agent, sets in files.items()}
    return {
        "name": recipe.name,
        "title": f"{recipe.name}, seed {recipe.seed}",
        "seed": recipe.seed,
        "command": command,
        "base_model": recipe.base_model,
        "wall_seconds": sum(stage.seconds for stage in run.stages),
        "peak_memory_gb": run.peak_memory_gb,
        "cores": usable_cores(),
        "versions": package_versions(),
        "stages": [asdict(stage) for stage in run.stages],
        "evals": {
            agent: {name: _summarise(rows, settings) for name, rows in sets.items()}
            for agent, sets in scored.items()
        },
        "comparisons": [
            _compare(after, before, name, scored[after][name], rows, settings)
            for after, before in _PAIRS
            for name, rows in scored[before].items()
        ],
        "tasks": dict(Counter(task.category for task in read_task_files([run.directory / "ramp.jsonl"]))),
        "generation": count_outcomes(run.directory / "traces.sqlite", ("ramp",)),
        "curves": read_curves(run.directory),
        "samples": _choose_samples(scored[_READ]),
        "next_steps": [
            f"Read how every question was answered: open {run.directory}/evals/report.html",
            f"Serve it: masksearch serve --agent {run.directory}/ramp_dapo",
        ],
    }


def write_pretraining_report(report: Mapping[str, Any], directory: Path) -> None:
    """Write `report.json`, `report.html`, and `NAME.md` with its curves, `NAME.svg`, after the recipe's name."""
    write_report(report, directory)
    name = report["name"]
    curves = draw_charts_file(build_charts(report["curves"]))
    (directory / f"{name}.svg").write_text(curves, encoding="utf-8")
    (directory / f"{name}.md").write_text(pretraining_markdown(report), encoding="utf-8")


def last_words(result: QuestionResult) -> str:
    """Return a run's answer or, where it has none, the model's last text without its tags."""
    if result.answer or result.trajectory is None:
        return result.answer
    said = [turn.text for turn in result.trajectory.turns if turn.role == POLICY_ROLE]
    return " ".join(_TAGS.sub(" ", said[-1]).split()) if said else ""


def _score(questions: Path, results: Path) -> list[_Scored]:
    tasks = {task.id: task for task in read_tasks(questions)}
    return [
        _Scored(result, score_answer(tasks[result.task_id], last_words(result)).recall)
        for result in read_results(results)
    ]


def _summarise(rows: list[_Scored], settings: EvaluationSettings) -> dict[str, Any]:
    said = bootstrap_mean([row.said for row in rows], settings.seed, settings.bootstrap_samples)
    return {
        **asdict(summarise([row.result for row in rows], settings)),
        "answered": sum(bool(row.result.answer) for row in rows) / len(rows),
        "said_recall": said.mean,
        "said_ci95": (said.low, said.high),
    }


def _compare(
    after: str,
    before: str,
    name: str,
    rows: list[_Scored],
    earlier_rows: list[_Scored],
    settings: EvaluationSettings,
) -> dict[str, Any]:
    earlier = {row.result.task_id: row for row in earlier_rows}
    pairs = [(row, earlier[row.result.task_id]) for row in rows]
    seed, samples = settings.seed, settings.bootstrap_samples
    gain = paired_difference(
        [row.result.recall for row, _ in pairs], [old.result.recall for _, old in pairs], seed, samples
    )
    said = paired_difference([row.said for row, _ in pairs], [old.said for _, old in pairs], seed, samples)
    return {
        "name": f"{after} over {before}, recall on {name}",
        "after": after,
        "before": before,
        "dataset": name,
        **asdict(gain),
        "said": asdict(said),
        "n": len(pairs),
    }


def _choose_samples(sets: Mapping[str, list[_Scored]]) -> list[dict[str, Any]]:
    """Take of each file in turn the first right answer, the first wrong one, the next right one, …"""
    queues = []
    for name, rows in sets.items():
        searched = [row.result for row in rows if row.result.searches]
        groups = [
            [result for result in searched if result.recall == 1.0],
            [result for result in searched if result.recall < 1.0],
        ]
        queues.append((name, groups))
    samples: list[dict[str, Any]] = []
    for number in range(_SAMPLES):
        for name, groups in queues:
            group = groups[number % 2]
            if len(group) > number // 2 and len(samples) < _SAMPLES:
                samples.append(sample_of(group[number // 2], f"{name}: {group[number // 2].task_id}"))
    return samples
