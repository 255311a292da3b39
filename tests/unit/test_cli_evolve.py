from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from fakes.command_line import CommandLine

pytest.importorskip("transformers")
pytest.importorskip("tantivy")

from masksearch_agent.lab import evolution as lab_evolution
from masksearch_agent.reports.records import RunReport
from masksearch_agent.runs import evolution
from masksearch_agent.stages.stage import Site


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Return the arguments of each run that is started."""
    notes: list[Any] = []

    class NotedEvolution:
        def __init__(self, *arguments: Any) -> None:
            notes.append(arguments)
            self.rounds = SimpleNamespace(graph=Site())

        def run(self) -> RunReport:
            return RunReport("evolved")

    monkeypatch.setattr(evolution, "Evolution", NotedEvolution)
    monkeypatch.setattr(lab_evolution, "WorldEvolution", NotedEvolution)
    return notes


def test_without_tasks_it_evolves_on_a_closed_world(run: CommandLine, started: list[Any]) -> None:
    ran = run("evolve", "--seed", 4, "--out", "here", "--set", "evolution.max_rounds=5", "--json")
    assert ran.json["title"] == "evolved"
    [(recipe, out, _)] = started
    assert (recipe.name, recipe.seed, recipe.evolution.max_rounds) == ("evolve", 4, 5)
    assert out == Path("here")


def test_own_tasks_are_answered_from_their_index(run: CommandLine, started: list[Any]) -> None:
    ran = run("evolve", "a.jsonl", "b.jsonl", "--index", "index", "--held-out", "c.jsonl")
    assert (ran.code, "agent: runs/evolve/agent" in ran.out) == (0, True)
    [(recipe, out, tasks, index, held_out, _)] = started
    assert (recipe.name, out, index) == ("run", Path("runs/evolve"), Path("index"))
    assert (tasks, held_out) == ([Path("a.jsonl"), Path("b.jsonl")], [Path("c.jsonl")])


@pytest.mark.parametrize("arguments", [("a.jsonl",), ("--index", "index")])
def test_tasks_and_their_index_belong_together(
    run: CommandLine, started: list[Any], arguments: tuple[str, ...]
) -> None:
    refused = run("evolve", *arguments)
    assert (refused.code, started) == (1, [])
    assert "tasks and --index belong together" in refused.err
