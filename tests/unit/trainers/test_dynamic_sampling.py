from __future__ import annotations

import dataclasses
import logging
import random
import threading
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from unit.trainers.conftest import TASKS, ScriptedRunner, make_group

from masksearch_agent.config.trainers import CurriculumLevel
from masksearch_agent.errors import TrainingError
from masksearch_agent.records import SearchTask, TrainingRow
from masksearch_agent.trainers.curriculum import Curriculum
from masksearch_agent.trainers.dynamic_sampling import DynamicSampler
from masksearch_agent.trainers.ranks import Ranks, share_evenly
from masksearch_agent.trainers.rollouts import Group

ALONE = Ranks(0, 1, lambda items: items)
ROW = TrainingRow((1, 2, 3), (False, True, True), (0.0, -1.0, -1.0), "t")


def useful(task: SearchTask, seed: int = 0) -> Group:
    return make_group(task, (0.0, 1.0), [ROW, ROW])


def all_right(task: SearchTask, seed: int = 0) -> Group:
    return make_group(task, (1.0, 1.0), [ROW, ROW])


def all_wrong(task: SearchTask, seed: int = 0) -> Group:
    return make_group(task, (0.0, 0.0), [ROW, ROW])


def half_failed(task: SearchTask, seed: int = 0) -> Group:
    group = make_group(task, (1.0,), [ROW])
    return Group(task, group.rollouts, failed=1, first_failure="ModelError: gone")


def make_sampler(
    make: Callable[[SearchTask, int], Group],
    max_batches: int = 4,
    ranks: Ranks = ALONE,
    stages: Any = (),
    is_dynamic: bool = True,
) -> tuple[DynamicSampler, ScriptedRunner]:
    runner = ScriptedRunner(make)
    curriculum = Curriculum(TASKS, stages, max_steps=4, seed=0)
    sampler = DynamicSampler(curriculum, runner, ranks, max_batches, 0, is_dynamic)  # type: ignore[arg-type]
    return sampler, runner


def stream(count: int) -> list[str]:
    return [TASKS[index].id for index in Curriculum(TASKS, (), max_steps=4, seed=0).draw(count)]


def names(groups: Sequence[Group]) -> list[str]:
    return [group.task.id for group in groups]


def test_a_batch_of_useful_groups_is_rolled_out_once() -> None:
    sampler, runner = make_sampler(useful)
    batch = sampler.sample(2, step=0)
    assert runner.asked == [(1, stream(2))]
    assert names(batch.groups) == stream(2)


def test_rollouts_without_a_row_are_no_forks() -> None:
    def make(task: SearchTask, seed: int) -> Group:
        group = useful(task)
        ended_at_once = dataclasses.replace(group.rollouts[0], rows=())
        return Group(task, (ended_at_once, group.rollouts[1]), failed=0)

    sampler, _ = make_sampler(make)
    assert sampler.sample(2, step=0).metrics["traces/forked_rows"] == 0


def test_groups_that_teach_nothing_are_replaced_from_the_same_stream() -> None:
    drawn = stream(12)
    of_use = {drawn[1], drawn[5]}
    sampler, runner = make_sampler(lambda task, seed: (useful if task.id in of_use else all_right)(task))
    batch = sampler.sample(2, step=0)
    # They have 2, 1, 2, 1, 2, 1 and 2 masks. One is missing. No task of two masks was of use yet, the one of one mask
    # was: half a group is to be expected of the third, and a whole one of the fourth. After these it is 1/3 and 2/3,
    # and the fifth is passed over by chance, one in two.
    assert runner.asked == [(1, drawn[:2]), (2, drawn[2:4]), (3, drawn[5:7])]
    assert names(batch.groups) == [drawn[1], drawn[5]]
    assert [TASKS[index].id for index in sampler.curriculum.draw(3)] == drawn[7:10]


def test_as_many_groups_are_drawn_as_let_the_missing_ones_be_expected() -> None:
    sampler, runner = make_sampler(useful, max_batches=100)
    for mask_count in (1, 2):
        of_sort = [index for index, task in enumerate(TASKS) if task.mask_count == mask_count]
        unseen = [index for index in of_sort if TASKS[index].id not in stream(4)]
        for index, fate in zip(unseen, ["useful", "all_wrong", "all_wrong"], strict=False):
            sampler.curriculum.prospects.observe(index, fate)
    # (1 + 1) / (3 + 1) of a group each.
    assert names(sampler.sample(2, step=0).groups) == stream(4)[:2]
    assert runner.asked == [(1, stream(4))]


def test_what_is_seldom_of_use_is_drawn_seldom() -> None:
    sampler, runner = make_sampler(
        lambda task, seed: (useful if task.mask_count == 1 else all_wrong)(task), max_batches=2
    )
    for step in range(30):
        sampler.sample(4, step)
    asked = [task for _, tasks in runner.asked for task in tasks]
    hard = sum(name.startswith("2") for name in asked)
    # Half of the tasks. What was all wrong comes again, but seldom.
    assert 6 < hard < len(asked) / 4
    late = [task for _, tasks in runner.asked[-10:] for task in tasks]
    assert sum(name.startswith("2") for name in late) <= len(late) / 5


def test_the_groups_of_all_batches_keep_to_the_cap() -> None:
    sampler, runner = make_sampler(all_wrong, max_batches=3)
    metrics = sampler.sample(4, step=0).metrics
    assert sum(len(tasks) for _, tasks in runner.asked) == metrics["dapo/groups_sampled"] == 12


def test_a_task_that_was_always_right_is_not_sampled_again_and_counts_as_right() -> None:
    solved = stream(2)
    stages = (CurriculumLevel(max_masks=2, window=100),)
    sampler, runner = make_sampler(
        lambda task, seed: (all_right if task.id in solved else useful)(task), max_batches=1, stages=stages
    )
    for step in range(11):
        sampler.sample(2, step)
    asked = [name for _, tasks in runner.asked for name in tasks]
    assert sorted(asked[:12]) == sorted(task.id for task in TASKS)
    assert sorted(asked[12:]) == sorted({task.id for task in TASKS} - set(solved))
    # Six tasks of two masks in each pass. One of them was solved in the first, and was passed over in the second.
    assert [name for name in solved if name.startswith("2")] == ["2-1"]
    assert sampler.curriculum.success_rate == pytest.approx((1 + 5 * 0.5) / 6)


def test_where_all_tasks_are_solved_they_are_drawn_again(caplog: pytest.LogCaptureFixture) -> None:
    sampler, runner = make_sampler(all_right, max_batches=1)
    with caplog.at_level(logging.INFO):
        for step in range(7):
            sampler.sample(2, step)
    assert "all tasks of up to None masks were solved; they are drawn again" in caplog.text
    assert [len(tasks) for _, tasks in runner.asked] == [2] * 7


def test_more_useful_groups_than_asked_for_are_cut_in_the_order_of_the_stream() -> None:
    drawn = stream(4)
    sampler, _ = make_sampler(lambda task, seed: (all_wrong if task.id == drawn[0] else useful)(task))
    assert names(sampler.sample(2, step=0).groups) == [drawn[1], drawn[2]]


def test_what_was_filtered_and_why_is_counted_and_logged_at_the_cap(caplog: pytest.LogCaptureFixture) -> None:
    drawn = stream(4)
    makers = dict(zip(drawn, (useful, all_right, all_wrong, half_failed), strict=True))
    sampler, _ = make_sampler(lambda task, seed: makers[task.id](task), max_batches=1)
    with caplog.at_level(logging.INFO):
        batch = sampler.sample(4, step=7)
    assert "step 7: 1 of 4 groups are useful after 4 were rolled out (max_resampling)" in caplog.text
    assert "the others: 1 all right, 1 all wrong, 1 unscorable" in caplog.text
    metrics = batch.metrics
    assert {name: metrics[f"dapo/groups_{name}"] for name in (
        "sampled", "useful", "all_right", "all_wrong", "all_equal", "unscorable", "missing"
    )} == {
        "sampled": 4, "useful": 1, "all_right": 1, "all_wrong": 1, "all_equal": 0, "unscorable": 1, "missing": 3
    }  # fmt: skip
    assert metrics["dapo/rollout_batches"] == 1
    assert metrics["rollouts/failed"] == 1
    # Seven scored rollouts, four of them right; of the useful group one of two.
    assert metrics["rewards/answer"] == pytest.approx(4 / 7)
    assert metrics["rewards/answer_after_filter"] == 0.5
    assert metrics["rollouts/sampled_tokens"] == 2


def test_without_dynamic_sampling_one_batch_is_kept_as_it_is_but_for_what_has_no_score() -> None:
    drawn = stream(4)
    makers = dict(zip(drawn, (useful, all_right, all_wrong, half_failed), strict=True))
    sampler, runner = make_sampler(lambda task, seed: makers[task.id](task), is_dynamic=False)
    batch = sampler.sample(4, step=0)
    assert runner.asked == [(1, drawn)]
    assert names(batch.groups) == drawn[:3]
    assert batch.groups[1].advantages() == [0.0, 0.0]
    assert (batch.metrics["dapo/groups_missing"], batch.metrics["dapo/groups_useful"]) == (1, 1)


def test_a_full_batch_logs_no_cap(caplog: pytest.LogCaptureFixture) -> None:
    sampler, _ = make_sampler(useful)
    with caplog.at_level(logging.INFO):
        assert sampler.sample(2, step=0).metrics["dapo/groups_missing"] == 0
    assert caplog.text == ""


def test_a_step_without_one_scored_rollout_stops_the_run() -> None:
    sampler, _ = make_sampler(lambda task, seed: Group(task, (), 2, "ModelError: gone"))
    with pytest.raises(TrainingError, match="all 4 rollouts failed; the first with: ModelError: gone"):
        sampler.sample(2, step=0)


def test_success_is_observed_before_anything_is_filtered() -> None:
    stages = (CurriculumLevel(max_masks=1, promote_at=1.0, window=2), CurriculumLevel(max_masks=2))
    sampler, _ = make_sampler(all_right, max_batches=1, stages=stages)
    metrics = sampler.sample(2, step=0).metrics
    assert (metrics["curriculum/max_masks"], metrics["curriculum/success_rate"]) == (1, 1.0)
    assert sampler.sample(2, step=1).metrics["curriculum/max_masks"] == 2


def test_no_two_batches_of_rollouts_share_a_seed() -> None:
    sampler, runner = make_sampler(all_wrong, max_batches=3)
    for step in range(3):
        sampler.sample(2, step)
    seeds = [seed for seed, _ in runner.asked]
    assert len(set(seeds)) == len(seeds) == 6


def run_ranks(count: int, work: Callable[[Ranks], Any]) -> list[Any]:
    """Run a function on several ranks at once, one thread each."""
    barrier = threading.Barrier(count, timeout=10)
    parts: list[list[Any]] = [[] for _ in range(count)]
    results: list[Any] = [None] * count

    def start(index: int) -> None:
        def gather(items: list[Any]) -> list[Any]:
            parts[index] = items
            barrier.wait()
            together = [item for part in parts for item in part]
            barrier.wait()
            return together

        results[index] = work(Ranks(index, count, gather))

    threads = [threading.Thread(target=start, args=(index,)) for index in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


@pytest.mark.parametrize("count", [2, 3])
def test_several_ranks_find_the_batch_of_one(count: int) -> None:
    def some_useful(task: SearchTask, seed: int) -> Group:
        return random.Random(f"{task.id}:{seed}").choice([useful, all_right, all_wrong, half_failed])(task)

    def sample_two_steps(ranks: Ranks) -> tuple[list[list[str]], list[dict[str, float]], dict[str, Any]]:
        stages = (CurriculumLevel(max_masks=1, promote_at=0.1, window=2), CurriculumLevel(max_masks=2))
        sampler, _ = make_sampler(some_useful, ranks=ranks, stages=stages)
        batches = [sampler.sample(4, step) for step in range(2)]
        return [names(b.groups) for b in batches], [b.metrics for b in batches], sampler.curriculum.state()

    [(groups, metrics, state)] = run_ranks(1, sample_two_steps)
    results = run_ranks(count, sample_two_steps)
    assert metrics[0]["dapo/rollout_batches"] > 1
    for rank_groups, rank_metrics, rank_state in results:
        assert rank_metrics == metrics
        assert rank_state == state
        assert rank_groups != groups
    for step in range(2):
        assert sorted(name for found, _, _ in results for name in found[step]) == sorted(groups[step])


@pytest.mark.parametrize("sizes", [(5, 0, 1), (0, 0, 0), (2, 2, 2), (0, 7, 0), (1, 0, 1)])
def test_rows_are_shared_evenly_and_none_is_lost(sizes: tuple[int, ...]) -> None:
    rows = [[f"{rank}-{number}" for number in range(size)] for rank, size in enumerate(sizes)]
    results = run_ranks(3, lambda ranks: share_evenly(rows[ranks.index], ranks))
    share = -(-sum(sizes) // 3)
    assert [found_share for _, found_share in results] == [share] * 3
    assert all(len(items) <= share for items, _ in results)
    kept = [item for items, _ in results for item in items]
    assert sorted(kept) == sorted(item for part in rows for item in part)
