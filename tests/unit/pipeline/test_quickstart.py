from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from masksearch_agent.config.recipe import Recipe
from masksearch_agent.config.trainers import DAPOSettings
from masksearch_agent.pipeline import quickstart
from masksearch_agent.pipeline.quickstart import Quickstart, evaluated_agents
from masksearch_agent.pipeline.training import StageResult


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, ...]]:
    """Return what is noted of each training stage instead of training: its name, source, target and seed."""
    notes: list[tuple[str, ...]] = []

    def run_sft(
        source: Path, rows: Any, settings: Any, target: Path, stage: str, listener: Any
    ) -> StageResult:
        notes.append((stage, source.name, target.name))
        return StageResult(1, 1)

    def run_dapo(
        source: Path,
        tasks: Any,
        search: Any,
        recipe: Any,
        settings: Any,
        target: Path,
        stage: str,
        listener: Any,
    ) -> StageResult:
        notes.append((stage, source.name, target.name, f"{settings.max_steps} steps, seed {settings.seed}"))
        return StageResult(1, 1)

    for name in ("_write_world", "_build_index", "_build_tasks", "_generate", "_take_base", "_evaluate"):
        monkeypatch.setattr(Quickstart, name, lambda self, bar: None)
    monkeypatch.setattr(Quickstart, "_search", lambda self: None)
    monkeypatch.setattr(quickstart, "read_task_files", lambda files: [file.stem for file in files])
    monkeypatch.setattr(quickstart, "build_report", lambda recipe, state, rows: {"rows": rows})
    monkeypatch.setattr(quickstart, "write_report", lambda report, directory: None)
    monkeypatch.setattr(quickstart, "run_sft", run_sft)
    monkeypatch.setattr(quickstart, "run_dapo", run_dapo)
    return notes


def test_stage_two_is_supervised_by_default(trained: list[tuple[str, ...]], tmp_path: Path) -> None:
    report = Quickstart(Recipe(), tmp_path).run()
    assert trained[-1] == ("qa_sft", "ramp_dapo", "agent")
    assert [row for row, _, _ in report["rows"]] == ["untrained", "rag", "ramp_sft", "ramp_dapo", "final"]


def test_stage_two_ends_in_dapo_where_the_recipe_says_so(
    trained: list[tuple[str, ...]], tmp_path: Path
) -> None:
    recipe = Recipe(seed=3, qa_dapo=DAPOSettings(max_steps=7))
    report = Quickstart(recipe, tmp_path).run()
    assert trained[-2:] == [
        ("qa_sft", "ramp_dapo", "qa_sft"),
        ("qa_dapo", "qa_sft", "agent", "7 steps, seed 3"),
    ]
    assert report["rows"][-2:] == (("qa_sft", "qa_sft", "agentic"), ("final", "agent", "agentic"))
    assert report["rows"] == evaluated_agents(recipe)
