"""Rollouts for RL: many runs of the agent graph at once, each ending in a recorded trajectory.

The graph is the one that serves in production. A rollout that raises is unscorable: it leaves its group instead
of counting as a zero, because a failed search says nothing about the policy.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass

from masksearch_agent.agent.runnable import MaskSearchAgent
from masksearch_agent.errors import MaskSearchError, TrainingError
from masksearch_agent.records import Sampling, SearchTask, TrainingRow, Trajectory
from masksearch_agent.rewards.mix import Reward, RewardMix
from masksearch_agent.traces.rows import make_rows

__all__ = ("Group", "Rollout", "RolloutRunner")

logger = logging.getLogger(__name__)

_ROLLOUTS_PER_CALL = 1_000_000
"""More than any call runs, so the seeds of two calls never meet; a task drawn twice is rolled out differently."""


@dataclass(frozen=True, slots=True)
class Rollout:
    """A scored trajectory and the rows to train on."""

    trajectory: Trajectory
    reward: Reward
    rows: tuple[TrainingRow, ...]


@dataclass(frozen=True, slots=True)
class Group:
    """The rollouts of one task; failed ones are left out."""

    task: SearchTask
    rollouts: tuple[Rollout, ...]
    failed: int

    @property
    def is_useful(self) -> bool:
        """Whether the rewards differ, so that the group says which rollouts were better.

        Compared exactly, not by a standard deviation above some noise: equal rewards are equal floats.
        """
        return len({rollout.reward.total for rollout in self.rollouts}) > 1

    def advantages(self) -> list[float]:
        """Return each rollout's reward minus the group's mean, over its standard deviation (DAPO, eq. 9)."""
        totals = [rollout.reward.total for rollout in self.rollouts]
        mean = sum(totals) / len(totals)
        deviation = (sum((total - mean) ** 2 for total in totals) / max(1, len(totals) - 1)) ** 0.5
        return [(total - mean) / (deviation + 1e-4) for total in totals]


class RolloutRunner:
    """Runs groups of rollouts through an agent.

    Args:
        agent: The agent; its model must record tokens.
        reward: Scores trajectories.
        sampling: Temperature and the like. Per-step token limits stay the agent's own.
        group_size: Rollouts per task.
    """

    def __init__(
        self, agent: MaskSearchAgent, reward: RewardMix, sampling: Sampling, group_size: int
    ) -> None:
        self.agent = agent
        self.reward = reward
        self.sampling = sampling
        self.group_size = group_size

    def run(self, tasks: Sequence[SearchTask], seed: int) -> list[Group]:
        """Run `group_size` rollouts of each task, all at once.

        Args:
            tasks: What to roll out.
            seed: Another one for each call: rollouts are sampled, and their trajectories named, by it.

        Raises:
            TrainingError: Not one rollout of all tasks succeeded.
        """
        return asyncio.run(self._run_all(tasks, seed))

    async def _run_all(self, tasks: Sequence[SearchTask], seed: int) -> list[Group]:
        runs = [
            self.agent.run_task(task, self.sampling, seed=seed * _ROLLOUTS_PER_CALL + number)
            for number, task in enumerate(task for task in tasks for _ in range(self.group_size))
        ]
        results = await asyncio.gather(*runs, return_exceptions=True)
        groups = []
        for index, task in enumerate(tasks):
            outcomes = results[index * self.group_size : (index + 1) * self.group_size]
            rollouts = []
            for outcome in outcomes:
                if isinstance(outcome, BaseException):
                    _report_failure(task, outcome)
                else:
                    rows = tuple(make_rows(outcome))
                    rollouts.append(Rollout(outcome, self.reward(task, outcome), rows))
            groups.append(Group(task, tuple(rollouts), failed=len(outcomes) - len(rollouts)))
        if tasks and not any(group.rollouts for group in groups):
            first = next(result for result in results if isinstance(result, BaseException))
            raise TrainingError(f"all {len(results)} rollouts failed; the first with: {first}") from first
        return groups


def _report_failure(task: SearchTask, failure: BaseException) -> None:
    """Log a failed rollout; what is not an error of the run (Ctrl-C, a bug's signal) goes on up."""
    if not isinstance(failure, Exception):
        raise failure
    level = logging.WARNING if isinstance(failure, MaskSearchError) else logging.ERROR
    logger.log(level, "rollout of task %s failed and leaves its group: %s", task.id, failure)
