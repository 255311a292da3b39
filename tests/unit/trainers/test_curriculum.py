from __future__ import annotations

import pytest

from masksearch_agent.config.trainers import CurriculumStage
from masksearch_agent.errors import TrainingError
from masksearch_agent.records import MASK, Message, SearchTask, Trajectory, Turn
from masksearch_agent.trainers.curriculum import Curriculum, order_by_difficulty


def ramp(name: str, masks: int) -> SearchTask:
    return SearchTask(name, "ramp", " ".join([MASK] * masks), (("x",),) * masks)


TASKS = [ramp(f"{masks}-{number}", masks) for masks in (3, 1, 4, 2) for number in range(5)]
STAGES = (
    CurriculumStage(max_masks=1, until=0.25),
    CurriculumStage(max_masks=2, until=0.5),
    CurriculumStage(max_masks=4, until=1.0),
)


def test_what_a_step_draws_depends_on_seed_and_step_alone() -> None:
    first = Curriculum(TASKS, STAGES, max_steps=8, seed=3)
    in_order = [first.draw(step, 4) for step in range(8)]
    second = Curriculum(TASKS, STAGES, max_steps=8, seed=3)
    assert [second.draw(step, 4) for step in reversed(range(8))] == in_order[::-1]


def test_seeds_steps_and_streams_draw_differently() -> None:
    curriculum = Curriculum(TASKS, (), max_steps=8, seed=0)
    drawn = [
        curriculum.draw(0, 10),
        curriculum.draw(1, 10),
        curriculum.draw(0, 10, stream="refill"),
        Curriculum(TASKS, (), max_steps=8, seed=1).draw(0, 10),
    ]
    assert len({tuple(indices) for indices in drawn}) == 4


@pytest.mark.parametrize("step", range(6))
def test_no_task_is_drawn_twice_while_tasks_last(step: int) -> None:
    curriculum = Curriculum(TASKS, (), max_steps=6, seed=0)
    assert sorted(curriculum.draw(step, len(TASKS))) == list(range(len(TASKS)))


def test_tasks_repeat_evenly_once_there_are_too_few() -> None:
    drawn = Curriculum(TASKS[:3], (), max_steps=6, seed=0).draw(0, 8)
    assert sorted(drawn[:3]) == sorted(drawn[3:6]) == [0, 1, 2]
    assert len(drawn) == 8
    assert len(set(drawn[6:])) == 2


def test_stages_begin_and_end_at_their_share_of_the_steps() -> None:
    curriculum = Curriculum(TASKS, STAGES, max_steps=8, seed=0)
    assert [curriculum.max_masks(step) for step in range(9)] == [1, 1, 2, 2, 4, 4, 4, 4, 4]


def test_a_stage_draws_only_what_it_allows() -> None:
    curriculum = Curriculum(TASKS, STAGES, max_steps=8, seed=0)
    for step, allowed in ((0, {1}), (1, {1}), (2, {1, 2}), (4, {1, 2, 3, 4})):
        drawn = curriculum.draw(step, 5 * len(allowed))
        assert {TASKS[index].mask_count for index in drawn} == allowed


def test_the_last_stage_lasts_though_it_ends_early() -> None:
    curriculum = Curriculum(TASKS, STAGES[:1], max_steps=8, seed=0)
    assert curriculum.max_masks(7) == 1


def test_without_stages_all_tasks_are_drawn() -> None:
    assert Curriculum(TASKS, (), max_steps=8, seed=0).max_masks(0) is None


def test_a_stage_without_a_task_is_refused() -> None:
    with pytest.raises(TrainingError, match="no task has at most 1 masks"):
        Curriculum([ramp("a", 2)], STAGES, max_steps=8, seed=0)


def test_no_tasks_are_refused() -> None:
    with pytest.raises(TrainingError, match="no tasks to train on"):
        Curriculum([], (), max_steps=8, seed=0)


def test_trajectories_are_ordered_by_masks_or_searches_and_shuffled_within_a_level() -> None:
    def run(name: str, text: str, searches: int) -> Trajectory:
        opening = (Message("system", f"Fill in every {MASK}."), Message("user", text))
        queries = (("who",),) * searches
        return Trajectory(
            name, name, (Turn("0", None, "policy", opening, "…"),), "x", "answered", queries=queries
        )

    masked = [run(task.id, task.question, searches=9) for task in TASKS]
    asked = [run(f"q{count}-{n}", "Who?", count) for count in (2, 1) for n in range(5)]
    levels = {
        **{t.id: task.mask_count for t, task in zip(masked, TASKS, strict=True)},
        **{t.id: len(t.queries) for t in asked},
    }
    trajectories = [*masked, *asked]
    ordered = order_by_difficulty(trajectories, seed=0)
    assert [levels[t.id] for t in ordered] == [1] * 10 + [2] * 10 + [3] * 5 + [4] * 5
    assert {t.id for t in ordered} == set(levels)
    assert ordered == order_by_difficulty(trajectories, seed=0)
    assert ordered != order_by_difficulty(trajectories, seed=1)
    assert ordered != sorted(trajectories, key=lambda t: levels[t.id])
