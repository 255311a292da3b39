from __future__ import annotations

from collections import Counter
from pathlib import Path

from masksearch_agent.config.trainers import SFTSettings
from masksearch_agent.records import Trajectory
from masksearch_agent.stages.sft import read_accepted
from masksearch_agent.traces.store import TraceStore
from masksearch_agent.trainers.curriculum import repeat_to_fit


def test_a_curriculum_gets_as_many_trajectories_as_its_steps_read() -> None:
    trajectories = [Trajectory(f"t{number}", "task", (), "", "answered") for number in range(5)]
    settings = SFTSettings(max_steps=4, batch_size=3)
    fitted = Counter(trajectory.id for trajectory in repeat_to_fit(trajectories, settings))
    assert (fitted.total(), set(fitted.values())) == (12, {2, 3})
    assert repeat_to_fit(trajectories[::-1], settings) == repeat_to_fit(trajectories, settings)
    few = repeat_to_fit(trajectories, SFTSettings(max_steps=1, batch_size=3))
    assert len({trajectory.id for trajectory in few}) == 3
    assert repeat_to_fit(trajectories, SFTSettings()) == trajectories


def test_of_several_stages_the_first_accepted_trajectory_of_a_task_counts(tmp_path: Path) -> None:
    for folder, trajectories in {
        "one": [("a", "task-1", True), ("b", "task-2", False)],
        "two": [("c", "task-1", True), ("d", "task-2", True), ("e", "task-2", True)],
    }.items():
        with TraceStore(tmp_path / f"{folder}.sqlite") as store:
            for name, task, is_accepted in trajectories:
                store.add(Trajectory(name, task, (), "", "answered", accepted=is_accepted), folder)
    one, two = ((tmp_path / f"{name}.sqlite", name) for name in ("one", "two"))
    assert [found.id for found in read_accepted([one, two])] == ["a", "d"]
    assert {found.id for found in read_accepted([two])} == {"c", "d", "e"}
