from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from fakes.evaluation_results import result
from fakes.stages import NotedWork

from masksearch_agent.config.evolution import EvolutionSettings
from masksearch_agent.config.recipe import Recipe
from masksearch_agent.errors import ConfigError, TaskError
from masksearch_agent.jsonl import write_jsonl
from masksearch_agent.records import SearchTask, Trajectory
from masksearch_agent.runs import evolution
from masksearch_agent.runs.evolution import Evolution
from masksearch_agent.runs.rounds import Rounds
from masksearch_agent.stages.base import BaseAgent
from masksearch_agent.stages.evaluation import Evaluation
from masksearch_agent.stages.export import Export
from masksearch_agent.stages.sft import SFT, read_accepted
from masksearch_agent.stages.stage import Site, Spent
from masksearch_agent.stages.tasks import read_task_files
from masksearch_agent.stages.trajectories import Lessons, OwnAttempts
from masksearch_agent.traces.store import TraceStore

COUNT = 40
RECALLS = {"round_1": 0.2, "round_2": 0.5, "round_3": 0.4}


def make_task(number: int) -> SearchTask:
    return SearchTask(f"task-{number:02d}", "qa", f"Question {number}?", (("yes",),))


class Notes(NotedWork):
    """What a run does, in place of generating, training and asking."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        kinds = (BaseAgent, Lessons, OwnAttempts, SFT, Evaluation, Export)
        works = {"trajectories": self.generate, "attempts": self.generate, "sft": self.train}
        super().__init__(monkeypatch, kinds, evaluation=self.ask, **works)
        self.generated: list[tuple[str, list[str]]] = []
        self.trained: list[tuple[str, set[str]]] = []
        self.states: list[dict[str, Any]] = []
        monkeypatch.setattr(evolution, "report_evolution", self.report)

    def generate(self, stage: Lessons | OwnAttempts, folder: Path, site: Site) -> None:
        tasks = read_task_files([site.where(stage.tasks)])[slice(*stage.only or (None,))]
        who = site.where(stage.agent).name if isinstance(stage, OwnAttempts) else "teacher"
        with TraceStore(site.where(stage.traces)) as store:
            for task in tasks:
                accepted = Trajectory(f"{who} {task.id}", task.id, (), "yes", "answered", accepted=True)
                store.add(accepted, stage.trace_stage)
        self.generated.append((stage.trace_stage, [task.id for task in tasks]))

    def train(self, stage: SFT, folder: Path, site: Site) -> Spent:
        rows = read_accepted([(site.where(traces), traces.trace_stage) for traces in stage.traces])
        self.trained.append((site.where(stage.agent).name, {row.id for row in rows}))
        return Spent(7, 700)

    def ask(self, stage: Evaluation, folder: Path, site: Site) -> None:
        for dataset, asked in stage.asked.items():
            tasks = read_task_files([site.where(asked.questions)])
            results = [result(task.id, RECALLS[folder.name]) for task in tasks]
            write_jsonl(site.where(stage.results[dataset]), results)

    def report(self, rounds: Rounds, state: Any) -> Any:
        self.states.append(dict(state))
        return state


@pytest.fixture
def notes(monkeypatch: pytest.MonkeyPatch) -> Notes:
    return Notes(monkeypatch)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    write_jsonl(tmp_path / "tasks.jsonl", [make_task(number) for number in range(COUNT)])
    return tmp_path / "tasks.jsonl"


def make_run(file: Path, held_out: tuple[Path, ...] = (), seed: int = 0, **settings: Any) -> Evolution:
    sizes = {"teacher_tasks": 8, "tasks_per_round": 6, "validation_tasks": 4, "test_tasks": 5}
    recipe = Recipe(seed=seed, evolution=EvolutionSettings(**{**sizes, **settings}))
    return Evolution(recipe, file.parent / "run", [file], file.parent / "index", held_out)


def test_no_task_is_used_twice_and_each_round_trains_on_all_before(notes: Notes, file: Path) -> None:
    state: Any = make_run(file).run()
    assert [(stage, len(tasks)) for stage, tasks in notes.generated] == [
        ("round-1", 8),
        ("round-2", 6),
        ("round-3", 6),
    ]
    folder = file.parent / "run" / "split"
    held_out = [[t.id for t in read_task_files([folder / f"{n}.jsonl"])] for n in ("validation", "test")]
    assert [len(tasks) for tasks in held_out] == [4, 5]
    used = [task_id for _, tasks in notes.generated for task_id in tasks] + held_out[0] + held_out[1]
    assert len(used) == len(set(used)) == 8 + 6 + 6 + 4 + 5

    first, second, third = (tasks for _, tasks in notes.generated)
    of_teacher = {f"teacher {task_id}" for task_id in first}
    of_first = {f"round_1 {task_id}" for task_id in second}
    of_second = {f"round_2 {task_id}" for task_id in third}
    assert [rows for _, rows in notes.trained] == [
        of_teacher,
        of_teacher | of_first,
        of_teacher | of_first | of_second,
    ]
    assert [list(exam.asked) for exam in notes.of_kind("evaluation")] == [["validation", "test"]] * 3
    assert (state["stop_reason"], state["best_round"]) == ("no_rise", 2)
    assert notes.of_kind("export")[0].agent.stage.name == "round_2"
    assert [entry["recall"] for entry in state["rounds"]] == [0.2, 0.5, 0.4]
    assert [entry["trained_on"] for entry in state["rounds"]] == [8, 14, 20]


@pytest.mark.parametrize(
    ("start_from", "sources"), [("base", ["base"] * 3), ("student", ["base", "round_1", "round_2"])]
)
def test_a_round_starts_where_the_recipe_says(
    notes: Notes, file: Path, start_from: str, sources: list[str]
) -> None:
    make_run(file, start_from=start_from).run()
    assert [source for source, _ in notes.trained] == sources


@pytest.mark.parametrize(
    "killed_at",
    [
        *("trajectories/round_1", "round_1", "evals/round_1", "trajectories/round_2", "round_2"),
        *("evals/round_2", "round_3", "agent"),
    ],
)
def test_a_killed_run_goes_on_in_its_round(notes: Notes, file: Path, killed_at: str) -> None:
    notes.killed_at = killed_at
    with pytest.raises(KeyboardInterrupt):
        make_run(file).run()
    state: Any = make_run(file).run()
    assert [stage for stage, _ in notes.generated] == ["round-1", "round-2", "round-3"]
    assert [len(rows) for _, rows in notes.trained] == [8, 14, 20]
    assert (state["best_round"], len(state["rounds"])) == (2, 3)
    again: Any = make_run(file).run()
    assert again["rounds"] == state["rounds"]
    assert len(notes.names) == len(set(notes.names))


def test_more_patience_goes_on_where_the_run_had_ended(notes: Notes, file: Path) -> None:
    make_run(file, max_rounds=2).run()
    assert len(notes.trained) == 2
    make_run(file, max_rounds=3).run()
    assert [stage for stage, _ in notes.generated] == ["round-1", "round-2", "round-3"]


def test_tasks_that_are_held_out_by_name_are_never_worked_on(notes: Notes, file: Path) -> None:
    write_jsonl(file.with_name("held_out.jsonl"), [make_task(number) for number in range(6)])
    make_run(file, (file.with_name("held_out.jsonl"),), tasks_per_round=100, max_rounds=2).run()
    worked_on = sorted(task_id for _, tasks in notes.generated for task_id in tasks)
    assert worked_on == [make_task(number).id for number in range(6, COUNT)]


def test_it_ends_where_no_task_is_left(notes: Notes, file: Path) -> None:
    state: Any = make_run(file, teacher_tasks=100).run()
    assert state["stop_reason"] == "no_new_tasks"


def test_too_few_tasks_are_refused(notes: Notes, file: Path) -> None:
    write_jsonl(file, [make_task(number) for number in range(4)])
    with pytest.raises(TaskError, match="3 tasks to train on and 1 held out are too few"):
        make_run(file).run()


def test_a_folder_of_other_settings_or_tasks_is_refused(notes: Notes, file: Path) -> None:
    make_run(file).run()
    with pytest.raises(ConfigError, match="holds a run with other settings"):
        make_run(file, seed=2)
    with pytest.raises(ConfigError, match="holds a run with other settings"):
        make_run(file.with_name("other.jsonl"))
