"""Runs the generator graph over many tasks into the trace store.

Each task ends in exactly one stored trajectory, accepted or rejected, or in the reason why it failed. So a run that
was killed goes on with the tasks that have neither yet, and tries what failed again only where it is asked to.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Coroutine, Iterable
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

from masksearch_agent.agent.prompts import PromptSet
from masksearch_agent.calls.connections import close_connections
from masksearch_agent.concurrency import run_many, write_in_thread
from masksearch_agent.config.agent import AgentSettings
from masksearch_agent.config.generator import GeneratorSettings
from masksearch_agent.failures import Failures
from masksearch_agent.generator.graph import GeneratorContext, build_generator_graph, trajectory_of
from masksearch_agent.generator.hindsight import HindsightTeacher
from masksearch_agent.generator.judge import RuleJudge
from masksearch_agent.generator.roles import Judge, Teacher
from masksearch_agent.records import SearchTask, Trajectory
from masksearch_agent.retrieval.leak_guard import LeakGuard
from masksearch_agent.retrieval.search import Search
from masksearch_agent.traces.store import PackedTrajectory, TraceStore

__all__ = ("GenerationReport", "OnTask", "TaskRun", "TrajectoryGenerator")

OnTask = Callable[[list[Trajectory]], None]
"""Called with the attempts at a task, the last of which counts, once they are stored."""


@dataclass
class GenerationReport:
    """What a generation run did."""

    accepted: int = 0
    rejected: int = 0
    skipped: int = 0
    """Tasks that had an outcome already."""
    reasons: Counter[str] = field(default_factory=Counter)
    """Verdicts of the rejected."""
    failures: Failures = field(default_factory=Failures)
    """Tasks without an outcome, those that failed in an earlier run among them."""

    @property
    def failed(self) -> int:
        """Number of tasks that failed."""
        return self.failures.count

    @property
    def tasks(self) -> int:
        """Number of all tasks."""
        return self.accepted + self.rejected + self.skipped + self.failed

    def count(self, trajectory: Trajectory | PackedTrajectory) -> None:
        """Add an outcome."""
        self.failures.note_success()
        if trajectory.accepted:
            self.accepted += 1
        else:
            self.rejected += 1
            self.reasons[trajectory.verdict] += 1


class TrajectoryGenerator:
    """The generator graph with everything it needs.

    `prompts` and `agent_settings` are those of the agent to be trained. By default the hindsight teacher teaches, and
    the rule judge judges.
    """

    def __init__(
        self,
        search: Search,
        prompts: PromptSet,
        agent_settings: AgentSettings,
        settings: GeneratorSettings | None = None,
        teacher: Teacher | None = None,
        judge: Judge | None = None,
    ) -> None:
        self.settings = settings or GeneratorSettings()
        self.prompts = prompts
        self.teacher: Teacher = teacher or HindsightTeacher(self.settings, agent_settings.answer_form)
        judge = judge or RuleJudge(agent_settings.max_queries)
        self.builder = build_generator_graph(
            self.teacher, judge, search, prompts, agent_settings, self.settings
        )
        self.graph = self.builder.compile(name="masksearch-generator").with_config(
            recursion_limit=5 * self.settings.max_rounds + 10
        )

    async def run_task(self, task: SearchTask) -> Trajectory:
        """Generate one trajectory, judged."""
        run = GeneratorContext(guard=LeakGuard.for_task(task))
        state = await self.graph.ainvoke({"task": run.records.dump(task)}, context=run)
        return trajectory_of(state, run, self.prompts, self.teacher.name, self.settings.seed)

    def run(
        self,
        tasks: Iterable[SearchTask],
        store: TraceStore,
        stage: str,
        on_task: OnTask | None = None,
        retry_failed: bool = False,
    ) -> GenerationReport:
        """Generate a trajectory for every task that has none in the stage yet; see `TaskRun`."""

        async def attempt(task: SearchTask) -> list[Trajectory]:
            return [await self.run_task(task)]

        return TaskRun(attempt, store, stage, self.settings, on_task, retry_failed).work(tasks)


@dataclass
class TaskRun:
    """One pass over tasks: attempts every one that has no outcome in a stage yet."""

    attempt: Callable[[SearchTask], Coroutine[Any, Any, list[Trajectory]]]
    """Returns the attempts at a task, judged; the last one counts."""
    store: TraceStore
    """Where each task's attempts go at once, all of them or none."""
    stage: str
    """Name under which they are kept."""
    settings: GeneratorSettings
    """Tasks in flight at once, and how many may fail in a row."""
    on_task: OnTask | None = None
    retry_failed: bool = False
    """Whether tasks that failed in an earlier run are attempted again."""
    report: GenerationReport = field(default_factory=GenerationReport)
    pending: list[asyncio.Task[list[Trajectory]]] = field(default_factory=list)

    def work(self, tasks: Iterable[SearchTask]) -> GenerationReport:
        """Attempt the tasks, which are read as the run goes.

        Raises:
            ServiceError: A service failed for too many tasks in a row.
        """
        self.report.failures.most_in_a_row = self.settings.max_failures_in_a_row
        return run_many(self._work(tasks))

    async def _work(self, tasks: Iterable[SearchTask]) -> GenerationReport:
        finished = self.store.finished_task_ids(self.stage)
        failed = {} if self.retry_failed else self.store.failures(self.stage)
        try:
            for task in tasks:
                if task.id in finished:
                    self.report.skipped += 1
                    continue
                finished.add(task.id)
                if task.id in failed:
                    self.report.failures.note_earlier(failed[task.id])
                    continue
                self.pending.append(asyncio.create_task(self.attempt(task), name=task.id))
                if len(self.pending) >= self.settings.concurrency:
                    await self._store_finished()
            while self.pending:
                await self._store_finished()
        finally:
            for unfinished in self.pending:
                unfinished.cancel()
            await close_connections()
        return self.report

    async def _store_finished(self) -> None:
        """Wait for a task, and store all that are finished."""
        await asyncio.wait(self.pending, return_when=asyncio.FIRST_COMPLETED)
        done = [run for run in self.pending if run.done()]
        outcomes = [run.result() for run in done if run.exception() is None]
        # Writing to disk takes as long as a trajectory does: in a thread, and for all that wait for it at once.
        await write_in_thread(self.store.add_many, chain.from_iterable(outcomes), self.stage)
        for attempts in outcomes:
            self.report.count(attempts[-1])
            if self.on_task is not None:
                self.on_task(attempts)
        failed: dict[str, str] = {}
        try:
            for run in done:
                if (failure := run.exception()) is not None:
                    failed[run.get_name()] = self.report.failures.add(f"task {run.get_name()}", failure)
        finally:
            if failed:
                self.store.add_failures(failed, self.stage)
        self.pending = [run for run in self.pending if run not in done]
