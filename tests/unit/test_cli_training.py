from __future__ import annotations

import sys
from pathlib import Path

import pytest
from fakes.command_line import CommandLine
from fakes.overlap_backend import OverlapBackend
from fakes.passages import make_passages

from masksearch_agent.agent.bundle import BUNDLE_FILE, BundleInfo
from masksearch_agent.agent.protocol import PROTOCOL_VERSION
from masksearch_agent.cli.training import _display, _examine, _finish, _note_kept_settings, _start_agent
from masksearch_agent.config.recipe import load_recipe
from masksearch_agent.config.trainers import MonitorSettings, SFTSettings
from masksearch_agent.errors import ConfigError
from masksearch_agent.jsonl import write_jsonl
from masksearch_agent.records import SearchTask, Trajectory
from masksearch_agent.retrieval.search import Search
from masksearch_agent.stages.plan import prompts_of
from masksearch_agent.stages.stage import Spent
from masksearch_agent.traces.store import TraceStore

TASK = SearchTask("q1", "qa", "Who is the mayor?", (("Ada",),))


@pytest.mark.parametrize("own", [None, MonitorSettings(every_steps=7)])
def test_an_exam_that_is_given_is_asked_whatever_the_recipe_says(
    tmp_path: Path, own: MonitorSettings | None
) -> None:
    write_jsonl(tmp_path / "exam.jsonl", [TASK])
    search = Search(OverlapBackend(make_passages("Ada is the mayor.")))
    settings, exam = _examine(SFTSettings(monitor=own), tmp_path / "exam.jsonl", search)
    assert settings.monitor == (own or MonitorSettings())
    assert exam is not None
    assert [task.id for task in exam.tasks] == ["q1"]
    assert exam.search is search


def test_without_an_exam_settings_are_as_they_were() -> None:
    settings = SFTSettings()
    assert _examine(settings, None, None) == (settings, None)
    assert settings.monitor is None


@pytest.mark.parametrize(
    ("command", "settings"),
    [("dapo --tasks tasks.jsonl", "ramp_dapo"), ("sft --traces traces.sqlite", "ramp_sft")],
)
def test_an_agent_that_several_processes_start_from_is_made_by_one(
    run: CommandLine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str, settings: str
) -> None:
    pytest.importorskip("trl")
    write_jsonl(tmp_path / "tasks.jsonl", [TASK])
    with TraceStore(tmp_path / "traces.sqlite") as store:
        store.add(Trajectory("t", TASK.id, (), "Ada", "answered", accepted=True), "ramp")
    monkeypatch.setenv("WORLD_SIZE", "2")
    ran = run(*command.split(), "--index", "http://127.0.0.1:9", "--out", "out")
    assert ran.code == 1
    assert "several processes cannot make out/base together" in ran.err
    assert f"`--set {settings}.max_steps=1`" in " ".join(ran.err.split())
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("rank", "printed"), [("0", True), ("1", False)])
def test_of_several_processes_the_first_one_prints_the_result(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, rank: str, printed: bool
) -> None:
    monkeypatch.setenv("RANK", rank)
    _finish(Path("out"), Spent(steps=3), load_recipe(), as_json=True)
    assert bool(capsys.readouterr().out) == printed
    assert _display().console.quiet != printed


def test_an_index_that_is_not_there_is_told_before_training(run: CommandLine, tmp_path: Path) -> None:
    pytest.importorskip("trl")
    ran = run("sft", "--traces", "t.sqlite", "--index", "tpyo", "--out", "out")
    assert (ran.code, "no index in tpyo" in ran.err) == (1, True)
    assert not (tmp_path / "out").exists()


def test_an_untrained_agent_without_an_index_is_told_by_the_option_s_name(
    run: CommandLine, tmp_path: Path
) -> None:
    pytest.importorskip("trl")
    write_jsonl(tmp_path / "tasks.jsonl", [TASK])
    ran = run("dapo", "--tasks", "tasks.jsonl", "--out", "out")
    assert (ran.code, "has no index; pass --index" in ran.err) == (1, True)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("setting", "changed"),
    [
        ("base_model=other/model", "base_model"),
        ("prompts=brief", "prompts"),
        ("agent.max_searches=2", "agent"),
    ],
)
def test_an_untrained_agent_of_an_earlier_run_is_taken_only_where_it_is_the_recipe_s(
    tmp_path: Path, setting: str, changed: str
) -> None:
    recipe = load_recipe(None, ["base_model=tiny", "agent.max_searches=3"])
    info = BundleInfo(
        protocol_version=PROTOCOL_VERSION, prompts=prompts_of(recipe), agent=recipe.agent, model_version="run/base#1",
        provenance={"base_model": "tiny"},
    )  # fmt: skip
    (tmp_path / BUNDLE_FILE).write_text(info.model_dump_json())
    _start_agent(recipe, tmp_path, "ramp_dapo")
    other = load_recipe(None, ["base_model=tiny", "agent.max_searches=3", setting])
    with pytest.raises(ConfigError, match=f"was made with another {changed} than the recipe has"):
        _start_agent(other, tmp_path, "ramp_dapo")


def test_settings_of_the_agent_that_the_bundle_has_otherwise_are_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made_by = load_recipe(None, ["agent.max_searches=3"])
    info = BundleInfo(
        protocol_version=PROTOCOL_VERSION, prompts=prompts_of(made_by), agent=made_by.agent, model_version="run/base#1"
    )  # fmt: skip
    (tmp_path / BUNDLE_FILE).write_text(info.model_dump_json())
    _note_kept_settings(load_recipe(None, ["agent.max_repairs=2"]), tmp_path)
    assert capsys.readouterr().err == ""
    _note_kept_settings(load_recipe(None, ["agent.max_searches=2", "agent.max_repairs=2"]), tmp_path)
    assert capsys.readouterr().err.endswith("not the recipe: agent.max_searches (3)\n")


@pytest.mark.parametrize("command", ["sft --traces traces.sqlite", "dapo --tasks tasks.jsonl"])
def test_a_tracker_that_is_not_installed_is_told_before_anything_is_read(
    run: CommandLine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    pytest.importorskip("trl")
    monkeypatch.setitem(sys.modules, "wandb", None)
    ran = run(*command.split(), "--out", "out", "--set", "report_to=wandb")
    assert ran.code == 1
    assert "pip install 'masksearch-agent[wandb]'" in " ".join(ran.err.split())
    assert list(tmp_path.iterdir()) == []
