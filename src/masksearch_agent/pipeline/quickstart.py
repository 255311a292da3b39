"""The whole loop on a closed world: from a seed to a search agent that is trained, restored and evaluated.

    world -> index -> RAMP tasks -> trajectories -> SFT (RAMP) -> DAPO (RAMP) -> SFT (questions)
          [-> DAPO (questions)] -> evaluation

Every stage reads what earlier stages wrote into the run folder and nothing else, so a run that was stopped goes
on where it was. Evaluation asks about entities that no training stage has seen.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from masksearch_agent.agent.runnable import MaskSearchAgent
from masksearch_agent.config.recipe import Recipe
from masksearch_agent.config.trainers import DAPOSettings
from masksearch_agent.corpus.readers import read_passages
from masksearch_agent.evaluation.report import PAGE_NAME, RunFile, write_page
from masksearch_agent.evaluation.runner import Mode, evaluate
from masksearch_agent.lab.closed_world import Split
from masksearch_agent.pipeline.data import (
    build_tasks,
    generate_trajectories,
    read_task_files,
    write_closed_world,
)
from masksearch_agent.pipeline.display import Bar, Display
from masksearch_agent.pipeline.report import build_report
from masksearch_agent.pipeline.stages import Run
from masksearch_agent.pipeline.training import make_base_bundle, run_dapo, run_sft
from masksearch_agent.records import SearchTask
from masksearch_agent.retrieval.index import build_index, open_index
from masksearch_agent.retrieval.search import Search
from masksearch_agent.traces.store import TraceStore
from masksearch_agent.viewer.report import write_report

__all__ = ("Quickstart", "evaluated_agents")


def evaluated_agents(recipe: Recipe) -> tuple[tuple[str, str, Mode], ...]:
    """Return the rows of the result table: name, bundle folder, way to answer. The last model is `final`."""
    before_last: tuple[tuple[str, str, Mode], ...] = (
        (("qa_sft", "qa_sft", "agentic"),) if recipe.qa_dapo else ()
    )
    return (
        ("untrained", "base", "agentic"),
        ("rag", "agent", "rag"),
        ("ramp_sft", "ramp_sft", "agentic"),
        ("ramp_dapo", "ramp_dapo", "agentic"),
        *before_last,
        ("final", "agent", "agentic"),
    )


class Quickstart:
    """One run.

    Args:
        recipe: What to do.
        directory: The run folder.
        display: Progress.
    """

    def __init__(self, recipe: Recipe, directory: Path, display: Display | None = None) -> None:
        self.recipe = recipe
        self.directory = directory
        self.run_state = Run(directory, recipe.model_dump_json(), display)

    def run(self) -> dict[str, Any]:
        """Do every stage that is not done yet and write the report.

        Returns:
            The report, as written to `report.json`.
        """
        recipe_text = yaml.safe_dump(self.recipe.model_dump(mode="json"), sort_keys=False)
        (self.directory / "recipe.yaml").write_text(recipe_text, encoding="utf-8")
        self.run_state.show("world", "writing a closed world", self._write_world)
        self.run_state.show("index", "indexing its passages", self._build_index)
        self.run_state.show("ramp", "masking passages", self._build_tasks)
        self.run_state.show("generate", "generating trajectories", self._generate)
        self.run_state.show("base", "base model", self._take_base)
        self.run_state.show("ramp_sft", "stage I: SFT on masks", self._ramp_sft)
        self.run_state.show("ramp_dapo", "stage I: DAPO on masks", self._ramp_dapo)
        self.run_state.show("qa_sft", "stage II: SFT on questions", self._qa_sft)
        if self.recipe.qa_dapo is not None:
            self.run_state.show("qa_dapo", "stage II: DAPO on questions", self._qa_dapo)
        self.run_state.show("evaluate", "evaluating", self._evaluate)
        report = build_report(self.recipe, self.run_state, evaluated_agents(self.recipe))
        write_report(report, self.directory)
        self._write_questions()
        return report

    def path(self, *parts: str) -> Path:
        """Return a path in the run folder."""
        return self.directory.joinpath(*parts)

    def test_sets(self) -> dict[str, list[SearchTask]]:
        """Return the held-out tasks by name: `ramp`, `qa_1hop`, …"""
        files = sorted(self.path("world", "questions").glob("*_test.jsonl"))
        return {file.stem.removesuffix("_test"): read_task_files([file]) for file in files}

    # --- data --------------------------------------------------------------------------------------------

    def _write_world(self, bar: Bar) -> None:
        write_closed_world(self.recipe, self.recipe.seed, self.path("world"))

    def _build_index(self, bar: Bar) -> None:
        # Both parts are built, whichever one the agent searches, so that they can be compared.
        settings = self.recipe.retrieval.model_copy(update={"mode": "hybrid"})
        build_index(read_passages(self.path("world", "passages.jsonl")), self.path("index"), settings)

    def _build_tasks(self, bar: Bar) -> None:
        splits: tuple[tuple[Split, int | None], ...] = (
            ("train", None),
            ("test", self.recipe.world.test_ramp_tasks),
        )
        for split, limit in splits:
            out = self._task_file(f"ramp_{split}")
            build_tasks(
                self.path("world"), self._search(), self.recipe, out, bar=bar, split=split, max_tasks=limit
            )

    def _generate(self, bar: Bar) -> None:
        for stage in ("ramp", "qa"):
            file = self._task_file(f"{stage}_train")
            generate_trajectories(
                [file], self._search(), self.recipe, self.path("traces.sqlite"), stage, bar=bar
            )

    # --- training ----------------------------------------------------------------------------------------

    def _take_base(self, bar: Bar) -> None:
        make_base_bundle(self.recipe, self.path("base"), index="../index")

    def _ramp_sft(self, bar: Bar) -> tuple[int, int]:
        return self._sft("ramp", "base", "ramp_sft", bar)

    def _qa_sft(self, bar: Bar) -> tuple[int, int]:
        return self._sft("qa", "ramp_dapo", "qa_sft" if self.recipe.qa_dapo else "agent", bar)

    def _sft(self, traces: str, source: str, target: str, bar: Bar) -> tuple[int, int]:
        settings = self.recipe.ramp_sft if traces == "ramp" else self.recipe.qa_sft
        with TraceStore(self.path("traces.sqlite")) as store:
            accepted = list(store.trajectories(traces, accepted=True))
        result = run_sft(
            self.path(source),
            accepted,
            settings.model_copy(update={"seed": self.recipe.seed}),
            self.path(target),
            f"{traces}_sft",
            bar.training_listener(),
        )
        return result.steps, result.tokens

    def _ramp_dapo(self, bar: Bar) -> tuple[int, int]:
        return self._dapo("ramp", "ramp_sft", "ramp_dapo", self.recipe.ramp_dapo, bar)

    def _qa_dapo(self, bar: Bar) -> tuple[int, int]:
        return self._dapo("qa", "qa_sft", "agent", self.recipe.qa_dapo or DAPOSettings(), bar)

    def _dapo(
        self, tasks: str, source: str, target: str, settings: DAPOSettings, bar: Bar
    ) -> tuple[int, int]:
        result = run_dapo(
            self.path(source),
            read_task_files([self._task_file(f"{tasks}_train")]),
            self._search(),
            self.recipe,
            settings.model_copy(update={"seed": self.recipe.seed}),
            self.path(target),
            f"{tasks}_dapo",
            bar.training_listener(),
        )
        return result.steps, result.tokens

    # --- evaluation --------------------------------------------------------------------------------------

    def _evaluate(self, bar: Bar) -> None:
        sets = self.test_sets()
        rows = evaluated_agents(self.recipe)
        total = len(rows) * sum(len(tasks) for tasks in sets.values())
        done = 0
        for row, bundle, mode in rows:
            agent = MaskSearchAgent.from_pretrained(self.path(bundle))
            for name, tasks in sets.items():
                evaluate(agent, tasks, self.recipe.evaluation, mode, self._results_file(row, name))
                done += len(tasks)
                bar.show(done, total, f"{row} on {name}")
            agent.close()

    def _write_questions(self) -> None:
        rows = [row for row, _, _ in evaluated_agents(self.recipe)]
        runs = [
            RunFile(self._results_file(row, name), name, row)
            for name in self.test_sets()
            for row in reversed(rows)
        ]
        references = {run.dataset: rows[0] for run in runs}
        title = f"{self.recipe.name}, seed {self.recipe.seed}: every question"
        write_page(runs, references, title, self.path("evals", PAGE_NAME), self.recipe.evaluation)

    def _results_file(self, row: str, name: str) -> Path:
        return self.path("evals", f"{row}-{name}.jsonl")

    def _search(self) -> Search:
        return Search(open_index(self.path("index"), self.recipe.retrieval.mode))

    def _task_file(self, name: str) -> Path:
        return self.path("world", "questions", f"{name}.jsonl")
