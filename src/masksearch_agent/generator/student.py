"""The student as the teacher of the next round: it samples trajectories through its own search graph.

Each task is attempted until the judge accepts, at most `samples_per_task` times (rejection sampling, as in STaR,
arXiv 2203.14465). All attempts at a task are stored in one transaction, the rejected ones with their reason, so a run
that is killed goes on with the tasks that have none yet, and a task is never half done.
"""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from masksearch_agent.agent.runnable import MaskSearchAgent
from masksearch_agent.concurrency import gather_bounded, run_many
from masksearch_agent.config.evolution import EvolutionSettings
from masksearch_agent.config.generator import GeneratorSettings
from masksearch_agent.errors import ReplyError, ServiceError
from masksearch_agent.generator.roles import CallLog, Judge, Verdict
from masksearch_agent.generator.runner import GenerationReport
from masksearch_agent.records import Sampling, SearchTask, Trajectory
from masksearch_agent.traces.store import TraceStore

__all__ = ("StudentGenerator",)


class StudentGenerator:
    """A trained agent and the judge of its attempts.

    Args:
        agent: The student. Its model must record tokens, so that what it sampled is what the next student trains on.
        judge: Accepts or rejects an attempt.
        settings: Attempts and temperature.
        generator: Tasks in flight at once, and how many may fail in a row.
        seed: Another one samples other attempts.
    """

    def __init__(
        self,
        agent: MaskSearchAgent,
        judge: Judge,
        settings: EvolutionSettings | None = None,
        generator: GeneratorSettings | None = None,
        seed: int = 0,
    ) -> None:
        self.agent = agent
        self.judge = judge
        self.settings = settings or EvolutionSettings()
        self.generator = generator or GeneratorSettings()
        self.first_seed = seed * self.settings.samples_per_task

    async def run_task(self, task: SearchTask) -> list[Trajectory]:
        """Attempt a task until one is accepted, and return all attempts, judged."""
        attempts: list[Trajectory] = []
        for number in range(self.settings.samples_per_task):
            sampling = Sampling(temperature=self.settings.temperature)
            attempt = await self.agent.run_task(task, sampling, self.first_seed + number)
            attempts.append(await self._judge(task, attempt))
            if attempts[-1].accepted:
                break
        return attempts

    def run(
        self,
        tasks: Iterable[SearchTask],
        store: TraceStore,
        stage: str,
        on_task: Callable[[list[Trajectory]], None] | None = None,
    ) -> int:
        """Attempt every task that has no attempt in the stage yet.

        Args:
            tasks: What to work on.
            store: Where a task's attempts go at once.
            stage: Name under which they are kept.
            on_task: Called with the attempts at each task once they are stored.

        Returns:
            The number of tasks that a failing service kept from ending; the next start tries them again.

        Raises:
            GenerationError: Too many tasks in a row failed so.
        """
        finished = store.finished_task_ids(stage)
        pending = [task for task in tasks if task.id not in finished]
        return run_many(_Run(self, store, stage, on_task).work(pending))

    async def _judge(self, task: SearchTask, attempt: Trajectory) -> Trajectory:
        log = CallLog()
        try:
            verdict = await self.judge.judge(task, attempt, log)
        except ReplyError as failure:
            verdict = Verdict(False, str(failure))
        usage = log.usage if log.turns else None
        return dataclasses.replace(attempt, accepted=verdict.is_accepted, verdict=verdict.reason, usage=usage)


@dataclass
class _Run:
    """One pass over the tasks of a stage."""

    generator: StudentGenerator
    store: TraceStore
    stage: str
    on_task: Callable[[list[Trajectory]], None] | None
    report: GenerationReport = field(default_factory=GenerationReport)

    async def work(self, tasks: list[SearchTask]) -> int:
        """Attempt the tasks, a bounded number at once."""
        await gather_bounded(self._attempt, tasks, self.generator.generator.concurrency)
        return self.report.failed

    async def _attempt(self, task: SearchTask) -> None:
        try:
            attempts = await self.generator.run_task(task)
        except ServiceError as failure:
            self.report.count_failure(failure, self.generator.generator.max_failures_in_a_row)
            return
        await asyncio.to_thread(self.store.add_many, attempts, self.stage)
        self.report.count(attempts[-1])
        if self.on_task is not None:
            self.on_task(attempts)
