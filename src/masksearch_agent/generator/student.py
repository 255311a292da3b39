"""The student as the teacher of the next round: it samples trajectories through its own search graph.

Each task is attempted until the judge accepts, at most `samples_per_task` times (rejection sampling, as in STaR,
arXiv 2203.14465). All attempts at a task are stored in one transaction, the rejected ones with their reason, so a run
that is killed goes on with the tasks that have none yet, and a task is never half done.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from masksearch_agent.agent.runnable import MaskSearchAgent
from masksearch_agent.config.evolution import EvolutionSettings
from masksearch_agent.config.generator import GeneratorSettings
from masksearch_agent.errors import ReplyError
from masksearch_agent.generator.roles import CallLog, Judge, Verdict
from masksearch_agent.generator.runner import GenerationReport, OnTask, TaskRun
from masksearch_agent.records import Sampling, SearchTask, Trajectory
from masksearch_agent.traces.store import TraceStore

__all__ = ("StudentGenerator",)


@dataclass(frozen=True)
class StudentGenerator:
    """A trained agent and the judge of its attempts."""

    agent: MaskSearchAgent
    """The student. Its model must record tokens, so that what it sampled is what the next student trains on."""
    judge: Judge
    settings: EvolutionSettings
    """Attempts and temperature."""
    generator: GeneratorSettings
    """Tasks in flight at once, and how many may fail in a row."""
    seed: int = 0
    """Another one samples other attempts."""

    async def run_task(self, task: SearchTask) -> list[Trajectory]:
        """Attempt a task until one is accepted, and return all attempts, judged."""
        attempts: list[Trajectory] = []
        sampling = Sampling(temperature=self.settings.temperature)
        first_seed = self.seed * self.settings.samples_per_task
        for seed in range(first_seed, first_seed + self.settings.samples_per_task):
            attempt, log = await self.agent.run_task(task, sampling, seed), CallLog()
            try:
                verdict = await self.judge.judge(task, attempt, log)
            except ReplyError as failure:
                verdict = Verdict(False, str(failure))
            usage = log.usage if log.turns else None
            attempt = replace(attempt, accepted=verdict.is_accepted, verdict=verdict.reason, usage=usage)
            attempts.append(attempt)
            if verdict.is_accepted:
                break
        return attempts

    def run(
        self,
        tasks: Iterable[SearchTask],
        store: TraceStore,
        stage: str,
        on_task: OnTask | None = None,
        retry_failed: bool = False,
    ) -> GenerationReport:
        """Attempt every task that has no attempt in the stage yet; see `TaskRun`."""
        return TaskRun(self.run_task, store, stage, self.generator, on_task, retry_failed).work(tasks)
