"""Self-evolution on a closed world as small as it can be, killed in the middle of its rounds."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

pytest.importorskip("torch")
pytest.importorskip("trl")
pytest.importorskip("bm25s")

from masksearch_agent.agent.bundle import read_bundle_info
from masksearch_agent.errors import TaskError
from masksearch_agent.evaluation.results import read_results
from masksearch_agent.jsonl import read_jsonl
from masksearch_agent.records import SearchTask
from masksearch_agent.traces.store import TraceStore

TESTS = Path(__file__).parents[1]


def start(run: Path) -> subprocess.Popen[str]:
    paths = os.pathsep.join([str(TESTS), os.environ.get("PYTHONPATH", "")])
    return subprocess.Popen(
        [sys.executable, str(TESTS / "integration" / "evolution_run.py"), str(run)],
        env={**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


def kill_when(run: Path, is_time: Callable[[Path], bool]) -> int:
    process = start(run)
    try:
        while process.poll() is None and not is_time(run):
            time.sleep(0.002)
    finally:
        process.kill()
    process.communicate()
    return process.returncode


def attempts_in(run: Path, stage: str) -> int:
    store = run / "traces.sqlite"
    if not store.is_file():
        return 0
    with sqlite3.connect(f"file:{store}?mode=ro", uri=True, timeout=5) as connection:
        counted: int = connection.execute(
            "SELECT count(*) FROM outcomes WHERE stage = ?", [stage]
        ).fetchone()[0]
    return counted


def tasks_of(run: Path, name: str) -> list[str]:
    return [task.id for task in read_jsonl(run / "tasks" / f"{name}.jsonl", SearchTask, TaskError)]


@pytest.mark.slow
def test_a_run_killed_in_its_rounds_goes_on_there_and_doubles_nothing(tmp_path: Path) -> None:
    run = tmp_path / "run"
    moments: tuple[tuple[str, Callable[[Path], bool]], ...] = (
        ("round_1_train", lambda run: any((run / "rounds/1/student/trainer").glob("checkpoint-*"))),
        ("round_2_generate", lambda run: attempts_in(run, "round-2") > 2),
        ("round_2_evaluate", lambda run: (run / "rounds/2/validation.jsonl").is_file()),
    )
    for step, is_time in moments:
        assert kill_when(run, is_time) == -signal.SIGKILL
        done = [stage["name"] for stage in json.loads((run / "stages.json").read_text())["stages"]]
        assert step not in done, f"{step} was over before it could be killed"
    last = start(run)
    _, errors = last.communicate(timeout=300)
    assert last.returncode == 0, errors[-3000:]

    report = json.loads((run / "report.json").read_text())
    assert [entry["round"] for entry in report["rounds"]] == [1, 2, 3]
    assert report["stop_reason"] == "max_rounds"
    assert [stage["name"] for stage in report["stages"]] == [
        *("world", "index", "tasks", "base"),
        *(f"round_{number}_{step}" for number in (1, 2, 3) for step in ("generate", "train", "evaluate")),
        "agent",
    ]
    rounds = [tasks_of(run, f"round-{number}") for number in (1, 2, 3)]
    used = [
        task_id
        for tasks in (*rounds, tasks_of(run, "validation"), tasks_of(run, "test"))
        for task_id in tasks
    ]
    assert len(used) == len(set(used)) == 12 + 10 + 10 + 3 + 5

    with TraceStore(run / "traces.sqlite") as store:
        expected: set[str] = set()
        for number, tasks in enumerate(rounds, start=1):
            attempts = list(store.trajectories(f"round-{number}"))
            assert {attempt.task_id for attempt in attempts} == set(tasks)
            if number > 1:
                assert {attempt.producer.split("#")[0] for attempt in attempts} == {f"run/round_{number - 1}"}
                seeds = sorted((attempt.task_id, attempt.seed) for attempt in attempts)
                assert len(seeds) == len(set(seeds))
                assert max(Counter(attempt.task_id for attempt in attempts).values()) == 2
            expected |= {attempt.id for attempt in attempts if attempt.accepted}
            merged = [trajectory.id for trajectory in store.trajectories(f"train-{number}")]
            assert sorted(merged) == sorted(expected)
            entry = report["rounds"][number - 1]
            assert (entry["trained_on"], entry["steps"], entry["samples"]) == (len(merged), 3, len(attempts))

    for number in (1, 2, 3):
        for name in ("validation", "test"):
            results = read_results(run / f"rounds/{number}/{name}.jsonl")
            assert sorted(result.task_id for result in results) == sorted(tasks_of(run, name))
    best = read_bundle_info(run / "agent")
    assert [stage["stage"] for stage in best.provenance["stages"]] == [f"round_{report['best_round']}"]
    assert (run / "agent" / best.index).resolve() == (run / "index").resolve()
    assert "| round | taught by |" in (run / "report.md").read_text()
    assert (run / "evolution.svg").read_text().startswith("<svg ")
