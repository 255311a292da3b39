from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from masksearch_agent.agent.bundle import BUNDLE_FILE, BundleInfo, save_bundle
from masksearch_agent.agent.prompts import COMPACT_PROMPTS
from masksearch_agent.agent.protocol import PROTOCOL_VERSION
from masksearch_agent.config.agent import AgentSettings
from masksearch_agent.config.trainers import SFTSettings
from masksearch_agent.errors import TrainingError
from masksearch_agent.records import Message, Trajectory, Turn
from masksearch_agent.stages.sft import read_accepted, run_sft
from masksearch_agent.traces.store import TraceStore
from masksearch_agent.trainers.curriculum import repeat_to_fit


def test_a_curriculum_gets_as_many_trajectories_as_its_steps_read(monkeypatch: pytest.MonkeyPatch) -> None:
    trajectories = [Trajectory(f"t{number}", "task", (), "", "answered") for number in range(5)]
    settings = SFTSettings(max_steps=4, batch_size=3)
    fitted = Counter(trajectory.id for trajectory in repeat_to_fit(trajectories, settings))
    assert (fitted.total(), set(fitted.values())) == (12, {2, 3})
    assert repeat_to_fit(trajectories[::-1], settings) == repeat_to_fit(trajectories, settings)
    few = repeat_to_fit(trajectories, SFTSettings(max_steps=1, batch_size=3))
    assert len({trajectory.id for trajectory in few}) == 3
    assert repeat_to_fit(trajectories, SFTSettings()) == trajectories
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert len(repeat_to_fit(trajectories, settings)) == 24


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


def make_agent(tokenizer: Any, folder: Path, seed: int) -> Path:
    from fakes.tiny_models import make_test_model

    info = BundleInfo(
        protocol_version=PROTOCOL_VERSION,
        prompts=COMPACT_PROMPTS,
        agent=AgentSettings(),
        model_version="run/base",
    )
    save_bundle(make_test_model(tokenizer, seed=seed), tokenizer, info, folder)
    return folder


def make_trajectory(name: str, question: str) -> Trajectory:
    turn = Turn("0", None, "policy", (Message("user", question),), f"<answer>{name}</answer>")
    return Trajectory(name, name, (turn,), name, "answered")


def test_a_folder_goes_on_with_the_agent_and_trajectories_that_it_was_trained_on_alone(
    tiny_tokenizer: Any, tmp_path: Path
) -> None:
    pytest.importorskip("trl")
    agent, other = (make_agent(tiny_tokenizer, tmp_path / f"agent{seed}", seed) for seed in (0, 1))
    settings = SFTSettings(batch_size=2, epochs=1)
    trajectories = [make_trajectory(f"n{number}", "Who?") for number in range(4)]
    for _ in range(2):
        assert run_sft(agent, trajectories, settings, tmp_path / "out", "sft").steps == 2
    with pytest.raises(TrainingError, match="with other trajectories"):
        run_sft(agent, [make_trajectory("new", "Who?")], settings, tmp_path / "out", "sft")
    with pytest.raises(TrainingError, match="with another agent"):
        run_sft(other, trajectories, settings, tmp_path / "out", "sft")


def test_trajectories_that_are_too_long_are_told_as_failed(tiny_tokenizer: Any, tmp_path: Path) -> None:
    pytest.importorskip("trl")
    agent = make_agent(tiny_tokenizer, tmp_path / "agent", 0)
    trajectories = [make_trajectory("a", "Who?"), make_trajectory("b", "Who? " * 100)]
    spent = run_sft(agent, trajectories, SFTSettings(max_tokens=100), tmp_path / "out", "sft")
    assert (spent.items, spent.failed) == (2, 1)
    assert "longer than `max_tokens`" in next(iter(spent.failures))


def test_of_several_processes_the_first_one_writes_the_agent(
    tiny_tokenizer: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("trl")
    agent = make_agent(tiny_tokenizer, tmp_path / "agent", 0)
    monkeypatch.setenv("RANK", "1")
    run_sft(agent, [make_trajectory("a", "Who?")], SFTSettings(), tmp_path / "out", "sft")
    assert not (tmp_path / "out" / BUNDLE_FILE).exists()
