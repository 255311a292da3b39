"""A DAPO trainer over a tiny model, with rollouts that a test scripts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from masksearch_agent.config.trainers import DAPOSettings
from masksearch_agent.records import MASK, SearchTask, TrainingRow, Trajectory
from masksearch_agent.rewards.mix import Reward
from masksearch_agent.trainers.rollouts import Group, Rollout

TASKS = [
    SearchTask(f"{masks}-{number}", "ramp", " ".join([MASK] * masks), (("x",),) * masks)
    for masks in (1, 2)
    for number in range(6)
]


def make_group(task: SearchTask, rewards: Sequence[float], rows: Sequence[TrainingRow]) -> Group:
    """Return a group with one row a rollout."""
    trajectory = Trajectory("t", task.id, (), "", "answered")
    rollouts = tuple(
        Rollout(trajectory, Reward(1.0, reward, 0.0, reward), (row,))
        for reward, row in zip(rewards, rows, strict=True)
    )
    return Group(task, rollouts, failed=0)


class ScriptedRunner:
    """Makes groups with a function of the task and the seed, and notes what it was asked for."""

    def __init__(self, make: Callable[[SearchTask, int], Group]) -> None:
        self.make = make
        self.agent = SimpleNamespace(model=SimpleNamespace(model_version="tiny"))
        self.asked: list[tuple[int, list[str]]] = []
        self.versions: list[str] = []

    def run(self, tasks: Sequence[SearchTask], seed: int, places: Sequence[int] | None = None) -> list[Group]:
        self.asked.append((seed, [task.id for task in tasks]))
        self.versions.append(self.agent.model.model_version)
        return [self.make(task, seed) for task in tasks]


MakeTrainer = Callable[..., Any]


@pytest.fixture
def make_trainer(tiny_tokenizer: Any, tmp_path: Path) -> MakeTrainer:
    """Return a function that makes a trainer: two prompts a step, groups of two, two rows a forward pass.

    Scripted rollouts come from no model, so the drift of their probabilities stops nothing unless a test asks for it.
    """
    from fakes.tiny_models import make_test_model

    from masksearch_agent.trainers.dapo import DAPOConfig, DAPOTrainer
    from masksearch_agent.trainers.trackers import tracker_arguments

    def make(runner: Any, tasks: Sequence[SearchTask] = TASKS, callbacks: Any = (), **changes: Any) -> Any:
        output_dir = changes.pop("output_dir", tmp_path)
        processes = changes.pop("processes", None)
        model = changes.pop("model", None) or make_test_model(tiny_tokenizer)
        weight_sync = changes.pop("weight_sync", None)
        monitor = changes.pop("monitor", None)
        report_to = changes.pop("report_to", ())
        if monitor is not None:
            changes["monitor"] = monitor.settings
        small = {"prompts_per_step": 2, "group_size": 2, "row_batch_size": 2, "max_steps": 4}
        settings = DAPOSettings.model_validate({**small, "max_sampler_drift": None, **changes})
        config = DAPOConfig.from_settings(
            settings, output_dir, processes, **tracker_arguments(report_to, output_dir)
        )
        return DAPOTrainer(
            model, config, tasks, runner, tiny_tokenizer, callbacks, weight_sync=weight_sync, monitor=monitor
        )

    return make
