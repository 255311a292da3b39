"""Generation through a chat server that misbehaves, in a process that is killed: nothing is lost or doubled."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from types import ModuleType

import pytest
from fakes.chat_server import FAULTS, ChatServer
from fakes.scripts import load_script

from masksearch_agent.traces.store import TraceStore

SCRIPT = Path(__file__).with_name("generation_run.py")


def generation_run() -> ModuleType:
    return load_script(SCRIPT)


def outcomes(path: Path) -> Counter[str]:
    with TraceStore(path) as store:
        return Counter(trajectory.task_id for trajectory in store.trajectories("s"))


def tasks(count: int) -> Counter[str]:
    return Counter(f"task-{number}" for number in range(count))


def test_every_fault_at_once_costs_time_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "traces.sqlite"
    with ChatServer(fault_share=0.25, storm_every=60, storm_length=30, slow_s=4.0, seed=1) as server:
        report = generation_run().run(server.url, path, 60)
    assert {name for name in FAULTS if server.served[name]} == set(FAULTS)
    assert outcomes(path) == tasks(60)
    assert (report.failed, report.accepted + report.rejected) == (0, 60)
    # Only three malformed replies in a row reject a trajectory.
    assert set(report.reasons) <= {
        f"{role} reply malformed: there is no tag" for role in ("planner", "rewriter", "observer", "judge")
    }
    assert report.accepted >= 54
    assert b"sk-test" not in path.read_bytes()


def run_with_kills(tmp_path: Path, kills: int, count: int, latency_s: float, seed: int) -> None:
    path = tmp_path / "traces.sqlite"
    chance = random.Random(seed)
    done_at_kill = []
    server = ChatServer(
        fault_share=0.1, storm_every=400, storm_length=60, latency_s=latency_s, slow_s=4.0, seed=seed
    )
    with server:
        for _ in range(kills):
            process = subprocess.Popen([sys.executable, str(SCRIPT), server.url, str(path), str(count)])
            calls_before, started_s = server.served.total(), time.monotonic()
            while server.served.total() == calls_before and time.monotonic() - started_s < 300:
                assert process.poll() in (None, 0)
                if process.poll() == 0:
                    break
                time.sleep(0.01)
            # A task takes four calls; 32 are in flight.
            time.sleep(chance.uniform(0.0, 4 * latency_s * (1 + 2 * count / 32 / kills)))
            process.kill()
            process.wait()
            done_at_kill.append(outcomes(path).total())
        subprocess.run([sys.executable, str(SCRIPT), server.url, str(path), str(count)], check=True)
    assert outcomes(path) == tasks(count)
    # The kills fell into the run, not before or after it, and each start went on where the last one was.
    assert any(0 < done < count for done in done_at_kill)
    assert done_at_kill == sorted(done_at_kill)


def test_a_run_killed_three_times_ends_with_one_outcome_a_task(tmp_path: Path) -> None:
    run_with_kills(tmp_path, kills=3, count=100, latency_s=0.15, seed=2)


@pytest.mark.slow
def test_a_run_killed_twenty_times_ends_with_one_outcome_a_task(tmp_path: Path) -> None:
    run_with_kills(tmp_path, kills=20, count=500, latency_s=0.15, seed=3)
