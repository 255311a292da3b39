from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from masksearch_agent.config.evolution import EvolutionSettings
from masksearch_agent.config.recipe import Recipe
from masksearch_agent.errors import ConfigError, TaskError
from masksearch_agent.evaluation.runner import QuestionResult
from masksearch_agent.jsonl import write_jsonl
from masksearch_agent.pipeline import evolution
from masksearch_agent.pipeline.evolution import Evolution, OwnTasks
from masksearch_agent.pipeline.training import StageResult
from masksearch_agent.records import SearchTask, Trajectory
from masksearch_agent.traces.store import TraceStore

COUNT = 40
RECALLS = {1: 0.2, 2: 0.5, 3: 0.4}


def make_task(number: int) -> SearchTask:
    return SearchTask(f"task-{number:02d}", "qa", f"Question {number}?", (("yes",),))


def accepted(task: SearchTask, producer: str) -> Trajectory:
    return Trajectory(
        f"{producer} {task.id}", task.id, (), "yes", "answered", producer=producer, accepted=True
    )


class Notes:
    """What a run does, in place of generating, training and asking; fails once where it is told to."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.generated: list[tuple[str, list[str]]] = []
        self.trained: list[tuple[str, list[str]]] = []
        self.evaluated: list[str] = []
        self.kept = 0
        self.killed_at: Callable[[str], bool] = lambda step: False
        for name in ("generate_trajectories", "run_sft", "evaluate"):
            monkeypatch.setattr(evolution, name, getattr(self, name))
        monkeypatch.setattr(evolution, "make_base_bundle", lambda *arguments: None)
        monkeypatch.setattr(evolution, "MaskSearchAgent", self)
        monkeypatch.setattr(evolution, "StudentGenerator", lambda agent, *rest: self)
        monkeypatch.setattr(Evolution, "_keep_best", lambda run, number: setattr(self, "kept", number))

    def step(self, name: str) -> None:
        if self.killed_at(name):
            self.killed_at = lambda step: False
            raise KeyboardInterrupt

    def from_pretrained(self, path: Path, search: Any) -> Notes:
        self.student = int(path.parent.name)
        return self

    def close(self) -> None:
        pass

    def generate_trajectories(
        self, files: list[Path], search: Any, recipe: Any, out: Path, stage: str, bar: Any
    ) -> None:
        tasks = evolution.read_task_files(files)
        with TraceStore(out) as store:
            store.add_many([accepted(task, "teacher") for task in tasks], stage)
        self.step("generate 1")
        self.generated.append((stage, [task.id for task in tasks]))

    def run(self, tasks: list[SearchTask], store: TraceStore, stage: str, on_task: Any) -> int:
        producer = f"student {self.student}"
        for task in tasks[: len(tasks) // 2]:
            store.add(accepted(task, producer), stage)
        self.step(f"generate {stage[-1]}")
        for task in tasks[len(tasks) // 2 :]:
            store.add(accepted(task, producer), stage)
        self.generated.append((stage, [task.id for task in tasks]))
        return 0

    def run_sft(
        self, source: Path, rows: list[Trajectory], settings: Any, target: Path, stage: str, listener: Any
    ) -> StageResult:
        self.step(f"train {stage[-1]}")
        self.trained.append(
            (source.name if source.name == "base" else source.parent.name, [t.id for t in rows])
        )
        return StageResult(7, 700)

    def evaluate(
        self, agent: Any, tasks: list[SearchTask], settings: Any, mode: str, path: Path, on_result: Any
    ) -> None:
        self.step(f"evaluate {self.student}")
        recall = RECALLS[self.student]
        results = [
            QuestionResult(
                task.id, "", ("yes",), "", recall, recall, recall, "answered", 1, 1, 0, None, 1, 0.1
            )
            for task in tasks
        ]
        write_jsonl(path, results)
        self.evaluated.append(f"{self.student} {path.stem}")


@pytest.fixture
def notes(monkeypatch: pytest.MonkeyPatch) -> Notes:
    return Notes(monkeypatch)


@pytest.fixture
def own_tasks(tmp_path: Path) -> OwnTasks:
    write_jsonl(tmp_path / "tasks.jsonl", [make_task(number) for number in range(COUNT)])
    search: Any = None
    return OwnTasks((tmp_path / "tasks.jsonl",), search, tmp_path / "index")


def make_run(own_tasks: OwnTasks, **settings: Any) -> Evolution:
    sizes = {"teacher_tasks": 8, "tasks_per_round": 6, "validation_tasks": 4, "test_tasks": 5}
    recipe = Recipe(evolution=EvolutionSettings(**{**sizes, **settings}))
    return Evolution(recipe, own_tasks.files[0].parent / "run", own_tasks=own_tasks)


def test_no_task_is_used_twice_and_each_round_trains_on_all_before(notes: Notes, own_tasks: OwnTasks) -> None:
    report = make_run(own_tasks).run()
    assert [(stage, len(tasks)) for stage, tasks in notes.generated] == [
        ("round-1", 8),
        ("round-2", 6),
        ("round-3", 6),
    ]
    folder = own_tasks.files[0].parent / "run" / "tasks"
    held_out = [
        [t.id for t in evolution.read_task_files([folder / f"{n}.jsonl"])] for n in ("validation", "test")
    ]
    assert [len(tasks) for tasks in held_out] == [4, 5]
    used = [task_id for _, tasks in notes.generated for task_id in tasks] + held_out[0] + held_out[1]
    assert len(used) == len(set(used)) == 8 + 6 + 6 + 4 + 5

    first, second, third = (tasks for _, tasks in notes.generated)
    of_teacher = {f"teacher {task_id}" for task_id in first}
    of_first = {f"student 1 {task_id}" for task_id in second}
    of_second = {f"student 2 {task_id}" for task_id in third}
    assert [set(rows) for _, rows in notes.trained] == [
        of_teacher,
        of_teacher | of_first,
        of_teacher | of_first | of_second,
    ]
    assert notes.evaluated == [f"{number} {name}" for number in (1, 2, 3) for name in ("validation", "test")]
    assert (report["stop_reason"], report["best_round"], notes.kept) == ("no_rise", 2, 2)
    assert [entry["validation_recall"] for entry in report["rounds"]] == [0.2, 0.5, 0.4]
    assert [(entry["tasks"], entry["trained_on"], entry["steps"]) for entry in report["rounds"]] == [
        (8, 8, 7),
        (6, 14, 7),
        (6, 20, 7),
    ]
    assert [round(comparison["low"], 6) for comparison in report["comparisons"]] == [0.3, 0.2]


@pytest.mark.parametrize(("start_from", "sources"), [("base", ["base"] * 3), ("student", ["base", "1", "2"])])
def test_a_round_starts_where_the_recipe_says(
    notes: Notes, own_tasks: OwnTasks, start_from: str, sources: list[str]
) -> None:
    make_run(own_tasks, start_from=start_from).run()
    assert [source for source, _ in notes.trained] == sources


@pytest.mark.parametrize(
    "killed_at", ["generate 1", "train 1", "evaluate 1", "generate 2", "train 2", "evaluate 2", "train 3"]
)
def test_a_killed_run_goes_on_in_its_round(notes: Notes, own_tasks: OwnTasks, killed_at: str) -> None:
    notes.killed_at = lambda step: step == killed_at
    with pytest.raises(KeyboardInterrupt):
        make_run(own_tasks).run()
    report = make_run(own_tasks).run()
    assert [stage for stage, _ in notes.generated] == ["round-1", "round-2", "round-3"]
    assert [len(rows) for _, rows in notes.trained] == [8, 14, 20]
    assert all(len(rows) == len(set(rows)) for _, rows in notes.trained)
    assert (report["best_round"], len(report["rounds"])) == (2, 3)
    again = make_run(own_tasks).run()
    assert again["rounds"] == report["rounds"]
    assert len(notes.generated) == len(notes.trained) == 3


def test_tasks_that_are_held_out_by_name_are_never_worked_on(notes: Notes, own_tasks: OwnTasks) -> None:
    folder = own_tasks.files[0].parent
    write_jsonl(folder / "held_out.jsonl", [make_task(number) for number in range(6)])
    named = OwnTasks(own_tasks.files, own_tasks.search, None, (folder / "held_out.jsonl",))
    make_run(named, tasks_per_round=100, max_rounds=2).run()
    worked_on = sorted(task_id for _, tasks in notes.generated for task_id in tasks)
    assert worked_on == [make_task(number).id for number in range(6, COUNT)]


def test_too_few_tasks_are_refused(notes: Notes, own_tasks: OwnTasks) -> None:
    write_jsonl(own_tasks.files[0], [make_task(number) for number in range(4)])
    with pytest.raises(TaskError, match="3 tasks to train on and 1 held out are too few"):
        make_run(own_tasks).run()


def test_a_folder_of_other_settings_or_tasks_is_refused(notes: Notes, own_tasks: OwnTasks) -> None:
    make_run(own_tasks).run()
    with pytest.raises(ConfigError, match="holds a run with other settings"):
        make_run(own_tasks, patience=2)
    other = OwnTasks((own_tasks.files[0].with_name("other.jsonl"),), own_tasks.search, own_tasks.index)
    with pytest.raises(ConfigError, match="holds a run with other settings"):
        make_run(other)
