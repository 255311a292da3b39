from __future__ import annotations

import asyncio
import dataclasses
import errno
import gc
import logging
import math
from typing import Any

import pytest

from masksearch_agent.config.rewards import RewardSettings
from masksearch_agent.errors import ModelError, RewardError
from masksearch_agent.records import Sampling, SearchTask, StopReason, TrainingRow, Trajectory, Turn
from masksearch_agent.rewards.mix import Reward, RewardMix
from masksearch_agent.trainers.rollouts import Fate, Group, Rollout, RolloutRunner

TASKS = [SearchTask(f"task-{number}", "qa", f"Question {number}?", (("Ada",),)) for number in range(3)]
SAMPLING = Sampling(temperature=0.8)


class ScriptedAgent:
    """Answers `Ada` for even seeds and `Bram` for odd ones; raises where it is told to."""

    def __init__(self, failures: dict[tuple[str, int], BaseException] | None = None) -> None:
        self.failures = failures or {}
        self.calls: list[tuple[str, int, Sampling | None]] = []

    async def run_task(self, task: SearchTask, sampling: Sampling | None = None, seed: int = 0) -> Trajectory:
        self.calls.append((task.id, seed, sampling))
        await asyncio.sleep(0)
        if (task.id, seed) in self.failures:
            raise self.failures[task.id, seed]
        turn = Turn("0", None, "policy", (), "text", (1, 2), (3, 4), (-0.5, -0.25))
        answer = "Ada" if seed % 2 == 0 else "Bram"
        return Trajectory(f"{task.id}/{seed}", task.id, (turn,), answer, "answered", seed=seed)


def make_runner(agent: ScriptedAgent, group_size: int = 4) -> RolloutRunner:
    return RolloutRunner(agent, RewardMix(RewardSettings()), SAMPLING, group_size)  # type: ignore[arg-type]


def make_group(*totals: float) -> Group:
    trajectory = Trajectory("t", "q", (), "", "answered")
    rollouts = tuple(Rollout(trajectory, Reward(0, 0, 0, total), ()) for total in totals)
    return Group(TASKS[0], rollouts, failed=0)


def test_each_task_gets_its_group_of_scored_rollouts() -> None:
    agent = ScriptedAgent()
    groups = make_runner(agent).run(TASKS, seed=5)
    assert [group.task for group in groups] == TASKS
    for group in groups:
        assert [rollout.trajectory.answer for rollout in group.rollouts] == ["Ada", "Bram"] * 2
        assert [rollout.reward.answer for rollout in group.rollouts] == [1.0, 0.0, 1.0, 0.0]
        assert [rollout.reward.total for rollout in group.rollouts] == pytest.approx([1.1, 0.1, 1.1, 0.1])
        assert group.failed == 0
        [row] = group.rollouts[0].rows
        assert row.input_ids == (1, 2, 3, 4)
        assert row.logprobs == (0.0, 0.0, -0.5, -0.25)
    assert {sampling for _, _, sampling in agent.calls} == {SAMPLING}


def test_the_collector_runs_less_often_during_rollouts_only() -> None:
    class WatchingAgent(ScriptedAgent):
        async def run_task(self, *args: Any, **kwargs: Any) -> Trajectory:
            seen.append(gc.get_threshold())
            return await super().run_task(*args, **kwargs)

    seen: list[tuple[int, int, int]] = []
    before = gc.get_threshold()
    make_runner(WatchingAgent()).run(TASKS[:1], seed=0)
    assert all(threshold > before for threshold in seen)
    assert len(seen) == 4
    assert gc.get_threshold() == before


def test_calls_with_different_seeds_share_no_rollout_seed() -> None:
    agent = ScriptedAgent()
    runner = make_runner(agent)
    for seed in range(3):
        runner.run(TASKS[:1], seed=seed)
    assert len({seed for _, seed, _ in agent.calls}) == 12


def test_a_task_that_is_drawn_twice_is_rolled_out_twice() -> None:
    agent = ScriptedAgent()
    groups = make_runner(agent).run([TASKS[0], TASKS[0]], seed=1)
    assert len({rollout.trajectory.id for group in groups for rollout in group.rollouts}) == 8


def test_a_failed_rollout_leaves_its_group_and_counts_as_no_reward(
    caplog: pytest.LogCaptureFixture,
) -> None:
    agent = ScriptedAgent({("task-1", 6): ModelError("no room left"), ("task-1", 7): ValueError("odd")})
    runner = make_runner(agent)
    with caplog.at_level(logging.WARNING):
        groups = runner.run(TASKS, seed=0)
    assert [len(group.rollouts) for group in groups] == [4, 2, 4]
    assert [group.failed for group in groups] == [0, 2, 0]
    assert [rollout.reward.total for rollout in groups[1].rollouts] == pytest.approx([1.1, 0.1])
    assert "rollout of task task-1 failed: no room left" in caplog.text
    assert runner.failures.reasons == {"no room left": 1, "ValueError: odd": 1}


@pytest.mark.parametrize("stopping", [KeyboardInterrupt(), MemoryError(), OSError(errno.ENOSPC, "full")])
def test_what_is_more_than_a_rollouts_stops_the_training(stopping: BaseException) -> None:
    with pytest.raises(type(stopping)):
        make_runner(ScriptedAgent({("task-1", 6): stopping})).run(TASKS, seed=0)


def test_a_whole_failed_group_is_of_no_use_but_the_others_are_kept() -> None:
    agent = ScriptedAgent({("task-0", seed): ModelError("gone") for seed in range(4)})
    groups = make_runner(agent).run(TASKS, seed=0)
    assert groups[0].failed == 4
    assert groups[0].fate != "useful"
    assert groups[1].fate == "useful"


def test_a_rollout_that_cannot_be_scored_leaves_its_group_too() -> None:
    def judge(task: SearchTask, trajectory: Trajectory) -> float:
        if trajectory.seed == 2:
            raise RewardError("the judge is gone")
        return float(trajectory.answer == "Ada")

    runner = RolloutRunner(ScriptedAgent(), RewardMix(RewardSettings(), judge), SAMPLING, 4)  # type: ignore[arg-type]
    [group] = runner.run(TASKS[:1], seed=0)
    assert [rollout.trajectory.seed for rollout in group.rollouts] == [0, 1, 3]
    assert (group.failed, group.first_failure) == (1, "the judge is gone")
    # The mean of the group is that of the scored rollouts.
    assert sum(group.advantages()) == pytest.approx(0, abs=1e-9)
    assert group.advantages()[0] > 0


def test_slow_rewards_are_computed_side_by_side() -> None:
    together = asyncio.Barrier(12)

    async def judge(task: SearchTask, trajectory: Trajectory) -> float:
        async with asyncio.timeout(20):
            await together.wait()
        return 1.0

    runner = RolloutRunner(ScriptedAgent(), RewardMix(RewardSettings(), judge), SAMPLING, 4)  # type: ignore[arg-type]
    assert [group.failed for group in runner.run(TASKS, seed=0)] == [0, 0, 0]


def test_what_is_sampled_depends_on_the_place_and_not_on_who_rolls_it_out() -> None:
    def ids(groups: list[Group]) -> list[str]:
        return [rollout.trajectory.id for group in groups for rollout in group.rollouts]

    alone = make_runner(ScriptedAgent()).run(TASKS, seed=3)
    first = make_runner(ScriptedAgent()).run([TASKS[0], TASKS[2]], seed=3, places=(0, 2))
    second = make_runner(ScriptedAgent()).run([TASKS[1]], seed=3, places=(1,))
    assert ids([first[0], *second, first[1]]) == ids(alone)


def test_a_run_of_failures_only_says_why() -> None:
    agent = ScriptedAgent({(task.id, seed): ModelError("gone") for task in TASKS for seed in range(12)})
    groups = make_runner(agent).run(TASKS, seed=0)
    assert [(group.failed, group.first_failure) for group in groups] == [(4, "gone")] * 3


def test_no_tasks_are_no_rollouts() -> None:
    assert make_runner(ScriptedAgent()).run([], seed=0) == []


def test_an_interrupt_is_no_failed_rollout() -> None:
    agent = ScriptedAgent({("task-0", 1): asyncio.CancelledError()})
    with pytest.raises(asyncio.CancelledError):
        make_runner(agent).run(TASKS, seed=0)


def test_advantages_are_centred_and_scaled_by_the_deviation_of_the_sample() -> None:
    # mean 0.5, squared deviations 0.25 + 0.25 + 0 + 0 over 3
    scale = math.sqrt(0.5 / 3) + 1e-4
    expected = [0.5 / scale, -0.5 / scale, 0.0, 0.0]
    assert make_group(1.0, 0.0, 0.5, 0.5).advantages() == pytest.approx(expected, abs=1e-12)


def test_a_single_rollout_has_no_advantage() -> None:
    group = make_group(0.7)
    assert group.advantages() == [0.0]
    assert group.fate != "useful"


@pytest.mark.parametrize(
    ("totals", "is_useful"),
    [
        ((), False),
        ((0.1, 0.1, 0.1), False),
        ((0.1, 0.1, 0.1 + 1e-9), True),
        ((1.1, 0.1), True),
        ((0.1 + 0.2, 0.3), False),
    ],
)
def test_a_group_is_useful_where_its_rewards_differ(totals: tuple[float, ...], is_useful: bool) -> None:
    assert (make_group(*totals).fate == "useful") is is_useful


@pytest.mark.parametrize(
    ("answers", "fate"),
    [
        ((), "unscorable"),
        ((1.0,), "unscorable"),
        ((1.0, 1.0), "all_right"),
        ((0.0, 0.0, 0.0), "all_wrong"),
        ((0.5, 0.5), "all_equal"),
        ((1.0, 0.0), "useful"),
    ],
)
def test_a_group_says_why_it_is_left_out(answers: tuple[float, ...], fate: Fate) -> None:
    trajectory = Trajectory("t", "q", (), "", "answered")
    rollouts = tuple(Rollout(trajectory, Reward(1.0, a, 0.0, 0.1 + a), ()) for a in answers)
    assert Group(TASKS[0], rollouts, failed=0).fate == fate


@pytest.mark.parametrize(
    ("stop_reason", "is_cut", "is_truncated"),
    [
        ("answered", False, False),
        ("forced", False, False),  # of searches, a run may spend all: it is told to answer, and does
        ("repairs_exhausted", False, False),
        ("repairs_exhausted", True, True),
        ("token_limit", False, True),
        ("time_limit", False, True),
    ],
)
def test_a_rollout_is_truncated_where_a_limit_ended_it(
    stop_reason: StopReason, is_cut: bool, is_truncated: bool
) -> None:
    row = TrainingRow((1, 2), (False, True), (0.0, -1.0), "t", is_cut)
    rollout = Rollout(Trajectory("t", "q", (), "", stop_reason), Reward(0, 0, 0, 0), (row,))
    assert rollout.is_truncated is is_truncated


def test_a_rollout_whose_answer_was_held_leaves_its_group_with_the_reason() -> None:
    class HeldAgent(ScriptedAgent):
        async def run_task(self, *arguments: Any, **keywords: Any) -> Trajectory:
            trajectory = await super().run_task(*arguments, **keywords)
            turns = tuple(dataclasses.replace(turn, is_constrained=True) for turn in trajectory.turns)
            return dataclasses.replace(trajectory, turns=turns)

    [group] = make_runner(HeldAgent(), 2).run(TASKS[:1], seed=0)
    assert (group.rollouts, group.failed) == ((), 2)
    assert "answers_from_passages=False" in group.first_failure
