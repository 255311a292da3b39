from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from fakes.command_line import CommandLine, make_command_line

pytest.importorskip("transformers")
pytest.importorskip("bm25s")

from masksearch_agent.jsonl import write_jsonl
from masksearch_agent.pipeline import evolution
from masksearch_agent.records import Passage


@pytest.fixture
def run(capsys: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> CommandLine:
    monkeypatch.chdir(tmp_path)
    return make_command_line(capsys, monkeypatch)


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Return the arguments of each run that is started."""
    notes: list[Any] = []

    class NotedEvolution:
        def __init__(self, *arguments: Any) -> None:
            notes.append(arguments)

        def run(self) -> dict[str, Any]:
            return {"rounds": [], "evals": {}, "comparisons": []}

    monkeypatch.setattr(evolution, "Evolution", NotedEvolution)
    return notes


def test_without_tasks_it_evolves_on_a_closed_world(run: CommandLine, started: list[Any]) -> None:
    ran = run("evolve", "--seed", 4, "--out", "here", "--set", "evolution.max_rounds=5", "--json")
    assert ran.json == {"rounds": [], "evals": {}, "comparisons": []}
    [(recipe, out, _, own_tasks)] = started
    assert (recipe.name, recipe.seed, recipe.evolution.max_rounds) == ("evolve", 4, 5)
    assert (out, own_tasks) == (Path("here"), None)


def test_own_tasks_are_answered_from_their_index(
    run: CommandLine, started: list[Any], tmp_path: Path
) -> None:
    write_jsonl(tmp_path / "corpus.jsonl", [Passage("p", "Ann", "Ann was born in 1923 in Port Aldin.")])
    assert run("index", "corpus.jsonl", "--set", "retrieval.mode=bm25", "--out", "index").code == 0
    ran = run("evolve", "a.jsonl", "b.jsonl", "--index", "index", "--held-out", "c.jsonl")
    assert (ran.code, "agent: runs/evolve/agent" in ran.out) == (0, True)
    [(recipe, _, _, own)] = started
    assert recipe.name == "run"
    assert (own.files, own.held_out) == ((Path("a.jsonl"), Path("b.jsonl")), (Path("c.jsonl"),))
    assert own.index == Path("index")
    [[found]] = own.search.search(["Ann born"], 3)
    assert found.passage.title == "Ann"


@pytest.mark.parametrize("arguments", [("a.jsonl",), ("--index", "index")])
def test_tasks_and_their_index_belong_together(
    run: CommandLine, started: list[Any], arguments: tuple[str, ...]
) -> None:
    refused = run("evolve", *arguments)
    assert (refused.code, started) == (1, [])
    assert "tasks and --index belong together" in refused.err
