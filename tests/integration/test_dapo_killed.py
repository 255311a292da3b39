from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("trl")

from safetensors.torch import load_file  # noqa: E402

TESTS = Path(__file__).parents[1]


def read(path: Path) -> list[Any]:
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.mark.slow
def test_a_run_killed_twice_logs_the_losses_of_one_that_was_not(tmp_path: Path) -> None:
    """Killed in the middle of the fourth step, between two checkpoints, and right after the second checkpoint."""
    paths = os.pathsep.join([str(TESTS), os.environ.get("PYTHONPATH", "")])
    finished = subprocess.run(
        [sys.executable, str(TESTS / "integration" / "dapo_killed.py"), str(tmp_path)],
        env={**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
        timeout=400,
    )
    assert finished.returncode == 0, finished.stderr[-3000:]
    killed = -signal.SIGKILL
    assert json.loads((tmp_path / "exits.json").read_text()) == [0, killed, killed, 0]

    whole, cut = (
        [e for e in read(tmp_path / run / "metrics.jsonl") if "loss" in e] for run in ("whole", "cut")
    )
    assert [entry["step"] for entry in whole] == [entry["step"] for entry in cut] == [1, 2, 3, 4, 5, 6]
    for one, other in zip(whole, cut, strict=True):
        for name in (
            "loss",
            "grad_norm",
            "learning_rate",
            "rewards/total",
            "entropy",
            "curriculum/max_masks",
        ):
            assert other[name] == pytest.approx(one[name], abs=1e-6), f"{name} of step {one['step']}"
    assert len({entry["loss"] for entry in whole}) == 6
    assert {entry["curriculum/max_masks"] for entry in whole} == {1, 2}
    assert max(entry["dapo/rollout_batches"] for entry in whole) == 2

    weights = [
        load_file(tmp_path / run / "trainer" / "checkpoint-6" / "model.safetensors")
        for run in ("whole", "cut")
    ]
    torch.testing.assert_close(*weights, atol=1e-6, rtol=0)

    # The same tasks with the same seeds gave the same trajectories, those that were rolled out again included.
    straight, twice = (read(tmp_path / run / "rollouts.jsonl") for run in ("whole", "cut"))
    assert len(twice) > len(straight)
    by_seed = {seed: [tasks, trajectories] for seed, tasks, trajectories in straight}
    assert all(by_seed[seed] == [tasks, trajectories] for seed, tasks, trajectories in twice)
    assert {seed for seed, _, _ in twice} == set(by_seed)
