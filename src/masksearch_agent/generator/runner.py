"""Runs the generator graph over many tasks into the trace store.

Each task ends in exactly one stored trajectory, accepted or rejected, so a run that was killed goes on with the
tasks that have none yet. A task that a failing service kept from ending has none either: the next start tries it
again.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from masksearch_agent.agent.prompts import PromptSet
from masksearch_agent.calls.connections import close_connections
from masksearch_agent.concurrency import run_many
from masksearch_agent.config.agent import AgentSettings
from masksearch_agent.config.generator import GeneratorSettings
from masksearch_agent.errors import GenerationError, ServiceError
from masksearch_agent.generator.graph import GeneratorContext, build_generator_graph, trajectory_of
from masksearch_agent.generator.hindsight import HindsightTeacher
from masksearch_agent.generator.judge import RuleJudge
from masksearch_agent.generator.roles import CallLog, Judge, Teacher
from masksearch_agent.records import SearchTask, Trajectory
from masksearch_agent.retrieval.leak_guard import LeakGuard
from masksearch_agent.retrieval.search import Search
from masksearch_agent.traces.store import PackedTrajectory, TraceStore

__all__ = ("GenerationReport", "TrajectoryGenerator")

logger = logging.getLogger(__name__)


@dataclass
class GenerationReport:
    """What a generation run did."""

    accepted: int = 0
    rejected: int = 0
    skipped: int = 0
    """Tasks that had an outcome already."""
    reasons: Counter[str] = field(default_factory=Counter)
    """Verdicts of the rejected."""
    failed: int = 0
    """Tasks without an outcome, because a service failed for too long."""
    failures_in_a_row: int = 0

    def count(self, trajectory: Trajectory | PackedTrajectory) -> None:
        """Add an outcome."""
        self.failures_in_a_row = 0
        if trajectory.accepted:
            self.accepted += 1
        else:
            self.rejected += 1
            self.reasons[trajectory.verdict] += 1

    def count_failure(self, failure: ServiceError, most_in_a_row: int) -> None:
        """Add a task that has no outcome.

        Raises:
            GenerationError: It is the last of too many in a row.
        """
        logger.warning("a task has no outcome yet: %s", failure)
        self.failed += 1
        self.failures_in_a_row += 1
        if self.failures_in_a_row >= most_in_a_row:
            raise GenerationError(
                f"{self.failures_in_a_row} tasks in a row failed, the last one because {failure}"
            ) from failure


class TrajectoryGenerator:
    """The generator graph with everything it needs.

    Args:
        search: What is searched.
        prompts: Prompts of the agent to be trained.
        agent_settings: Limits of the agent to be trained.
        settings: Rounds, concurrency and seed.
        teacher: By default the hindsight teacher.
        judge: By default the rule judge.
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
        self.judge: Judge = judge or RuleJudge(agent_settings.max_queries)
        self.builder = build_generator_graph(
            self.teacher, self.judge, search, prompts, agent_settings, self.settings
        )
        self.graph = self.builder.compile(name="masksearch-generator").with_config(
            recursion_limit=5 * self.settings.max_rounds + 10
        )

    async def run_task(self, task: SearchTask) -> Trajectory:
        """Generate one trajectory, judged."""
        run = GeneratorContext(guard=LeakGuard.for_task(task), log=CallLog())
        state = await self.graph.ainvoke({"task": run.records.dump(task)}, context=run)
        return trajectory_of(state, self.prompts, self.teacher.name, self.settings.seed, run)

    def run(
        self,
        tasks: Iterable[SearchTask],
        store: TraceStore,
        stage: str,
        on_outcome: Callable[[Trajectory], None] | None = None,
    ) -> GenerationReport:
        """Generate a trajectory for every task that has none in the stage yet.

        Args:
            tasks: What to work on; read as the run goes.
            store: Where each finished trajectory goes at once.
            stage: Name under which the outcomes are kept.
            on_outcome: Called after each stored trajectory.
        """

        async def run_and_close() -> GenerationReport:
            try:
                return await self.arun(tasks, store, stage, on_outcome)
            finally:
                await close_connections()

        return run_many(run_and_close())

    async def arun(
        self,
        tasks: Iterable[SearchTask],
        store: TraceStore,
        stage: str,
        on_outcome: Callable[[Trajectory], None] | None = None,
    ) -> GenerationReport:
        """Do what `run` does, without blocking."""
        report = GenerationReport()
        finished = store.finished_task_ids(stage)
        pending: list[asyncio.Task[Trajectory]] = []
        try:
            for task in tasks:
                if task.id in finished:
                    report.skipped += 1
                    continue
                finished.add(task.id)
                pending.append(asyncio.create_task(self.run_task(task)))
                if len(pending) >= self.settings.concurrency:
                    pending = await self._store_finished(pending, store, stage, report, on_outcome)
            while pending:
                pending = await self._store_finished(pending, store, stage, report, on_outcome)
        finally:
            for unfinished in pending:
                unfinished.cancel()
        return report

    async def _store_finished(
        self,
        pending: list[asyncio.Task[Trajectory]],
        store: TraceStore,
        stage: str,
        report: GenerationReport,
        on_outcome: Callable[[Trajectory], None] | None,
    ) -> list[asyncio.Task[Trajectory]]:
        """Wait for a trajectory, store all that are finished, and return the runs that are not."""
        await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
        done = [run for run in pending if run.done()]
        failures = [failure for run in done if (failure := run.exception()) is not None]
        outcomes = [run.result() for run in done if run.exception() is None]
        # Writing to disk takes as long as a trajectory does: in a thread, and for all that wait for it at once.
        await asyncio.to_thread(store.add_many, outcomes, stage)
        for trajectory in outcomes:
            report.count(trajectory)
            if on_outcome is not None:
                on_outcome(trajectory)
        for failure in failures:
            if not isinstance(failure, ServiceError):
                raise failure
            report.count_failure(failure, self.settings.max_failures_in_a_row)
        return [run for run in pending if run not in done]
