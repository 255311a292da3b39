from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")
pytest.importorskip("trl")

TESTS = Path(__file__).parents[1]
TIMES = {"step_time", "train_runtime", "epoch"}


@pytest.fixture(scope="module")
def reports(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """Train with one process and with two; return the reports of the one, the first and the second."""
    alone, together = (tmp_path_factory.mktemp(name) for name in ("alone", "together"))
    script = str(TESTS / "integration" / "dapo_rank.py")
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", script]
    paths = os.pathsep.join([str(TESTS), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    for command, directory in (([sys.executable, script], alone), (launch, together)):
        finished = subprocess.run(
            [*command, str(directory)], env=environment, capture_output=True, text=True, timeout=300
        )
        assert finished.returncode == 0, finished.stderr[-3000:]
        # Threads of a group that is still open when the interpreter ends can abort the process.
        assert {file.read_text() for file in directory.glob("left-*.txt")} == {"nothing"}
    files = (alone / "rank-0.json", together / "rank-0.json", together / "rank-1.json")
    return [json.loads(file.read_text()) for file in files]


@pytest.mark.slow
def test_ranks_with_unequal_luck_stay_in_step(reports: list[dict[str, Any]]) -> None:
    _, first, second = (report["by_rank"] for report in reports)
    assert first["ranks"] == 2
    assert first["weights"] == second["weights"]
    assert first["curriculum"] == second["curriculum"]
    # Both roll out as often, under the same seeds, and share each batch.
    assert [seed for seed, _ in first["asked"]] == [seed for seed, _ in second["asked"]]
    for (_, mine), (_, theirs) in zip(first["asked"], second["asked"], strict=True):
        assert len(mine) - len(theirs) in (0, 1)
    # What the second rank lacks, the first one's refills make up for.
    assert [entry["dapo/groups_missing"] for entry in first["logged"]] == [0, 0, 0]
    assert all(entry["dapo/rollout_batches"] > 1 for entry in first["logged"])


@pytest.mark.slow
def test_two_processes_train_like_one(reports: list[dict[str, Any]]) -> None:
    alone, first, second = (report["by_task"] for report in reports)
    assert (alone["ranks"], first["ranks"]) == (1, 2)
    assert first["weights"] == second["weights"]
    assert alone["curriculum"] == first["curriculum"] == second["curriculum"]
    for (seed, names), mine, theirs in zip(alone["asked"], first["asked"], second["asked"], strict=True):
        assert [mine, theirs] == [[seed, names[0::2]], [seed, names[1::2]]]
    assert alone["curriculum"]["stage"] == 1
    assert any(entry["dapo/groups_missing"] > 0 for entry in alone["logged"])
    assert any(entry["dapo/rollout_batches"] > 1 for entry in alone["logged"])
    for one, two in zip(alone["logged"], first["logged"], strict=True):
        assert abs(one["loss"]) > 1e-2
        assert one.keys() == two.keys()
        for name in one.keys() - TIMES:
            assert two[name] == pytest.approx(one[name], abs=1e-4), name
    # One of them writes the metrics; the last entry sums the run up.
    assert first["written"] == [1, 2, 3, 3]
    assert first["weights"] == pytest.approx(alone["weights"], abs=1e-2)
