from __future__ import annotations

import json

from masksearch_agent.trainers.prospects import Prospects


def test_a_new_task_is_judged_by_its_masks_and_one_that_was_seen_by_its_fate() -> None:
    prospects = Prospects()
    assert prospects.likelihood(0, 1) == 1.0, "what nobody has tried yet is worth trying"
    for task, fate in enumerate(["useful", "all_wrong", "useful", "unscorable"]):
        prospects.observe(task, 1, fate)
    assert prospects.likelihood(9, 1) == (2 + 1) / (3 + 1)
    assert prospects.likelihood(9, 2) == 1.0
    assert prospects.likelihood(1, 1) == 1.0, "no task of an all-wrong group was tried again"
    prospects.observe(1, 1, "all_wrong")
    assert prospects.likelihood(1, 1) == 1 / 2
    assert prospects.likelihood(9, 1) == 3 / 4, "a second group of a task says nothing of new ones"


def test_only_the_last_groups_count() -> None:
    prospects = Prospects()
    for task in range(100):
        prospects.observe(task, 1, "all_wrong" if task < 36 else "useful")
    assert prospects.likelihood(1000, 1) == 1.0


def test_solved_is_what_was_all_right_at_last() -> None:
    prospects = Prospects()
    prospects.observe(3, 1, "all_right")
    assert prospects.is_solved(3)
    assert not prospects.is_solved(4)
    prospects.observe(3, 1, "unscorable")
    assert prospects.is_solved(3)
    prospects.observe(3, 1, "useful")
    assert not prospects.is_solved(3)
    prospects.observe(5, 1, "all_right")
    prospects.forget_idle()
    assert not prospects.is_solved(5)


def test_a_task_is_passed_over_as_often_as_it_was_all_wrong_in_a_row() -> None:
    prospects = Prospects()

    def passed_over() -> int:
        return next(count for count in range(10) if not prospects.waits(3))

    assert passed_over() == 0
    for in_a_row in (1, 2, 3):
        prospects.observe(3, 1, "all_wrong")
        assert passed_over() == in_a_row
        assert passed_over() == 0, "until it is rolled out again"
    prospects.observe(3, 1, "unscorable")
    assert passed_over() == 0
    prospects.observe(3, 1, "useful")
    prospects.observe(3, 1, "all_wrong")
    assert passed_over() == 1
    prospects.observe(3, 1, "all_wrong")
    prospects.forget_idle()
    assert passed_over() == 0


def test_its_state_comes_back_from_json() -> None:
    prospects, other = Prospects(), Prospects()
    for task in range(70):
        prospects.observe(task % 40, task % 3, ("useful", "all_right", "all_wrong", "all_equal")[task % 4])
    assert prospects.waits(2)
    other.restore(json.loads(json.dumps(prospects.state())))
    assert other.state() == prospects.state()
    assert [other.waits(task) for task in range(50)] == [prospects.waits(task) for task in range(50)]
    assert [other.likelihood(task, 1) for task in range(50)] == [
        prospects.likelihood(task, 1) for task in range(50)
    ]
