"""`masksearch traces` and `masksearch export`."""

from __future__ import annotations

from pathlib import Path

import pytest
from fakes.command_line import CommandLine

from masksearch_agent.records import Message, Trajectory, Turn
from masksearch_agent.traces.store import TraceStore


def trajectory(identity: str, task: str, query: str, answer: str, verdict: str = "accepted") -> Trajectory:
    asked = (Message("user", f"What about {task}?"),)
    told = (Message("user", "<information>\n[1] A [bold] fact.\n</information>"),)
    turns = (
        Turn("0.planner", None, "planner", asked, "I would plan.", model_version="m"),
        Turn("0", None, "policy", asked, f"<think></think><search> {query}</search>"),
        Turn("1", "0", "policy", told, f"<think></think><answer> {answer}</answer>"),
    )
    return Trajectory(
        identity, task, turns, answer, "answered", queries=((query,),), producer=f"model {identity[0]}",
        accepted=verdict == "accepted", verdict=verdict,
    )  # fmt: skip


@pytest.fixture
def run(run: CommandLine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> CommandLine:
    with TraceStore(tmp_path / "t.sqlite") as store:
        store.add_many(
            [
                trajectory("aa01", "one", "first way", "Ada"),
                trajectory("ab02", "one", "second way", "Ada"),
                trajectory("bc03", "two", "third way", "Bo", "wrong answer"),
            ],
            "ramp",
        )
        store.add(trajectory("bd04", "three", "fourth way", "Cy"), "qa")
    return run


def listed(run: CommandLine, *options: str) -> list[str]:
    return [row["id"] for row in run("traces", "t.sqlite", *options, "--json").json["trajectories"]]


def test_all_are_listed_with_counts(run: CommandLine) -> None:
    shown = run("traces", "t.sqlite", "--json").json
    assert [row["id"] for row in shown["trajectories"]] == ["aa01", "ab02", "bc03", "bd04"]
    assert shown["stages"] == {"ramp": 3, "qa": 1}
    assert (shown["accepted"], shown["rejected"], shown["reasons"]) == (3, 1, {"wrong answer": 1})
    assert shown["trajectories"][2] == {
        "id": "bc03", "task": "two", "accepted": False, "verdict": "wrong answer", "searches": 1, "steps": 2,
        "stop_reason": "answered", "answer": "Bo", "producer": "model b", "tokens": None, "cost_usd": None,
    }  # fmt: skip
    table = run("traces", "t.sqlite").out
    assert "bc03" in table
    assert "wrong answer" in table


@pytest.mark.parametrize(
    ("options", "ids"),
    [
        (("--stage", "qa"), ["bd04"]),
        (("--rejected",), ["bc03"]),
        (("--accepted", "--stage", "ramp"), ["aa01", "ab02"]),
        (("--task", "one"), ["aa01", "ab02"]),
        (("--producer", "model b"), ["bc03", "bd04"]),
        (("--verdict", "wrong"), ["bc03"]),
        (("--text", "THIRD"), ["bc03"]),
        (("--text", "a [bold] fact", "--limit", "2"), ["aa01", "ab02"]),
        (("--task", "one", "--text", "second"), ["ab02"]),
    ],
)
def test_filters(run: CommandLine, options: tuple[str, ...], ids: list[str]) -> None:
    assert listed(run, *options) == ids


def test_one_is_shown_whole_by_the_beginning_of_its_id(run: CommandLine) -> None:
    shown = run("traces", "t.sqlite", "bc").out
    for part in ("wrong answer", "I would plan.", "third way", "[1] A [bold] fact.", "<answer> Bo</answer>"):
        assert part in shown
    assert run("traces", "t.sqlite", "bc", "--json").json["trajectories"][0]["id"] == "bc03"


def test_two_are_compared_step_by_step(run: CommandLine) -> None:
    shown = run("traces", "t.sqlite", "aa", "ab").out
    [first] = [line for line in shown.splitlines() if "first way" in line]
    assert "second way" in first
    assert "1 ≠" in first
    [second] = [line for line in shown.splitlines() if "<answer> Ada</answer>" in line]
    assert "≠" not in second


def test_an_unknown_or_unclear_id_is_refused(run: CommandLine) -> None:
    assert "has no trajectory 'ff'" in run("traces", "t.sqlite", "ff").err
    unclear = run("traces", "t.sqlite", "a")
    assert "several trajectories begin with 'a': aa01, ab02" in unclear.err
    assert unclear.code == 1
    assert "no trace store at lost.sqlite" in run("traces", "lost.sqlite").err


def test_export_writes_a_dataset_folder(run: CommandLine) -> None:
    done = run("export", "t.sqlite", "--out", "data", "--format", "jsonl", "--stage", "ramp", "--json").json
    assert (done["rows"], Path("data/data/train.jsonl").is_file()) == (2, True)
    done = run("export", "t.sqlite", "--out", "bad", "--format", "jsonl", "--rejected", "--json").json
    assert done["rows"] == 1
