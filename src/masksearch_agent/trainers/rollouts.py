"""Rollouts for RL: many runs of the agent graph at once, each ending in a recorded trajectory.

The graph is the one that serves in production. A rollout that raises, or whose reward does, is unscorable: it leaves
its group instead of counting as a zero, because a failed search or judge says nothing about the policy.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from itertools import islice
from typing import Any, Literal

from masksearch_agent.agent.runnable import MaskSearchAgent
from masksearch_agent.calls.connections import close_connections
from masksearch_agent.concurrency import run_many
from masksearch_agent.errors import TrainingError
from masksearch_agent.failures import Failures, reason_of, stops_run
from masksearch_agent.records import Sampling, SearchTask, TrainingRow, Trajectory
from masksearch_agent.rewards.mix import Reward, RewardMix
from masksearch_agent.traces.rows import make_rows

__all__ = ("Fate", "Group", "Rollout", "RolloutRunner", "open_rollouts")

_ROLLOUTS_PER_CALL = 1_000_000
"""More than any call runs, so the seeds of two calls never meet; a task drawn twice is rolled out differently."""

_TOTAL_DIGITS = 9
"""After the point, to which totals are compared."""

Fate = Literal["useful", "all_right", "all_wrong", "all_equal", "unscorable"]
"""Whether a group teaches anything, and if not, why: its answers are all right, all wrong, or all of the same reward;
or it has fewer than two scored rollouts."""


@dataclass(frozen=True, slots=True)
class Rollout:
    """A scored trajectory and the rows to train on."""

    trajectory: Trajectory
    reward: Reward
    rows: tuple[TrainingRow, ...]

    @property
    def is_truncated(self) -> bool:
        """Whether a limit on tokens or wall time ended the rollout, rather than the policy."""
        is_cut = self.trajectory.stop_reason in ("token_limit", "time_limit")
        return is_cut or any(row.is_truncated for row in self.rows)


@dataclass(frozen=True, slots=True)
class Group:
    """The rollouts of one task; failed ones are left out."""

    task: SearchTask
    rollouts: tuple[Rollout, ...]
    failed: int
    first_failure: str = ""
    """What the first failed rollout raised; empty where none failed."""

    @property
    def fate(self) -> Fate:
        """Whether the rewards differ, so that the group says which rollouts were better; if not, why."""
        if len(self.rollouts) < 2:
            return "unscorable"
        # Sums of different parts that should be equal may differ in their last digits.
        if len({round(rollout.reward.total, _TOTAL_DIGITS) for rollout in self.rollouts}) > 1:
            return "useful"
        answers = [rollout.reward.answer for rollout in self.rollouts]
        if min(answers) >= 1:
            return "all_right"
        return "all_wrong" if max(answers) <= 0 else "all_equal"

    def advantages(self, is_scaled: bool = True) -> list[float]:
        """Return each rollout's reward minus the group's mean, over its standard deviation (DAPO, eq. 9).

        Dr. GRPO does not divide (`is_scaled` False): it would give the easiest and hardest tasks the most weight.
        """
        totals = [rollout.reward.total for rollout in self.rollouts]
        mean = sum(totals) / len(totals)
        if not is_scaled:
            return [total - mean for total in totals]
        deviation = (sum((total - mean) ** 2 for total in totals) / max(1, len(totals) - 1)) ** 0.5
        return [(total - mean) / (deviation + 1e-4) for total in totals]


def open_rollouts(
    agent: MaskSearchAgent, count: int
) -> AbstractContextManager[Sequence[AbstractContextManager[Any]]]:
    """Return what gives each of several rollouts a context to work in, in which they are sampled reproducibly.

    That is for weights in this process, and for searches that find the same each time.
    """
    opens = getattr(getattr(agent, "model", None), "rollouts", None)
    if opens is None:
        return nullcontext([nullcontext()] * count)
    opened: AbstractContextManager[Sequence[AbstractContextManager[Any]]] = opens(
        count, is_search_known=bool(agent.search.passages)
    )
    return opened


class RolloutRunner:
    """Runs groups of rollouts through an agent, whose model must record tokens.

    Per-step token limits stay the agent's own, whatever `sampling` says.
    """

    def __init__(
        self, agent: MaskSearchAgent, reward: RewardMix, sampling: Sampling, group_size: int
    ) -> None:
        self.agent = agent
        self.reward = reward
        self.sampling = sampling
        self.group_size = group_size
        self.failures = Failures()
        """Why rollouts failed, of all calls so far."""

    def run(self, tasks: Sequence[SearchTask], seed: int, places: Sequence[int] | None = None) -> list[Group]:
        """Run `group_size` rollouts of each task, all at once.

        Args:
            tasks: To roll out.
            seed: Another one for each call: rollouts are sampled, and their trajectories named, by it.
            places: Where each task stands in a call that several processes share under one seed: what is sampled
                depends on the seed and the place, not on which process rolls it out. None counts from 0.
        """
        places = range(len(tasks)) if places is None else places
        with open_rollouts(self.agent, len(tasks) * self.group_size) as contexts:
            return run_many(self._run_all(tasks, seed, places, contexts))

    async def _run_all(
        self,
        tasks: Sequence[SearchTask],
        seed: int,
        places: Sequence[int],
        contexts: Sequence[AbstractContextManager[Any]],
    ) -> list[Group]:
        asked = [
            (task, seed * _ROLLOUTS_PER_CALL + place * self.group_size + number)
            for task, place in zip(tasks, places, strict=True)
            for number in range(self.group_size)
        ]
        runs = [self._roll_out(*one, context) for one, context in zip(asked, contexts, strict=True)]
        try:
            results = await asyncio.gather(*runs, return_exceptions=True)
        finally:
            await close_connections()  # those of a judge model
        outcomes = iter(results)
        return [self._make_group(task, list(islice(outcomes, self.group_size))) for task in tasks]

    async def _roll_out(self, task: SearchTask, seed: int, context: AbstractContextManager[Any]) -> Rollout:
        with context:
            trajectory = await self.agent.run_task(task, self.sampling, seed=seed)
        rows = tuple(make_rows(trajectory))
        if any(row.is_constrained for row in rows):
            raise TrainingError(
                "its answer was held to what was read, so its log-probabilities are not those that it was sampled "
                "with; roll out with `answers_from_passages=False`"
            )
        return Rollout(trajectory, await self.reward.score(task, trajectory), rows)

    def _make_group(self, task: SearchTask, outcomes: Sequence[Rollout | BaseException]) -> Group:
        """Keep the scored rollouts and count the failed ones; what is more than a rollout's goes on up."""
        reasons = []
        for failure in outcomes:
            if isinstance(failure, BaseException):
                if stops_run(failure):
                    raise failure
                reasons.append(self.failures.add_reason(f"rollout of task {task.id}", reason_of(failure)))
        rollouts = tuple(outcome for outcome in outcomes if isinstance(outcome, Rollout))
        return Group(task, rollouts, len(reasons), reasons[0] if reasons else "")
