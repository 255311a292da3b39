from __future__ import annotations

import asyncio
import signal
from collections import Counter
from typing import Any

import pytest

from masksearch_agent.config.evolution import EvolutionSettings
from masksearch_agent.config.generator import GeneratorSettings
from masksearch_agent.errors import ReplyError, ServiceError
from masksearch_agent.generator.roles import CallLog, Verdict
from masksearch_agent.generator.student import StudentGenerator
from masksearch_agent.records import Sampling, SearchTask, Trajectory, content_id
from masksearch_agent.traces.store import TraceStore

TASKS = [SearchTask(f"task-{number}", "qa", f"Question {number}?", (("yes",),)) for number in range(12)]


class ScriptedStudent:
    """Answers a task rightly at its nth attempt; `task-3` at the 3rd, and none from the 5th on."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, int, float]] = []
        self.failing: set[str] = set()
        self.at_once = self.most_at_once = 0

    async def run_task(self, task: SearchTask, sampling: Sampling, seed: int) -> Trajectory:
        if task.id in self.failing:
            raise ServiceError("the search is down")
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        await asyncio.sleep(0.001)
        self.at_once -= 1
        self.asked.append((task.id, seed, sampling.temperature))
        attempt = sum(asked == task.id for asked, _, _ in self.asked)
        answer = "yes" if attempt == int(task.id.removeprefix("task-")) % 5 else "no"
        return Trajectory(content_id(task.id, seed), task.id, (), answer, "answered", seed=seed)


class WordJudge:
    """Accepts `yes`; cannot be understood about `task-7`."""

    async def judge(self, task: SearchTask, trajectory: Trajectory, log: CallLog | None = None) -> Verdict:
        if task.id == "task-7":
            raise ReplyError("the judge babbles")
        return Verdict(trajectory.answer == "yes", "accepted" if trajectory.answer == "yes" else "wrong")


def make_generator(student: ScriptedStudent, seed: int = 0, **generator: Any) -> StudentGenerator:
    settings = EvolutionSettings(samples_per_task=3, temperature=0.7)
    agent: Any = student
    return StudentGenerator(agent, WordJudge(), settings, GeneratorSettings(**generator), seed)


def attempts_by_task(store: TraceStore) -> Counter[str]:
    return Counter(trajectory.task_id for trajectory in store.trajectories("s"))


def test_a_task_is_attempted_until_one_is_accepted_and_all_attempts_are_kept(store: TraceStore) -> None:
    student = ScriptedStudent()
    make_generator(student).run(TASKS[1:6], store, "s")
    assert attempts_by_task(store) == {"task-1": 1, "task-2": 2, "task-3": 3, "task-4": 3, "task-5": 3}
    assert {t.task_id for t in store.trajectories("s", accepted=True)} == {"task-1", "task-2", "task-3"}
    assert store.reasons("s") == {"wrong": 9}
    assert {temperature for _, _, temperature in student.asked} == {0.7}


def test_attempts_differ_in_their_seed_and_so_do_runs(store: TraceStore) -> None:
    for seed, expected in ((0, [0, 1, 2]), (5, [15, 16, 17])):
        student = ScriptedStudent()
        make_generator(student, seed).run([TASKS[4]], store, f"seed {seed}")
        assert [asked for _, asked, _ in student.asked] == expected


def test_a_judge_that_cannot_be_understood_rejects_with_its_reason(store: TraceStore) -> None:
    make_generator(ScriptedStudent()).run([TASKS[7]], store, "s")
    assert store.reasons("s") == {"the judge babbles": 3}


@pytest.mark.usefixtures("ctrl_c")
@pytest.mark.parametrize("killed_after", [1, 5, 11])
def test_a_killed_run_goes_on_with_the_tasks_that_have_no_attempt(
    store: TraceStore, killed_after: int
) -> None:
    seen: list[str] = []

    def kill(attempts: list[Trajectory]) -> None:
        assert all(store.get(attempt.id) == attempt for attempt in attempts)
        seen.append(attempts[0].task_id)
        if len(seen) == killed_after:
            # As Ctrl-C does, which a runner takes for a request to cancel its main task.
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        make_generator(ScriptedStudent(), concurrency=2).run(TASKS, store, "s", kill)
    before = set(attempts_by_task(store))
    assert set(seen) <= before
    student = ScriptedStudent()
    make_generator(student).run(TASKS, store, "s")
    assert {task_id for task_id, _, _ in student.asked} == {task.id for task in TASKS} - before
    with TraceStore(store.path.with_name("whole.db")) as whole:
        make_generator(ScriptedStudent()).run(TASKS, whole, "s")
        assert {t.id for t in store.trajectories("s")} == {t.id for t in whole.trajectories("s")}
        assert attempts_by_task(store) == attempts_by_task(whole)


def test_no_more_tasks_than_allowed_are_in_flight(store: TraceStore) -> None:
    student = ScriptedStudent()
    make_generator(student, concurrency=3).run(TASKS, store, "s")
    assert student.most_at_once == 3


def test_a_task_whose_search_is_down_has_no_attempt_until_it_is_tried_again(store: TraceStore) -> None:
    student = ScriptedStudent()
    student.failing = {"task-2", "task-9"}
    assert make_generator(student).run(TASKS, store, "s").failed == 2
    assert set(attempts_by_task(store)) == {task.id for task in TASKS} - student.failing
    student.failing = set()
    assert make_generator(student).run(TASKS, store, "s").failed == 2
    assert make_generator(student).run(TASKS, store, "s", retry_failed=True).failed == 0
    assert set(attempts_by_task(store)) == {task.id for task in TASKS}


def test_it_gives_up_where_every_search_fails(store: TraceStore) -> None:
    student = ScriptedStudent()
    student.failing = {task.id for task in TASKS}
    with pytest.raises(
        ServiceError, match="4 items in a row failed, the last one because the search is down"
    ):
        make_generator(student, max_failures_in_a_row=4).run(TASKS, store, "s")
    assert not attempts_by_task(store)
