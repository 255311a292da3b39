from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fakes.evaluation_results import result, write_results

from masksearch_agent.config.recipe import Recipe
from masksearch_agent.jsonl import write_jsonl
from masksearch_agent.pipeline.pretraining_report import build_pretraining_report, last_words
from masksearch_agent.pipeline.stages import Run
from masksearch_agent.records import SearchTask, Trajectory, Turn

NAMES = ("Quay", "Weir", "Mole", "Pier")


def untagged(name: str, text: str, **changes: Any) -> Any:
    turns = (Turn("first", None, "policy", (), "Let me see."), Turn("second", "first", "policy", (), text))
    trajectory = Trajectory(f"t-{name}", name, turns, "", "repairs_exhausted", producer="base#1")
    return result(name, 0.0, answer="", trajectory=trajectory, searches=0, **changes)


@pytest.fixture
def files(tmp_path: Path) -> dict[str, dict[str, tuple[Path, Path]]]:
    tasks = [SearchTask(name, "qa", f"Who built {name}?", (("Ann Bo", "Ann"),)) for name in NAMES]
    write_jsonl(tmp_path / "questions.jsonl", tasks)
    masked = SearchTask("m", "ramp", "Quay: built by [mask]", (("Ann Bo",),), category="ramp")
    asked = [replace(task, category="cloze", source_text="Ann Bo built it.") for task in tasks]
    write_jsonl(tmp_path / "ramp.jsonl", [masked, *asked])
    rows = {
        "agent-pe": [untagged(name, "<think>It was Ann, I think") for name in NAMES],
        "rag-pe": [result(name, 0.5, answer="Ann Do") for name in NAMES],
        "ramp_sft": [result(name, float(name != "Weir")) for name in NAMES],
        "ramp_dapo": [result(name, 1.0) for name in NAMES],
    }
    return {
        agent: {"docks": (tmp_path / "questions.jsonl", write_results(tmp_path, f"{agent}-docks", *results))}
        for agent, results in rows.items()
    }


def test_what_an_untrained_model_says_without_tags_counts_in_the_second_score_only(
    files: dict[str, dict[str, tuple[Path, Path]]], tmp_path: Path
) -> None:
    report = build_pretraining_report(Recipe(), Run(tmp_path, ""), files)
    untrained = report["evals"]["agent-pe"]["docks"]
    assert (untrained["recall"], untrained["answered"], untrained["said_recall"]) == (0.0, 0.0, 1.0)
    trained = report["evals"]["ramp_sft"]["docks"]
    assert (trained["recall"], trained["answered"], trained["said_recall"]) == (0.75, 1.0, 0.75)
    [gain] = [
        entry
        for entry in report["comparisons"]
        if (entry["after"], entry["before"]) == ("ramp_sft", "agent-pe")
    ]
    assert (gain["mean"], gain["said"]["mean"], gain["n"]) == (0.75, -0.25, 4)
    assert gain["low"] > 0 > gain["said"]["low"]
    assert report["tasks"] == {"ramp": 1, "cloze": 4}


def test_right_and_wrong_trajectories_are_shown_in_turn(
    files: dict[str, dict[str, tuple[Path, Path]]], tmp_path: Path
) -> None:
    samples = build_pretraining_report(Recipe(), Run(tmp_path, ""), files)["samples"]
    assert [sample["title"] for sample in samples] == [
        "docks: Quay",
        "docks: Weir",
        "docks: Mole",
        "docks: Pier",
    ]
    assert [sample["recall"] for sample in samples] == [1.0, 0.0, 1.0, 1.0]


def test_the_last_words_lose_their_tags() -> None:
    assert last_words(untagged("Quay", "<think>Ann  Bo</think> <answer>")) == "Ann Bo"
    assert last_words(result("Quay", 1.0)) == "Ann Bo"
