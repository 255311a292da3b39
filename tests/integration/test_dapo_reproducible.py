from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")
pytest.importorskip("trl")
pytest.importorskip("tantivy")

TESTS = Path(__file__).parents[1]
TIMES = ("train_runtime", "_per_second", "step_time", "seconds")


def metrics_of(run: Path) -> list[dict[str, Any]]:
    """Return what was logged, but for how long it took."""
    entries = map(json.loads, (run / "metrics.jsonl").read_text().splitlines())
    return [{key: value for key, value in e.items() if not key.endswith(TIMES)} for e in entries]


@pytest.mark.slow
def test_runs_of_one_seed_end_bit_equal_through_the_command_line_killed_or_not(tmp_path: Path) -> None:
    """Searches take another time in each run, so rollouts come back in another order; one run is killed three times."""
    paths = os.pathsep.join([str(TESTS), os.environ.get("PYTHONPATH", "")])
    finished = subprocess.run(
        [sys.executable, str(TESTS / "integration" / "dapo_reproducible.py"), str(tmp_path)],
        env={**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert finished.returncode == 0, finished.stderr[-3000:]
    killed = -signal.SIGKILL
    assert json.loads((tmp_path / "exits.json").read_text()) == [0, 0, killed, killed, killed, 0]

    start, *trained = [
        (tmp_path / run / "model.safetensors").read_bytes() for run in ("agent", "one", "other", "killed")
    ]
    assert len(set(trained)) == 1
    assert start != trained[0]

    one, other, killed_one = (metrics_of(tmp_path / run) for run in ("one", "other", "killed"))
    losses = [entry["loss"] for entry in one if "loss" in entry]
    assert len(set(losses)) == len(losses) == 5
    assert one == other
    # The last entry sums up a process's own steps, of which the killed run's last one took fewer.
    assert one[:-1] == killed_one[:-1]
