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


def test_a_share_of_the_tasks_that_are_drawn_from_is_ramps(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    seen: dict[str, Any] = {}

    def stop(**arguments: Any) -> None:
        seen.update(arguments)
        raise Stopped

    monkeypatch.setattr(dapo, "DAPOTrainer", stop)
    make_base_bundle("tiny", "run", choose_prompts("compact", "fills"), AgentSettings(), tmp_path / "agent")
    own = [SearchTask(id=f"own{n}", kind="qa", question="?", answers=(("a",),)) for n in range(6)]
    ramp = [SearchTask(id=f"ramp{n}", kind="ramp", question="[mask]", answers=(("a",),)) for n in range(9)]
    settings, search = DAPOSettings(ramp_share=0.4), as_search(lambda query: [])
    with pytest.raises(Stopped):
        run_dapo(
            tmp_path / "agent",
            own,
            search,
            settings,
            rollouts_of(Recipe()),
            tmp_path / "new",
            "qa_dapo",
            ramp=ramp,
        )
    assert Counter(task.kind for task in seen["tasks"]) == {"qa": 6, "ramp": 4}


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
