from __future__ import annotations

import pytest

from masksearch_agent.errors import TrainingError
from masksearch_agent.records import Trajectory, content_id
from masksearch_agent.trainers.mixing import counts_of_mix, mix_in


def trajectories(kind: str, count: int) -> list[Trajectory]:
    return [Trajectory(f"{kind}{number:02}", "task", (), "", "answered") for number in range(count)]


OWN, RAMP = trajectories("own", 14), trajectories("ramp", 20)


def test_ramp_has_its_share_of_the_whole_and_nothing_of_the_stages_own_is_left_out() -> None:
    mixed = mix_in(OWN, RAMP, 0.3, seed=0)
    assert mixed[:14] == OWN
    assert len({item.id for item in mixed[14:]} & {item.id for item in RAMP}) == 6
    assert counts_of_mix(OWN, mixed) == {"own": 14, "ramp": 6}


def test_what_is_drawn_depends_on_the_seed_and_not_on_the_order_of_a_store() -> None:
    mixed = mix_in(OWN, RAMP, 0.3, seed=0)
    assert mix_in(OWN[::-1], RAMP[::-1], 0.3, seed=0) == mixed
    assert mix_in(OWN, RAMP, 0.3, seed=1) != mixed


def test_trajectories_that_say_something_else_are_drawn_of_the_same_tasks() -> None:
    def made(prompts: str) -> list[Trajectory]:
        return [
            Trajectory(content_id(prompts, number), f"task {number}", (), "", "answered")
            for number in range(20)
        ]

    drawn = [[item.task_id for item in mix_in(OWN, made(prompts), 0.3, seed=0)] for prompts in ("a", "b")]
    assert drawn[0] == drawn[1]


def test_few_of_ramp_are_gone_through_evenly() -> None:
    drawn = [item.id for item in mix_in(OWN, RAMP[:4], 0.3, seed=0)[14:]]
    assert (len(drawn), {drawn.count(name) for name in drawn}) == (6, {1, 2})


def test_without_a_share_nothing_is_drawn() -> None:
    mixed = mix_in(OWN[::-1], RAMP, 0.0, seed=0)
    assert (mixed, counts_of_mix(OWN, mixed)) == (OWN, {})


def test_a_share_of_nothing_is_refused() -> None:
    with pytest.raises(TrainingError, match=r"ramp_share is 0.3, but there is no RAMP.*--ramp-traces"):
        mix_in(OWN, [], 0.3, seed=0)
