from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from fakes.command_line import CommandLine

pytest.importorskip("transformers")
pytest.importorskip("tantivy")

from masksearch_agent.lab import ablation
from masksearch_agent.lab.ablation_report import AblationReport
from masksearch_agent.lab.recipe import EXPERIMENTS
from masksearch_agent.stages.graph import StageGraph
from masksearch_agent.stages.stage import Stage


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[Any]:
    """Return the arguments of each run that is started."""
    notes: list[Any] = []

    class NotedAblation:
        exams: tuple[Stage, ...] = ()

        def __init__(self, *arguments: Any) -> None:
            notes.append(arguments)
            self.graph = StageGraph(tmp_path)

        def run(self) -> AblationReport:
            return AblationReport("ablate", (0,), 0.02, (), (), 1.0, 1.0)

    monkeypatch.setattr(ablation, "Ablation", NotedAblation)
    return notes


def test_the_shipped_recipe_is_run_where_none_is_named(run: CommandLine, started: list[Any]) -> None:
    ran = run("ablate")
    assert (ran.code, "report: runs/ablate/ablation.md" in ran.out) == (0, True)
    [(recipe, out, _)] = started
    assert (recipe.name, out) == ("ablate", Path("runs/ablate"))
    assert (recipe.ablation.seeds, recipe.ablation.only) == ((0, 1, 2), EXPERIMENTS)


def test_seeds_and_comparisons_are_chosen_and_the_result_is_json(
    run: CommandLine, started: list[Any]
) -> None:
    ran = run(
        *("ablate", "--seeds", "3,5", "--only", "table", "--only", "leak_guard", "--out", "here", "--json"),
        *("--set", "ablation.smallest_gain=0.5"),
    )
    assert (ran.json["title"], ran.json["seeds"]) == ("ablate", [0])
    [(recipe, out, _)] = started
    assert (recipe.ablation.seeds, recipe.ablation.only, out) == (
        (3, 5),
        ("table", "leak_guard"),
        Path("here"),
    )
    assert recipe.ablation.smallest_gain == 0.5


@pytest.mark.parametrize("arguments", [("--only", "tables"), ("--seeds", "a"), ("--seeds", "1,1")])
def test_what_is_no_comparison_or_seed_is_refused(
    run: CommandLine, started: list[Any], arguments: tuple[str, ...]
) -> None:
    refused = run("ablate", *arguments)
    assert (refused.code, started) == (1, [])
    assert "ablation." in refused.err
