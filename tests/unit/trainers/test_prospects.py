from __future__ import annotations

import json

import pytest

from masksearch_agent.trainers.prospects import Prospects


def test_a_new_task_is_judged_by_its_sort_and_one_that_was_seen_by_its_fate() -> None:
    prospects = Prospects(["ramp"] * 10 + ["qa"])
    assert prospects.likelihood(0) == 1.0, "what nobody has tried yet is worth trying"
    for task, fate in enumerate(["useful", "all_wrong", "useful", "unscorable"]):
        prospects.observe(task, fate)
    assert prospects.likelihood(9) == (2 + 1) / (3 + 1)
    assert prospects.likelihood(10) == 1.0
    assert prospects.likelihood(1) == 1.0, "no task of an all-wrong group was tried again"
    prospects.observe(1, "all_wrong")
    assert prospects.likelihood(1) == 1 / 2
    assert prospects.likelihood(9) == 3 / 4, "a second group of a task says nothing of new ones"


def test_a_task_is_drawn_in_proportion_to_the_best_kind() -> None:
    prospects = Prospects(["easy"] * 10 + ["hard"] * 10 + ["new"])
    assert prospects.chance(0) == 1.0
    for task in range(3):
        prospects.observe(task, "all_right")
    assert prospects.chance(9) == 1.0, "the best of those that are known"
    for task, fate in zip(range(10, 13), ["useful", "useful", "all_wrong"], strict=True):
        prospects.observe(task, fate)
    assert prospects.chance(19) == 1.0
    assert prospects.chance(9) == pytest.approx((1 / 4) / (3 / 4))
    assert prospects.chance(20) == 1.0


def test_only_the_last_groups_count() -> None:
    prospects = Prospects(["ramp"] * 101)
    for task in range(100):
        prospects.observe(task, "all_wrong" if task < 36 else "useful")
    assert prospects.likelihood(100) == 1.0


def test_solved_is_what_was_all_right_at_last_and_hopeless_what_was_all_wrong() -> None:
    prospects = Prospects(["ramp"] * 10)
    prospects.observe(3, "all_right")
    prospects.observe(4, "all_wrong")
    assert [prospects.is_solved(task) for task in (3, 4, 5)] == [True, False, False]
    assert [prospects.is_hopeless(task) for task in (3, 4, 5)] == [False, True, False]
    prospects.observe(3, "unscorable")
    assert prospects.is_solved(3)
    prospects.observe(3, "useful")
    assert not prospects.is_solved(3)
    prospects.observe(5, "all_right")
    prospects.forget_solved()
    assert not prospects.is_solved(5)


def test_its_state_comes_back_from_json() -> None:
    sorts = [f"{task % 3} masks" for task in range(50)]
    prospects, other = Prospects(sorts), Prospects(sorts)
    for task in range(70):
        prospects.observe(task % 40, ("useful", "all_right", "all_wrong", "all_equal")[task % 4])
    other.restore(json.loads(json.dumps(prospects.state())))
    assert other.state() == prospects.state()
    assert [other.likelihood(task) for task in range(50)] == [
        prospects.likelihood(task) for task in range(50)
    ]
