"""How each stage of the ablations is done, out of what the other runs are made of.

A worker reads the stage's settings and sources and nothing else: what it depends on is what the stage's key says.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from pathlib import Path

from masksearch_agent.agent.runnable import MaskSearchAgent
from masksearch_agent.config.recipe import Recipe
from masksearch_agent.config.trainers import DAPOSettings, SFTSettings
from masksearch_agent.corpus.readers import read_passages
from masksearch_agent.evaluation.runner import evaluate
from masksearch_agent.pipeline.data import (
    build_tasks,
    generate_trajectories,
    read_task_files,
    write_closed_world,
)
from masksearch_agent.pipeline.display import Bar, NestedDisplay
from masksearch_agent.pipeline.evolution import Evolution
from masksearch_agent.pipeline.stage_cache import Part, Stage, Worker
from masksearch_agent.pipeline.training import make_base_bundle, run_dapo, run_sft
from masksearch_agent.records import Trajectory
from masksearch_agent.retrieval.index import build_index, open_index
from masksearch_agent.retrieval.search import Search
from masksearch_agent.traces.store import TraceStore

__all__ = ("AblationWorkers", "repeat_to_fit")


class AblationWorkers:
    """Does the stages of an ablation.

    Args:
        path_of: Returns where a part of another stage is.
    """

    def __init__(self, path_of: Callable[[Part], Path]) -> None:
        self._path_of = path_of
        self._searches: dict[tuple[Path, bool], Search] = {}

    @property
    def by_kind(self) -> Mapping[str, Worker]:
        """Who does which kind of stage."""
        return {
            "world": self._write_world,
            "index": self._build_index,
            "masks": self._build_tasks,
            "traces": self._generate,
            "base": self._take_base,
            "sft": self._sft,
            "dapo": self._dapo,
            "evolution": self._evolve,
            "evaluation": self._evaluate,
        }

    # --- data ----------------------------------------------------------------------------------------------

    def _write_world(self, stage: Stage, folder: Path, bar: Bar) -> None:
        recipe = _recipe(stage)
        write_closed_world(recipe, recipe.seed, folder)

    def _build_index(self, stage: Stage, folder: Path, bar: Bar) -> None:
        passages = read_passages(self._source(stage, "world") / "passages.jsonl")
        build_index(passages, folder / "index", _recipe(stage).retrieval)

    def _build_tasks(self, stage: Stage, folder: Path, bar: Bar) -> None:
        build_tasks(
            self._source(stage, "world"),
            self._search(stage, stage.settings["is_guarded"]),
            _recipe(stage),
            folder / "tasks.jsonl",
            bar=bar,
            split=stage.settings["split"],
            max_tasks=stage.settings["max_tasks"],
        )

    def _generate(self, stage: Stage, folder: Path, bar: Bar) -> None:
        search = self._search(stage, stage.settings["is_guarded"])
        file, store = self._source(stage, "tasks"), folder / "traces.sqlite"
        generate_trajectories([file], search, _recipe(stage), store, stage.settings["trace_stage"], bar=bar)

    # --- training ------------------------------------------------------------------------------------------

    def _take_base(self, stage: Stage, folder: Path, bar: Bar) -> None:
        agent = folder / "agent"
        index = os.path.relpath(self._source(stage, "index").resolve(), agent.resolve())
        make_base_bundle(_recipe(stage), agent, index)

    def _sft(self, stage: Stage, folder: Path, bar: Bar) -> tuple[int, int]:
        trace_stage = stage.settings["trace_stage"]
        with TraceStore(self._source(stage, "traces")) as store:
            accepted = list(store.trajectories(trace_stage, accepted=True))
        settings = SFTSettings.model_validate({**stage.settings["sft"], "seed": _recipe(stage).seed})
        if settings.curriculum and settings.max_steps > 0:
            accepted = repeat_to_fit(accepted, settings)
        result = run_sft(
            self._source(stage, "agent"),
            accepted,
            settings,
            folder / "agent",
            f"{trace_stage}_sft",
            bar.training_listener(),
        )
        return result.steps, result.tokens

    def _dapo(self, stage: Stage, folder: Path, bar: Bar) -> tuple[int, int]:
        recipe = _recipe(stage)
        result = run_dapo(
            self._source(stage, "agent"),
            read_task_files([self._source(stage, "tasks")]),
            self._search(stage, stage.settings["is_guarded"]),
            recipe,
            DAPOSettings.model_validate({**stage.settings["dapo"], "seed": recipe.seed}),
            folder / "agent",
            "dapo",
            bar.training_listener(),
        )
        return result.steps, result.tokens

    def _evolve(self, stage: Stage, folder: Path, bar: Bar) -> tuple[int, int]:
        report = Evolution(_recipe(stage), folder / "run", NestedDisplay(bar)).run()
        return len(report["rounds"]), sum(entry["tokens"] for entry in report["rounds"])

    # --- evaluation ----------------------------------------------------------------------------------------

    def _evaluate(self, stage: Stage, folder: Path, bar: Bar) -> None:
        sets = {
            name.removeprefix("set "): read_task_files([self._path_of(part)])
            for name, part in stage.sources.items()
            if name.startswith("set ")
        }
        bar.start(0, sum(len(tasks) for tasks in sets.values()))
        search = self._search(stage) if "index" in stage.sources else None
        agent = MaskSearchAgent.from_pretrained(self._source(stage, "agent"), search=search)
        settings = _recipe(stage).evaluation
        with closing(agent):
            for name, tasks in sets.items():
                results = folder / f"{name}.jsonl"
                evaluate(agent, tasks, settings, stage.settings["mode"], results, lambda _: bar.step())

    # --- helpers -------------------------------------------------------------------------------------------

    def _source(self, stage: Stage, name: str) -> Path:
        return self._path_of(stage.sources[name])

    def _search(self, stage: Stage, is_guarded: bool = True) -> Search:
        """Return a search of the stage's index, opened once; without a guard, sources of tasks are found too."""
        index = self._source(stage, "index")
        if (index, is_guarded) not in self._searches:
            self._searches[index, is_guarded] = Search(open_index(index), is_guarded=is_guarded)
        return self._searches[index, is_guarded]


def repeat_to_fit(trajectories: Sequence[Trajectory], settings: SFTSettings) -> list[Trajectory]:
    """Return as many trajectories as the steps read, in shuffled passes over them all.

    A curriculum goes through what it is given from easy to hard. With fewer trajectories it would begin again with the
    easy ones and end among them; with more, it would never reach the hard ones.
    """
    wanted = settings.max_steps * settings.batch_size * settings.gradient_accumulation
    rng = random.Random(f"fit:{settings.seed}")
    # A store returns them in the order in which they were finished, which is another one each time.
    by_id = sorted(trajectories, key=lambda trajectory: trajectory.id)
    passes = range(-(-wanted // max(1, len(by_id))))
    return [trajectory for _ in passes for trajectory in rng.sample(by_id, len(by_id))][:wanted]


def _recipe(stage: Stage) -> Recipe:
    """Return a recipe of what the stage depends on; all else in it is default."""
    return Recipe.model_validate(stage.settings["recipe"])
