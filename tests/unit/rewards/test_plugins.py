"""Rewards from outside the package: the example of the docs, registered in Python and installed as an entry point."""

from __future__ import annotations

import asyncio
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from masksearch_agent.config.recipe import Recipe
from masksearch_agent.config.rewards import RewardSettings
from masksearch_agent.plugins import REWARDS
from masksearch_agent.records import Sampling, SearchTask, Trajectory
from masksearch_agent.rewards.mix import RewardMix
from masksearch_agent.trainers.rollouts import RolloutRunner

DOCS = Path(__file__).resolve().parents[3] / "docs" / "extending.md"
TASK = SearchTask("q", "qa", "Who?", (("Ann Bo",),))


def example() -> str:
    """Return the first Python block of the section on rewards."""
    section = DOCS.read_text(encoding="utf-8").split("## A reward\n")[1]
    found = re.search(r"```python\n(.*?)```", section, re.DOTALL)
    assert found
    return found[1]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Return a folder on the path that holds the example; nothing of it is known afterwards."""
    (tmp_path / "frugal_reward.py").write_text(example(), encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(REWARDS, "_registered", {})
    REWARDS.__dict__.pop("_entry_points", None)
    yield tmp_path
    REWARDS.__dict__.pop("_entry_points", None)
    sys.modules.pop("frugal_reward", None)


def scores() -> list[float]:
    """Return what the reward called `frugal` gives for a right answer after one search and after three."""
    mix = RewardMix(RewardSettings.model_validate({"answer": "frugal"}))
    right = [Trajectory("t", "q", (), "Ann Bo", "answered", queries=(("a",),) * n) for n in (1, 3)]
    return [asyncio.run(mix.score(TASK, trajectory)).answer for trajectory in right]


def test_an_application_registers_a_reward(folder: Path) -> None:
    REWARDS.register("frugal", __import__("frugal_reward").REWARD)
    assert scores() == [1.0, 0.5]


def test_an_installed_package_brings_a_reward_as_an_entry_point(folder: Path) -> None:
    info = folder / "frugal_reward-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: frugal-reward\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[masksearch_agent.rewards]\nfrugal = frugal_reward:REWARD\n")
    assert "frugal" in REWARDS.names()
    assert "frugal_reward" not in sys.modules
    assert scores() == [1.0, 0.5]


def test_rollouts_are_scored_by_a_reward_that_a_recipe_names(folder: Path) -> None:
    class Agent:
        async def run_task(self, task: SearchTask, sampling: Sampling | None = None, seed: int = 0) -> Any:
            return Trajectory(
                str(seed), task.id, (), "Ann Bo", "answered", queries=(("a",),) * (1 + 2 * (seed % 2))
            )

    REWARDS.register("frugal", __import__("frugal_reward").REWARD)
    rewards = Recipe.model_validate({"rewards": {"answer": "frugal"}}).rewards
    runner = RolloutRunner(Agent(), RewardMix(rewards), Sampling(temperature=1.0), group_size=2)  # type: ignore[arg-type]
    [group] = runner.run([TASK], seed=0)
    assert group.first_failure == ""
    assert [rollout.reward.answer for rollout in group.rollouts] == [1.0, 0.5]
    assert group.fate == "useful"
