"""Self-evolution as a run: the graph of `generator.evolution` on files, on a closed world or on tasks of your own.

    [world -> index] -> tasks -> base -> (teach | sample) -> merge -> train -> evaluate -> … -> agent

Every step reads what earlier steps wrote into the run folder and nothing else. A run that was stopped is walked
through the graph again: finished steps say what they said, and the one that was stopped goes on in its middle, task by
task, checkpoint by checkpoint, question by question.
"""

from __future__ import annotations

import os
import random
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from masksearch_agent.agent.bundle import read_bundle_info, save_bundle
from masksearch_agent.agent.runnable import MaskSearchAgent
from masksearch_agent.calls.accounting import Spending
from masksearch_agent.config.recipe import Recipe
from masksearch_agent.corpus.readers import read_passages
from masksearch_agent.errors import EvaluationError, TaskError
from masksearch_agent.evaluation.runner import QuestionResult, evaluate, summarise
from masksearch_agent.generator.casting import cast_roles
from masksearch_agent.generator.evolution import Generated, build_evolution_graph, merge_accepted
from masksearch_agent.generator.student import StudentGenerator
from masksearch_agent.jsonl import read_jsonl, write_jsonl
from masksearch_agent.lab.closed_world import Split
from masksearch_agent.models.local import load_checkpoint
from masksearch_agent.pipeline.data import (
    build_tasks,
    generate_trajectories,
    read_task_files,
    write_closed_world,
)
from masksearch_agent.pipeline.display import Bar, Display
from masksearch_agent.pipeline.evolution_report import build_evolution_report, write_evolution_report
from masksearch_agent.pipeline.stages import Run
from masksearch_agent.pipeline.training import make_base_bundle, run_sft
from masksearch_agent.records import SearchTask, Trajectory
from masksearch_agent.retrieval.index import build_index, open_index
from masksearch_agent.retrieval.search import Search
from masksearch_agent.traces.store import TraceStore

__all__ = ("Evolution", "OwnTasks")

_NODES_A_ROUND = 4


@dataclass(frozen=True, slots=True)
class OwnTasks:
    """What to evolve on instead of a closed world."""

    files: tuple[Path, ...]
    """Task files, as `masksearch ramp` writes them."""
    search: Search
    index: Path | None
    """Folder that the search reads, for the agent bundle; None for a web search."""
    held_out: tuple[Path, ...] = ()
    """Task files that no round trains on; empty holds out some of `files`."""


class Evolution:
    """One run.

    Args:
        recipe: What to do: `evolution` says how many rounds of what size, `ramp_sft` how each trains.
        directory: The run folder.
        display: Progress.
        own_tasks: What to work on; None writes a closed world.

    Raises:
        ConfigError: The folder belongs to a run with other settings or tasks.
    """

    def __init__(
        self,
        recipe: Recipe,
        directory: Path,
        display: Display | None = None,
        own_tasks: OwnTasks | None = None,
    ) -> None:
        self.recipe = recipe
        self.directory = directory
        self.display = display or Display()
        self.own_tasks = own_tasks
        files = [str(file) for file in (*own_tasks.files, *own_tasks.held_out)] if own_tasks else []
        self.run_state = Run(
            directory, recipe.model_dump_json() + "".join(f"\n{file}" for file in files), self.display
        )
        self._opened_search: Search | None = None

    def run(self) -> dict[str, Any]:
        """Do every step that is not done yet and write the report.

        Returns:
            The report, as written to `report.json`.
        """
        recipe_text = yaml.safe_dump(self.recipe.model_dump(mode="json"), sort_keys=False)
        (self.directory / "recipe.yaml").write_text(recipe_text, encoding="utf-8")
        if self.own_tasks is None:
            self.run_state.show("world", "writing a closed world", self._write_world)
            self.run_state.show("index", "indexing its passages", self._build_index)
        self.run_state.show("tasks", "tasks, and which are held out", self._split_tasks)
        self.run_state.show("base", "base model", self._take_base)
        settings = self.recipe.evolution
        graph = build_evolution_graph(self, settings).compile(name="masksearch-evolution")
        state = graph.invoke({}, {"recursion_limit": _NODES_A_ROUND * settings.max_rounds + 5})
        self.run_state.show(
            "agent", "keeping the best student", lambda bar: self._keep_best(state["best_round"])
        )
        report = build_evolution_report(self.recipe, self.run_state, state)
        write_evolution_report(report, self.directory)
        return report

    # --- the steps of a round ------------------------------------------------------------------------------

    def teach(self) -> Generated:
        """Have the generator's teacher work on the first tasks."""
        file = self._path("tasks", "round-1.jsonl")
        write_jsonl(file, self._tasks_of(1))

        def work(bar: Bar) -> None:
            generate_trajectories([file], self._search, self.recipe, self._traces, _stage_of(1), bar=bar)

        self.run_state.show("round_1_generate", "round 1: the teacher", work)
        return self._generated(1)

    def sample(self, round_number: int) -> Generated:
        """Have the last student work on tasks that no round has seen."""
        tasks = self._tasks_of(round_number)
        if not tasks:
            return Generated(0, 0)
        write_jsonl(self._path("tasks", f"round-{round_number}.jsonl"), tasks)
        self.run_state.show(
            f"round_{round_number}_generate",
            f"round {round_number}: the student",
            lambda bar: self._sample(round_number, tasks, bar),
        )
        return self._generated(round_number)

    def merge(self, round_number: int) -> int:
        """Join the accepted trajectories of all rounds so far in a stage of the trace store."""
        with TraceStore(self._traces) as store:
            rounds = (store.trajectories(_stage_of(number), True) for number in range(1, round_number + 1))
            merged = merge_accepted(rounds)
            # The same trajectories, whatever was there before: a trajectory joins a stage once.
            store.add_many(merged, _merged_stage(round_number))
        return len(merged)

    def train(self, round_number: int) -> None:
        """Fine-tune the base model, or the last student, on the merged trajectories."""
        is_continued = self.recipe.evolution.start_from == "student" and round_number > 1
        source = self._student(round_number - 1) if is_continued else self._path("base")

        def work(bar: Bar) -> tuple[int, int]:
            with TraceStore(self._traces) as store:
                merged = list(store.trajectories(_merged_stage(round_number), accepted=True))
            result = run_sft(
                source,
                merged,
                self.recipe.ramp_sft.model_copy(update={"seed": self.recipe.seed}),
                self._student(round_number),
                f"round_{round_number}",
                bar.training_listener(),
            )
            return result.steps, result.tokens

        self.run_state.show(f"round_{round_number}_train", f"round {round_number}: SFT", work)

    def evaluate(self, round_number: int) -> float:
        """Ask the student the held-out tasks; return the recall on those that decide."""
        self.run_state.show(
            f"round_{round_number}_evaluate",
            f"round {round_number}: held-out tasks",
            lambda bar: self._evaluate(round_number, bar),
        )
        results = self._path("rounds", f"{round_number}", "validation.jsonl")
        scores = list(read_jsonl(results, QuestionResult, EvaluationError))
        return summarise(scores, self.recipe.evaluation).recall

    # --- data ----------------------------------------------------------------------------------------------

    def _write_world(self, bar: Bar) -> None:
        write_closed_world(self.recipe, self.recipe.seed, self._path("world"))

    def _build_index(self, bar: Bar) -> None:
        passages = read_passages(self._path("world", "passages.jsonl"))
        build_index(passages, self._path("index"), self.recipe.retrieval)

    def _split_tasks(self, bar: Bar) -> None:
        """Write the tasks of all rounds in the order in which they are taken, and the held-out ones."""
        settings = self.recipe.evolution
        if self.own_tasks is None:
            pool, held_out = (self._mask_world(split, bar) for split in ("train", "test"))
        else:
            pool = self._shuffled(read_task_files(self.own_tasks.files))
            held_out = (
                self._shuffled(read_task_files(self.own_tasks.held_out)) if self.own_tasks.held_out else []
            )
        if not held_out:
            count = min(settings.validation_tasks + settings.test_tasks, len(pool) // 3)
            pool, held_out = pool[count:], pool[:count]
        held_out_ids = {task.id for task in held_out}
        pool = [task for task in pool if task.id not in held_out_ids]
        deciding = min(settings.validation_tasks, len(held_out) // 2)
        if not deciding or not pool:
            raise TaskError(
                f"{len(pool)} tasks to train on and {len(held_out)} held out are too few; pass more task files"
            )
        write_jsonl(self._path("tasks", "validation.jsonl"), held_out[:deciding])
        write_jsonl(self._path("tasks", "test.jsonl"), held_out[deciding:][: settings.test_tasks])
        write_jsonl(self._path("tasks", "pool.jsonl"), pool)

    def _mask_world(self, split: Split, bar: Bar) -> list[SearchTask]:
        out = self._path("world", "questions", f"ramp_{split}.jsonl")
        build_tasks(self._path("world"), self._search, self.recipe, out, bar=bar, split=split)
        return self._shuffled(read_task_files([out]))

    def _shuffled(self, tasks: list[SearchTask]) -> list[SearchTask]:
        distinct = {task.id: task for task in sorted(tasks, key=lambda task: task.id)}
        shuffled = list(distinct.values())
        random.Random(self.recipe.seed).shuffle(shuffled)
        return shuffled

    def _take_base(self, bar: Bar) -> None:
        index = self._path("index") if self.own_tasks is None else self.own_tasks.index
        base = self._path("base")
        relative = os.path.relpath(index.resolve(), base.resolve()) if index is not None else ""
        make_base_bundle(self.recipe, base, relative)

    def _tasks_of(self, round_number: int) -> list[SearchTask]:
        """Return the tasks of a round; no two rounds share one."""
        settings = self.recipe.evolution
        pool = read_task_files([self._path("tasks", "pool.jsonl")])
        if round_number == 1:
            return pool[: settings.teacher_tasks]
        first = settings.teacher_tasks + (round_number - 2) * settings.tasks_per_round
        return pool[first : first + settings.tasks_per_round]

    # --- a round's work ------------------------------------------------------------------------------------

    def _sample(self, round_number: int, tasks: list[SearchTask], bar: Bar) -> None:
        settings = self.recipe.evolution
        _, judge = cast_roles(self.recipe.generator, self.recipe.agent, Spending())
        agent = MaskSearchAgent.from_pretrained(self._student(round_number - 1), search=self._search)
        student = StudentGenerator(agent, judge, settings, self.recipe.generator, self.recipe.seed)
        stage = _stage_of(round_number)
        with TraceStore(self._traces) as store:
            task_ids = {task.id for task in tasks}
            bar.start(len(store.finished_task_ids(stage) & task_ids), len(task_ids))
            solved = done = 0

            def count(attempts: list[Trajectory]) -> None:
                nonlocal solved, done
                solved, done = solved + bool(attempts[-1].accepted), done + 1
                bar.step(f"{solved / done:.0%} solved")

            with closing(agent):
                failed = student.run(tasks, store, stage, count)
        if failed:
            self.display.say(
                f"{failed} tasks had no outcome, because a service failed; the round goes on without them"
            )

    def _evaluate(self, round_number: int, bar: Bar) -> None:
        agent = MaskSearchAgent.from_pretrained(self._student(round_number), search=self._search)
        sets = {
            name: read_task_files([self._path("tasks", f"{name}.jsonl")]) for name in ("validation", "test")
        }
        bar.start(0, sum(len(tasks) for tasks in sets.values()))
        with closing(agent):
            for name, tasks in sets.items():
                results = self._path("rounds", f"{round_number}", f"{name}.jsonl")
                evaluate(agent, tasks, self.recipe.evaluation, "agentic", results, lambda _: bar.step())

    def _keep_best(self, round_number: int) -> None:
        """Save the best student as the agent of the run."""
        source, target = self._student(round_number), self._path("agent")
        info = read_bundle_info(source)
        index = ""
        if info.index:
            index = os.path.relpath((source / info.index).resolve(), target.resolve())
        model, tokenizer = load_checkpoint(source)
        save_bundle(model, tokenizer, info.model_copy(update={"index": index}), target)

    # --- helpers -------------------------------------------------------------------------------------------

    def _generated(self, round_number: int) -> Generated:
        with TraceStore(self._traces) as store:
            stage = _stage_of(round_number)
            return Generated(len(store.finished_task_ids(stage)), store.count(stage, accepted=True))

    @property
    def _search(self) -> Search:
        """What is searched, opened once."""
        if self._opened_search is None:
            self._opened_search = (
                self.own_tasks.search
                if self.own_tasks is not None
                else Search(open_index(self._path("index"), self.recipe.retrieval.chosen_mode))
            )
        return self._opened_search

    @property
    def _traces(self) -> Path:
        return self._path("traces.sqlite")

    def _student(self, round_number: int) -> Path:
        return self._path("rounds", f"{round_number}", "student")

    def _path(self, *parts: str) -> Path:
        return self.directory.joinpath(*parts)


def _stage_of(round_number: int) -> str:
    """Return the stage of the trace store that holds what a round generated."""
    return f"round-{round_number}"


def _merged_stage(round_number: int) -> str:
    """Return the stage that holds what a round trained on."""
    return f"train-{round_number}"
