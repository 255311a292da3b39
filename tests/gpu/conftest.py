"""Tests of what a GPU computes. Without one, and without being asked, they run on the CPU: so they are known to run.

`MASKSEARCH_TEST_DEVICE=cuda pytest tests/gpu`; `training/gpu_proof.py` does it first.
"""

from __future__ import annotations

import os

import pytest


@pytest.fixture(scope="session")
def device() -> str:
    """Return where the tests are to compute: `cpu`, or `cuda`, which then has to be there."""
    torch = pytest.importorskip("torch")
    wanted = os.environ.get("MASKSEARCH_TEST_DEVICE", "cuda" if torch.cuda.is_available() else "cpu")
    if wanted == "cuda" and not torch.cuda.is_available():
        pytest.fail("MASKSEARCH_TEST_DEVICE is cuda, but torch sees no GPU")
    if wanted == "cpu" and torch.cuda.is_available():
        pytest.skip("the trainers take the GPU that is here; set CUDA_VISIBLE_DEVICES= to test the CPU")
    return wanted
