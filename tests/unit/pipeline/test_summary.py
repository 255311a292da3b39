from __future__ import annotations

import copy

from fakes.run_report import run_report

from masksearch_agent.pipeline.summary import summarise_runs


def test_several_runs_begin_with_their_mean() -> None:
    first = run_report() | {"wall_seconds": 60.0, "peak_memory_gb": 1.0, "retrieval": {}}
    second = copy.deepcopy(first) | {"seed": 8}
    second["evals"]["final"]["ramp"]["recall"] = first["evals"]["final"]["ramp"]["recall"] + 0.1
    page = summarise_runs([first, second])
    mean, one, _ = page.split("## Seed ")
    assert "## Mean of 2 seeds" in mean
    assert "| final | **0.76** | **0.62** |" in mean
    assert "| final | **0.71 ± 0.06** | **0.62 ± 0.09** |" in one


def test_one_run_has_no_mean() -> None:
    report = run_report() | {"wall_seconds": 60.0, "peak_memory_gb": 1.0, "retrieval": {}}
    assert "Mean" not in summarise_runs([report])
