"""All comparisons on a closed world as small as it can be, killed on the way."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import get_args
from xml.etree import ElementTree

import pytest

pytest.importorskip("torch")
pytest.importorskip("trl")
pytest.importorskip("tantivy")

from fakes.command_line import CommandLine
from fakes.run_folders import finished_stages
from integration.evolution_run import CoinJudge

from masksearch_agent.generator.casting import cast_roles
from masksearch_agent.lab.ablation_claims import Verdict
from masksearch_agent.lab.recipe import EXPERIMENTS
from masksearch_agent.stages import trajectories

SFT = "{max_steps: 1, batch_size: 2}"
DAPO = "max_steps: 1, prompts_per_step: 2, group_size: 2, row_batch_size: 4, max_resampling: 1"
SETTINGS = (
    "world.train_entities=40",
    "world.test_entities=20",
    "world.train_questions=[{hops: 2, count: 8}]",
    "world.test_questions=[{hops: 2, count: 2}, {category: comparison, count: 2}]",
    "world.test_ramp_tasks=2",
    "agent={max_searches: 1, max_repairs: 0, max_step_tokens: 8, max_sampled_tokens: 16}",
    f"ramp_sft={SFT}",
    f"ramp_dapo={{{DAPO}, curriculum: [{{max_masks: 1, until: 0.5}}, {{max_masks: 4}}]}}",
    f"qa_sft={SFT}",
    f"qa_dapo={{{DAPO}}}",
    "evolution={max_rounds: 2, teacher_tasks: 4, tasks_per_round: 6, samples_per_task: 1, start_from: student}",
    "evolution.validation_tasks=2",
    "evolution.test_tasks=2",
    f"ablation.warm_start={SFT}",
    f"ablation.evolution_sft={SFT}",
    "evaluation={concurrency: 4, bootstrap_samples: 100}",
)
ARGUMENTS = (
    *("ablate", "--seeds", "0", "--out", "run", "--json"),
    *(part for setting in SETTINGS for part in ("--set", setting)),
)


@pytest.fixture
def run(run: CommandLine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> CommandLine:
    # A student of one step is never right, and a round that accepts nothing is the last.
    monkeypatch.setattr(
        trajectories, "cast_roles", lambda *arguments: (cast_roles(*arguments)[0], CoinJudge())
    )
    return run


def kill_in_training(folder: Path) -> None:
    """Start a run and kill it after its first stage of RL has begun."""
    process = subprocess.Popen(
        [sys.executable, "-m", "masksearch_agent.cli", *ARGUMENTS],
        cwd=folder,
        env={**os.environ, "CUDA_VISIBLE_DEVICES": ""},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    try:
        while process.poll() is None and not list(folder.glob("run/stages/dapo-*/metrics.jsonl")):
            time.sleep(0.005)
    finally:
        process.kill()
    _, errors = process.communicate()
    assert process.returncode == -signal.SIGKILL, errors.decode()[-3000:]


@pytest.mark.slow
def test_a_killed_ablation_goes_on_and_decides_every_claim(run: CommandLine, tmp_path: Path) -> None:
    kill_in_training(tmp_path)
    before = finished_stages(tmp_path / "run" / "stages")
    assert any(name.startswith("sft-") for name in before)

    report = run(*ARGUMENTS).json
    after = finished_stages(tmp_path / "run" / "stages")
    assert {name: after[name] for name in before} == before
    assert json.loads((tmp_path / "run" / "ablation.json").read_text()) == report
    assert [entry["name"] for entry in report["experiments"]] == list(EXPERIMENTS)
    table = {row["arm"]: row for row in report["experiments"][0]["rows"]}
    assert table["Agent-PE"]["tokens"] == 0
    assert table["SFT+SFT"]["tokens"] > table["SFT"]["tokens"] > 0
    assert {claim["verdict"] for claim in report["claims"]} <= set(get_args(Verdict))
    # One step of training answers nothing, which is no evidence against anybody.
    assert report["claims"][0]["verdict"] == "undecided at this scale"
    assert len(report["claims"]) == 14
    rounds = [row["arm"] for row in report["experiments"][-1]["rows"]]
    assert rounds == ["round 1", "round 2", "as many steps on round 1"]
    for plot in ("claims", *EXPERIMENTS):
        ElementTree.parse(tmp_path / "run" / f"ablation-{plot}.svg")

    again = run(*ARGUMENTS).json
    # Memory is that of the processes that looked.
    assert {**again, "peak_memory_gb": report["peak_memory_gb"]} == report
    assert finished_stages(tmp_path / "run" / "stages") == after
