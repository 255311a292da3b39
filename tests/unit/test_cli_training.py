from __future__ import annotations

import sys
from pathlib import Path

import pytest
from fakes.command_line import CommandLine
from fakes.overlap_backend import OverlapBackend
from fakes.passages import make_passages

from masksearch_agent.cli.training import _examine
from masksearch_agent.config.trainers import MonitorSettings, SFTSettings
from masksearch_agent.jsonl import write_jsonl
from masksearch_agent.records import SearchTask
from masksearch_agent.retrieval.search import Search

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


def test_an_agent_that_several_processes_start_from_is_made_by_one(
    run: CommandLine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("trl")
    write_jsonl(tmp_path / "tasks.jsonl", [TASK])
    monkeypatch.setenv("WORLD_SIZE", "2")
    ran = run("dapo", "--tasks", "tasks.jsonl", "--index", "http://127.0.0.1:9", "--out", "out")
    assert ran.code == 1
    assert "several processes cannot make out/base together" in ran.err
    assert "`--set ramp_dapo.max_steps=1`" in " ".join(ran.err.split())
    assert not (tmp_path / "out").exists()


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
