from __future__ import annotations

from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from masksearch_agent.agent.prompts import choose_prompts
from masksearch_agent.config.agent import AgentSettings
from masksearch_agent.config.recipe import Recipe
from masksearch_agent.config.trainers import DAPOSettings
from masksearch_agent.failures import Failures
from masksearch_agent.records import SearchTask
from masksearch_agent.retrieval.adapters import as_search
from masksearch_agent.stages.base import make_base_bundle
from masksearch_agent.stages.dapo import _with_failures, run_dapo
from masksearch_agent.stages.plan import rollouts_of
from masksearch_agent.stages.stage import Spent
from masksearch_agent.trainers import dapo


class Stopped(Exception):
    """Raised in the trainer's place."""


def asked_of_trainer(monkeypatch: pytest.MonkeyPatch, folder: Path, **changes: Any) -> dict[str, Any]:
    """Return what a stage makes its trainer of."""
    seen: dict[str, Any] = {}

    def stop(**arguments: Any) -> None:
        seen.update(arguments)
        raise Stopped

    monkeypatch.setattr(dapo, "DAPOTrainer", stop)
    make_base_bundle("tiny", "run", choose_prompts("compact", "fills"), AgentSettings(), folder / "agent")
    own = [SearchTask(id=f"own{n}", kind="qa", question="?", answers=(("a",),)) for n in range(6)]
    settings, search = changes.pop("settings", DAPOSettings()), as_search(lambda query: [])
    rollouts, new = rollouts_of(Recipe()), folder / "run" / "qa_dapo"
    with pytest.raises(Stopped):
        run_dapo(folder / "agent", own, search, settings, rollouts, new, "qa_dapo", **changes)
    return seen


def test_a_share_of_the_tasks_that_are_drawn_from_is_ramps(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    ramp = [SearchTask(id=f"ramp{n}", kind="ramp", question="[mask]", answers=(("a",),)) for n in range(9)]
    seen = asked_of_trainer(monkeypatch, tmp_path, settings=DAPOSettings(ramp_share=0.4), ramp=ramp)
    assert Counter(task.kind for task in seen["tasks"]) == {"qa": 6, "ramp": 4}


def test_training_is_logged_to_trackers_only_where_that_is_asked_for(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    pytest.importorskip("tensorboard")
    arguments = asked_of_trainer(monkeypatch, tmp_path)["args"]
    assert arguments.report_to == []
    arguments = asked_of_trainer(monkeypatch, tmp_path, report_to=("tensorboard",))["args"]
    assert (arguments.report_to, arguments.run_name) == (["tensorboard"], "run/qa_dapo")


def test_a_checkpoint_says_which_agent_and_tasks_it_is_of(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    kept = asked_of_trainer(monkeypatch, tmp_path)["callbacks"][0].kept
    assert asked_of_trainer(monkeypatch, tmp_path)["callbacks"][0].kept == kept
    ramp = [SearchTask(id="ramp", kind="ramp", question="[mask]", answers=(("a",),))]
    settings = DAPOSettings(ramp_share=0.1)
    mixed = asked_of_trainer(monkeypatch, tmp_path, settings=settings, ramp=ramp)["callbacks"][0].kept
    assert mixed["data"] != kept["data"]
    assert (mixed["source"], mixed["rows_per_step"]) == (kept["source"], kept["rows_per_step"]) != ("", 128)


def test_failed_rollouts_of_all_steps_are_told() -> None:
    runner = SimpleNamespace(group_size=4, failures=Failures())
    runner.failures.add_reason("rollout of task a", "no room left")
    steps = [
        {"step": 1, "rollouts/failed": 1.0, "dapo/groups_sampled": 2.0},
        {"step": 1, "exam/recall": 0.5},
        {"step": 2, "rollouts/failed": 2.0, "dapo/groups_sampled": 3.0},
    ]
    spent = _with_failures(Spent(2, 80), steps, runner)  # type: ignore[arg-type]
    assert (spent.steps, spent.items, spent.failed) == (2, 20, 3)
    assert spent.failures == {"no room left": 1, "in another process, whose log says why": 2}
