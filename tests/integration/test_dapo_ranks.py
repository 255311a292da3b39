from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("torch")
pytest.importorskip("trl")

TESTS = Path(__file__).parents[1]


@pytest.mark.slow
def test_ranks_with_unequal_luck_stay_in_step(tmp_path: Path) -> None:
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    finished = subprocess.run(
        [*launch, str(TESTS / "integration" / "dapo_rank.py"), str(tmp_path)],
        env={**os.environ, "PYTHONPATH": str(TESTS), "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert finished.returncode == 0, finished.stderr[-3000:]
    first, second = (json.loads((tmp_path / f"rank-{rank}.json").read_text()) for rank in (0, 1))
    assert first["ranks"] == 2
    assert first["weights"] == second["weights"]
    # Both roll out twice a step, because one of them lacks groups; no two rollouts of the run share a seed.
    seeds = [[seed for seed, _ in report["asked"]] for report in (first, second)]
    assert seeds == [[2, 4, 2002, 2004], [3, 5, 2003, 2005]]
    # Each step gives every rank other tasks: as many are drawn as all ranks take.
    for step in (0, 2):
        drawn = [name for report in (first, second) for name in report["asked"][step][1]]
        assert len(set(drawn)) == 4
