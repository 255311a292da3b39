"""The generation stages: trajectories by the generator's teacher, or by a student that samples its own."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from masksearch_agent.agent.prompts import PromptSet
from masksearch_agent.agent.runnable import MaskSearchAgent
from masksearch_agent.calls.accounting import Spending
from masksearch_agent.config.agent import AgentSettings
from masksearch_agent.config.evolution import EvolutionSettings
from masksearch_agent.config.generator import GeneratorSettings
from masksearch_agent.generator.casting import cast_roles
from masksearch_agent.generator.runner import GenerationReport, TrajectoryGenerator
from masksearch_agent.generator.student import StudentGenerator
from masksearch_agent.records import SearchTask, Trajectory
from masksearch_agent.retrieval.search import Search
from masksearch_agent.stages.costs import cost_of, spent_text
from masksearch_agent.stages.display import Bar
from masksearch_agent.stages.stage import AgentFolder, Searched, Site, Spent, Stage, TaskFile, Traces
from masksearch_agent.stages.tasks import read_task_files
from masksearch_agent.traces.store import TraceStore

__all__ = ("Generation", "Lessons", "OwnAttempts", "generate_trajectories", "summarise_generation")

_STORE = "traces.sqlite"


@dataclass(frozen=True, kw_only=True, eq=False)
class Generation(Stage):
    """Makes trajectories for tasks, and keeps them in a trace store."""

    retries = True

    tasks: TaskFile
    searched: Searched
    agent_settings: AgentSettings
    """Limits of the agent to be trained."""
    trace_stage: str = "ramp"
    only: tuple[int, int] | None = None
    """Which tasks of the file, from the first number up to the second; None for all."""

    @property
    def traces(self) -> Traces:
        """The trajectories."""
        return Traces(_STORE, self, self.trace_stage)

    def chosen_tasks(self, site: Site) -> list[SearchTask]:
        """Read the tasks that it is about."""
        return read_task_files([site.where(self.tasks)])[slice(*(self.only or (None,)))]


@dataclass(frozen=True, kw_only=True, eq=False)
class Lessons(Generation):
    """Has the teacher work on tasks, and the judge accept or reject what comes of it."""

    kind = "trajectories"

    settings: GeneratorSettings
    prompts: PromptSet

    def work(self, folder: Path, site: Site, bar: Bar) -> Spent:
        """Generate a trajectory for every task that has none yet."""
        done = generate_trajectories(
            self.chosen_tasks(site), site.search(self.searched), self.settings, self.agent_settings, self.prompts,
            folder / _STORE, self.trace_stage, bar, site.retry_failed,
        )  # fmt: skip
        return Spent(items=done["tasks"], failed=done["failed"], failures=done["failures"])


@dataclass(frozen=True, kw_only=True, eq=False)
class OwnAttempts(Generation):
    """Has an agent work on tasks itself: its attempts that the judge accepts can train the next one."""

    kind = "attempts"

    agent: AgentFolder
    settings: EvolutionSettings
    """Attempts at a task, and their temperature."""
    generator: GeneratorSettings
    seed: int

    def work(self, folder: Path, site: Site, bar: Bar) -> Spent:
        """Attempt every task that was not attempted yet."""
        tasks = self.chosen_tasks(site)
        _, judge = cast_roles(self.generator, self.agent_settings, Spending())
        agent = MaskSearchAgent.from_pretrained(site.where(self.agent), search=site.search(self.searched))
        student = StudentGenerator(agent, judge, self.settings, self.generator, self.seed)
        solved = done = 0

        def count(attempts: list[Trajectory]) -> None:
            nonlocal solved, done
            solved, done = solved + bool(attempts[-1].accepted), done + 1
            bar.step(f"{solved / done:.0%} solved")

        with TraceStore(folder / _STORE) as store, closing(agent):
            bar.start(len(store.finished_task_ids(self.trace_stage)), len({task.id for task in tasks}))
            report = student.run(tasks, store, self.trace_stage, count, site.retry_failed)
        return Spent(items=report.tasks, failed=report.failed, failures=dict(report.failures.reasons))


def generate_trajectories(
    tasks: Sequence[SearchTask],
    search: Search,
    settings: GeneratorSettings,
    agent_settings: AgentSettings,
    prompts: PromptSet,
    out: Path,
    trace_stage: str,
    bar: Bar | None = None,
    retry_failed: bool = False,
) -> dict[str, Any]:
    """Generate a trajectory for every task that has none yet in a stage of the trace store `out`.

    Returns:
        What was accepted, rejected and failed.
    """
    spending = Spending()
    teacher, judge = cast_roles(settings, agent_settings, spending)
    generator = TrajectoryGenerator(search, prompts, agent_settings, settings, teacher, judge)
    with TraceStore(out) as store:
        accepted = done = 0
        if bar is not None:
            task_ids = {task.id for task in tasks}
            bar.start(len(store.finished_task_ids(trace_stage) & task_ids), len(task_ids))

        def count(attempts: list[Trajectory]) -> None:
            nonlocal accepted, done
            accepted, done = accepted + bool(attempts[-1].accepted), done + 1
            if bar is not None:
                bar.step(f"{trace_stage}, {accepted / done:.0%} accepted{spent_text(spending)}")

        report = generator.run(tasks, store, trace_stage, count, retry_failed)
    return summarise_generation(report, spending)


def summarise_generation(report: GenerationReport, spending: Spending) -> dict[str, Any]:
    """Return what a generation run did, for people to read."""
    return {
        "tasks": report.tasks,
        "accepted": report.accepted,
        "rejected": report.rejected,
        "skipped": report.skipped,
        "failed": report.failed,
        "reasons": dict(report.reasons),
        "failures": dict(report.failures.reasons),
        **cost_of(spending),
    }
