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
pytest.importorskip("tantivy")

from fakes.run_folders import finished_stages

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


def attempts_in(run: Path, number: int) -> int:
    store = store_of(run, number)
    if not store.is_file():
        return 0
    with sqlite3.connect(f"file:{store}?mode=ro", uri=True, timeout=5) as connection:
        try:
            [counted] = connection.execute(
                "SELECT count(*) FROM outcomes WHERE stage = ?", [f"round-{number}"]
            ).fetchone()
        except sqlite3.OperationalError:  # its tables are not made yet
            return 0
    return int(counted)


def tasks_of(run: Path, name: str) -> list[str]:
    return [task.id for task in read_jsonl(run / "split" / f"{name}.jsonl", SearchTask, TaskError)]


def store_of(run: Path, number: int) -> Path:
    return run / "trajectories" / f"round_{number}" / "traces.sqlite"


@pytest.mark.slow
def test_a_run_killed_in_its_rounds_goes_on_there_and_doubles_nothing(tmp_path: Path) -> None:
    run = tmp_path / "run"
    moments: tuple[tuple[str, Callable[[Path], bool]], ...] = (
        ("round_1", lambda run: any((run / "round_1/trainer").glob("checkpoint-*"))),
        ("trajectories/round_2", lambda run: attempts_in(run, 2) > 2),
        ("evals/round_2", lambda run: (run / "evals/round_2/validation.jsonl").is_file()),
    )
    for step, is_time in moments:
        assert kill_when(run, is_time) == -signal.SIGKILL
        assert step not in finished_stages(run), f"{step} was over before it could be killed"
    last = start(run)
    _, errors = last.communicate(timeout=300)
    assert last.returncode == 0, errors[-3000:]

    report = json.loads((run / "report.json").read_text())
    assert [entry["number"] for entry in report["rounds"]] == [1, 2, 3]
    assert report["stop_reason"] == "max_rounds"
    done = [stage["name"] for stage in report["stages"]]
    assert sorted(done[:7]) == sorted(
        ("world", "index", "tasks", "held_out_tasks", "split", "trajectories/round_1", "base")
    )
    assert done[7:] == [
        *("round_1", "evals/round_1"),
        *(f"{step}round_{number}" for number in (2, 3) for step in ("trajectories/", "", "evals/")),
    ]
    pool = tasks_of(run, "pool")
    rounds = [pool[:12], pool[12:22], pool[22:32]]
    used = [
        task_id
        for tasks in (*rounds, tasks_of(run, "validation"), tasks_of(run, "test"))
        for task_id in tasks
    ]
    assert len(used) == len(set(used)) == 12 + 10 + 10 + 3 + 5

    expected: set[str] = set()
    for number, tasks in enumerate(rounds, start=1):
        with TraceStore(store_of(run, number)) as store:
            attempts = list(store.trajectories(f"round-{number}"))
        assert {attempt.task_id for attempt in attempts} == set(tasks)
        if number > 1:
            [student] = {attempt.producer.split("#")[0] for attempt in attempts}
            assert student.endswith(f"/round_{number - 1}")
            seeds = sorted((attempt.task_id, attempt.seed) for attempt in attempts)
            assert len(seeds) == len(set(seeds))
            assert max(Counter(attempt.task_id for attempt in attempts).values()) == 2
        expected |= {attempt.id for attempt in attempts if attempt.accepted}
        entry = report["rounds"][number - 1]
        assert (entry["trained_on"], entry["steps"], entry["samples"]) == (len(expected), 3, len(attempts))

    for number in (1, 2, 3):
        for name in ("validation", "test"):
            results = read_results(run / f"evals/round_{number}/{name}.jsonl")
            assert sorted(result.task_id for result in results) == sorted(tasks_of(run, name))
    best = read_bundle_info(run / "agent")
    assert [stage["stage"] for stage in best.provenance["stages"]] == [f"round_{report['best_round']}"]
    assert (run / "agent" / best.index).resolve() == (run / "index").resolve()
    assert "| round | taught by |" in (run / "report.md").read_text()
    assert (run / "evolution.svg").read_text().startswith("<svg")
