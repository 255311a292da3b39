from __future__ import annotations

import asyncio
import errno
import os
import signal
import time
from collections import Counter
from collections.abc import Iterable, Iterator

import pytest
from fakes.backends import TableBackend

from masksearch_agent.agent.prompts import COMPACT_PROMPTS, FULL_PROMPTS, PromptSet
from masksearch_agent.config.agent import AgentSettings
from masksearch_agent.config.generator import GeneratorSettings
from masksearch_agent.generator.hindsight import HindsightTeacher
from masksearch_agent.generator.roles import Findings, Plan
from masksearch_agent.generator.runner import TrajectoryGenerator
from masksearch_agent.records import Hop, Passage, SearchTask, Trajectory
from masksearch_agent.retrieval.search import Search
from masksearch_agent.traces.store import TraceStore

COUNT = 20
UNTOLD = {"task-3", "task-11"}


def make_task(number: int) -> SearchTask:
    hop = Hop(f"need {number}", f"query {number}", f"answer {number}")
    return SearchTask(f"task-{number}", "qa", f"Question {number}?", ((hop.answer,),), hops=(hop,))


TASKS = [make_task(number) for number in range(COUNT)]
TABLE = {
    task.hops[0].query: [Passage(task.id, "", f"{task.hops[0].query}: {task.hops[0].answer}")]
    for task in TASKS
    if task.id not in UNTOLD
}


class SlowTeacher(HindsightTeacher):
    """Takes a moment to plan, and counts how many tasks it is planning for at once."""

    def __init__(self, failing_task: str = "", failure: Exception | None = None) -> None:
        super().__init__()
        self.failing_task = failing_task
        self.failure = failure or ConnectionError("the teacher is gone")
        self.working: Counter[str] = Counter()
        self.most_working = 0
        self.planned: list[str] = []

    async def plan(self, findings: Findings) -> Plan:
        if findings.task.id == self.failing_task:
            raise self.failure
        self.planned.append(findings.task.id)
        self.working[findings.task.id] += 1
        self.most_working = max(self.most_working, len(+self.working))
        await asyncio.sleep(0.002)
        self.working[findings.task.id] -= 1
        return await super().plan(findings)


def make_generator(teacher: HindsightTeacher | None = None, concurrency: int = 4) -> TrajectoryGenerator:
    settings = GeneratorSettings(concurrency=concurrency)
    search = Search(TableBackend(TABLE))
    return TrajectoryGenerator(search, COMPACT_PROMPTS, AgentSettings(), settings, teacher=teacher)


def stored(store: TraceStore, stage: str = "s") -> list[str]:
    return sorted(trajectory.task_id for trajectory in store.trajectories(stage))


def test_each_task_ends_in_one_stored_outcome_with_the_reason_of_the_rejected(store: TraceStore) -> None:
    report = make_generator().run(TASKS, store, "s")
    assert stored(store) == sorted(task.id for task in TASKS)
    assert {t.task_id for t in store.trajectories("s", accepted=False)} == UNTOLD
    assert (report.accepted, report.rejected, report.skipped) == (COUNT - 2, 2, 0)
    assert report.reasons == {"not supported by the retrieved passages": 2}
    assert store.reasons("s") == report.reasons


def test_a_finished_run_does_nothing_again(store: TraceStore) -> None:
    make_generator().run(TASKS, store, "s")
    teacher = SlowTeacher()
    report = make_generator(teacher).run(TASKS, store, "s")
    assert (report.accepted, report.rejected, report.skipped) == (0, 0, COUNT)
    assert teacher.planned == []


def test_a_task_that_comes_twice_is_done_once(store: TraceStore) -> None:
    report = make_generator().run([*TASKS, *TASKS], store, "s")
    assert (report.accepted + report.rejected, report.skipped) == (COUNT, COUNT)


def test_another_stage_has_outcomes_of_its_own(store: TraceStore) -> None:
    make_generator().run(TASKS[:5], store, "first")
    report = make_generator().run(TASKS[:5], store, "second")
    assert report.skipped == 0
    assert stored(store, "second") == stored(store, "first")


def test_a_stage_holds_what_its_own_index_and_prompts_made(store: TraceStore) -> None:
    def generator(table: dict[str, list[Passage]], prompts: PromptSet) -> TrajectoryGenerator:
        settings = GeneratorSettings(concurrency=4)
        return TrajectoryGenerator(Search(TableBackend(table)), prompts, AgentSettings(), settings)

    for stage, table, prompts in [
        ("nothing found", {}, COMPACT_PROMPTS),
        ("found", TABLE, COMPACT_PROMPTS),
        ("found again", TABLE, COMPACT_PROMPTS),
        ("in full", TABLE, FULL_PROMPTS),
    ]:
        report = generator(table, prompts).run(TASKS, store, stage)
        assert (store.count(stage, True), store.count(stage, False)) == (report.accepted, report.rejected)
        assert report.accepted == (COUNT - 2 if table else 0)
    openings = {made.turns[0].context[0].content for made in store.trajectories("in full")}
    assert openings == {FULL_PROMPTS.question_system}
    assert {made.id for made in store.trajectories("found")} == {
        made.id for made in store.trajectories("found again")
    }


@pytest.mark.usefixtures("ctrl_c")
@pytest.mark.parametrize("killed_after", [1, 7, COUNT])
def test_a_run_killed_in_the_middle_goes_on_where_it_was(store: TraceStore, killed_after: int) -> None:
    seen: list[Trajectory] = []

    def kill(attempts: list[Trajectory]) -> None:
        [trajectory] = attempts
        assert store.get(trajectory.id) == trajectory
        seen.append(trajectory)
        if len(seen) == killed_after:
            # As Ctrl-C does, which a runner takes for a request to cancel its main task.
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        make_generator().run(TASKS, store, "s", on_task=kill)
    before = stored(store)
    assert {trajectory.task_id for trajectory in seen} <= set(before)
    teacher = SlowTeacher()
    report = make_generator(teacher).run(TASKS, store, "s")
    assert stored(store) == sorted(task.id for task in TASKS)
    assert report.skipped == len(before)
    assert not set(teacher.planned) & set(before)


@pytest.mark.usefixtures("ctrl_c")
def test_nothing_is_written_once_a_stopped_run_has_returned(
    store: TraceStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_many, events = store.add_many, list[str]()

    def write_slowly(trajectories: Iterable[Trajectory], stage: str) -> int:
        events.append("begun")
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.3)
        added = add_many(trajectories, stage)
        events.append("written")
        return added

    monkeypatch.setattr(store, "add_many", write_slowly)
    with pytest.raises(KeyboardInterrupt):
        make_generator().run(TASKS, store, "s")
    events.append("returned")
    time.sleep(0.4)
    assert events == ["begun", "written", "returned"]


def test_a_task_that_fails_costs_that_task_and_is_tried_again_only_where_that_is_asked_for(
    store: TraceStore,
) -> None:
    report = make_generator(SlowTeacher(failing_task="task-15"), concurrency=2).run(TASKS, store, "s")
    assert (report.failed, report.tasks) == (1, COUNT)
    assert report.failures.reasons == {"ConnectionError: the teacher is gone": 1}
    assert store.failures("s") == {"task-15": "ConnectionError: the teacher is gone"}
    assert "task-15" not in stored(store)
    again = make_generator().run(TASKS, store, "s")
    assert (again.skipped, again.failed, again.accepted + again.rejected) == (COUNT - 1, 1, 0)
    retried = make_generator().run(TASKS, store, "s", retry_failed=True)
    assert (retried.skipped, retried.failed, retried.accepted) == (COUNT - 1, 0, 1)
    assert stored(store) == sorted(task.id for task in TASKS)
    assert store.failures("s") == {}


@pytest.mark.parametrize("stopping", [MemoryError(), OSError(errno.ENOSPC, "No space left on device")])
def test_what_is_more_than_one_tasks_stops_the_run_and_keeps_what_was_finished(
    store: TraceStore, stopping: Exception
) -> None:
    teacher = SlowTeacher(failing_task="task-15", failure=stopping)
    with pytest.raises(type(stopping)):
        make_generator(teacher, concurrency=2).run(TASKS, store, "s")
    assert ("task-0" in stored(store), "task-15" in stored(store), store.failures("s")) == (True, False, {})
    make_generator().run(TASKS, store, "s")
    assert stored(store) == sorted(task.id for task in TASKS)


def test_as_many_tasks_are_in_flight_as_allowed_and_no_more(store: TraceStore) -> None:
    teacher = SlowTeacher()
    make_generator(teacher, concurrency=3).run(TASKS, store, "s")
    assert teacher.most_working == 3


def test_tasks_are_read_as_the_run_goes(store: TraceStore) -> None:
    read: list[str] = []
    open_tasks: list[int] = []

    def stream() -> Iterator[SearchTask]:
        for task in TASKS:
            read.append(task.id)
            yield task

    def look(attempts: list[Trajectory]) -> None:
        open_tasks.append(len(read) - len(open_tasks))

    make_generator(concurrency=3).run(stream(), store, "s", on_task=look)
    assert max(open_tasks) <= 4
    assert len(open_tasks) == COUNT
