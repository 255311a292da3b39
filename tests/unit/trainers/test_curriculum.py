from __future__ import annotations

import json

import pytest

from masksearch_agent.config.trainers import CurriculumLevel
from masksearch_agent.errors import TrainingError
from masksearch_agent.records import MASK, Message, SearchTask, Trajectory, Turn
from masksearch_agent.trainers.curriculum import Curriculum, order_by_difficulty


def ramp(name: str, masks: int) -> SearchTask:
    return SearchTask(name, "ramp", " ".join([MASK] * masks), (("x",),) * masks)


TASKS = [ramp(f"{masks}-{number}", masks) for masks in (3, 1, 4, 2) for number in range(5)]
STAGES = (
    CurriculumLevel(max_masks=1, until=0.25),
    CurriculumLevel(max_masks=2, until=0.5),
    CurriculumLevel(max_masks=4, until=1.0),
)


def test_a_pass_draws_every_task_once_however_it_is_cut() -> None:
    whole = Curriculum(TASKS, (), max_steps=8, seed=3)
    in_parts = Curriculum(TASKS, (), max_steps=8, seed=3)
    drawn = whole.draw(50)
    assert [index for count in (1, 7, 20, 3, 19) for index in in_parts.draw(count)] == drawn
    every_task = list(range(len(TASKS)))
    assert sorted(drawn[:20]) == sorted(drawn[20:40]) == every_task
    assert drawn[:20] != drawn[20:40]


def test_seeds_draw_differently() -> None:
    one, other = (Curriculum(TASKS, (), max_steps=8, seed=seed).draw(10) for seed in (0, 1))
    assert one != other


def stage_after(curriculum: Curriculum, step: int) -> int | None:
    curriculum.begin_step(step)
    return curriculum.max_masks


def test_stages_begin_and_end_at_their_share_of_the_steps() -> None:
    curriculum = Curriculum(TASKS, STAGES, max_steps=8, seed=0)
    assert [stage_after(curriculum, step) for step in range(9)] == [1, 1, 2, 2, 4, 4, 4, 4, 4]


def test_a_stage_draws_only_what_it_allows() -> None:
    curriculum = Curriculum(TASKS, STAGES, max_steps=8, seed=0)
    for step, allowed in ((0, {1}), (1, {1}), (2, {1, 2}), (4, {1, 2, 3, 4})):
        curriculum.begin_step(step)
        assert {TASKS[index].mask_count for index in curriculum.draw(5 * len(allowed))} == allowed


def test_the_last_stage_lasts_though_it_ends_early() -> None:
    curriculum = Curriculum(TASKS, STAGES[:1], max_steps=8, seed=0)
    assert stage_after(curriculum, 7) == 1


def test_without_stages_all_tasks_are_drawn() -> None:
    assert stage_after(Curriculum(TASKS, (), max_steps=8, seed=0), 3) is None


def make_promoting(until: float | None = None) -> Curriculum:
    stages = (
        CurriculumLevel(max_masks=2, promote_at=0.5, window=4, until=until),
        CurriculumLevel(max_masks=4),
    )
    curriculum = Curriculum(TASKS, stages, max_steps=8, seed=0)
    assert stage_after(curriculum, 0) == 2
    return curriculum


def observe(curriculum: Curriculum, *rates: float, masks: int = 2) -> None:
    for rate in rates:
        curriculum.observe(masks, rate)


def test_a_stage_is_left_when_the_success_rate_of_its_hardest_tasks_passes_the_threshold() -> None:
    curriculum = make_promoting()
    observe(curriculum, 1.0, 1.0, 1.0)
    assert stage_after(curriculum, 1) == 2, "the window is not full"
    observe(curriculum, 0.0)
    assert stage_after(curriculum, 2) == 4
    assert curriculum.success_rate is None


def test_only_the_last_groups_count() -> None:
    curriculum = make_promoting()
    observe(curriculum, 1.0, 1.0, 0.0, 0.0, 0.25, 0.25)
    assert curriculum.success_rate == 0.125
    assert stage_after(curriculum, 1) == 2
    observe(curriculum, 1.0, 1.0)
    assert stage_after(curriculum, 1) == 4


def test_easier_tasks_promote_nothing() -> None:
    curriculum = make_promoting()
    observe(curriculum, *[1.0] * 9, masks=1)
    assert (curriculum.success_rate, stage_after(curriculum, 7)) == (None, 2)


def test_the_hardest_tasks_are_the_hardest_that_there_are() -> None:
    stages = (CurriculumLevel(max_masks=3, promote_at=0.5, window=1), CurriculumLevel(max_masks=4))
    curriculum = Curriculum([ramp("a", 1), ramp("b", 4)], stages, max_steps=8, seed=0)
    observe(curriculum, 1.0, masks=1)
    assert stage_after(curriculum, 1) == 4


def test_promotion_can_have_a_last_step() -> None:
    curriculum = make_promoting(until=0.5)
    observe(curriculum, *[0.0] * 9)
    assert [stage_after(curriculum, step) for step in (3, 4)] == [2, 4]


def test_a_restored_stream_goes_on_as_the_saved_one() -> None:
    saved = make_promoting()
    saved.draw(13)
    observe(saved, 1.0, 0.0, 1.0)
    restored = Curriculum(TASKS, saved.levels, max_steps=8, seed=0)
    restored.restore(json.loads(json.dumps(saved.state())))
    for curriculum in (saved, restored):
        observe(curriculum, 0.5)
    drawn = [
        (curriculum.draw(9), stage_after(curriculum, 1), curriculum.draw(30))
        for curriculum in (saved, restored)
    ]
    assert drawn[0] == drawn[1]
    assert drawn[0][1] == 4


def test_the_state_of_a_run_over_other_tasks_is_refused() -> None:
    state = make_promoting().state()
    with pytest.raises(TrainingError, match="written by a run over other tasks"):
        Curriculum(TASKS[1:], STAGES, max_steps=8, seed=0).restore(state)


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
