from __future__ import annotations

import itertools
import sqlite3
import subprocess
import sys
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from masksearch_agent.errors import TraceError
from masksearch_agent.jsonl import read_jsonl, write_jsonl
from masksearch_agent.records import Message, Passage, Sampling, Trajectory, Turn
from masksearch_agent.traces.store import TraceStore


def trajectory(number: int, **changes: object) -> Trajectory:
    turn = Turn(
        id=f"turn-{number}",
        parent_id=None,
        role="policy",
        context=(Message("user", f"Question {number}?"),),
        text="<think></think><answer>é\ud800</answer>",
        context_ids=(1, 2),
        sampled_ids=(3, 4),
        logprobs=(-0.1, float("-inf")),
        sampling=Sampling(temperature=0.7, stop=("</answer>",)),
    )
    plain = Trajectory(
        id=f"id-{number}",
        task_id=f"task-{number}",
        turns=(turn,),
        answer="é",
        stop_reason="answered",
        retrieved=((Passage("p", "Title", "Text."),),),
        queries=(("a", "b"),),
    )
    return replace(plain, **changes)  # type: ignore[arg-type]


@pytest.fixture
def store_path(tmp_path: Path) -> Path:
    return tmp_path / "new" / "traces.db"


def test_trajectory_comes_back_as_it_was(store_path: Path) -> None:
    with TraceStore(store_path) as store:
        assert store.add(trajectory(1)) is True
        assert store.get("id-1") == trajectory(1)
        assert store.get("id-2") is None


def test_stored_trajectories_survive_reopening(store_path: Path) -> None:
    with TraceStore(store_path) as store:
        store.add_many(trajectory(n) for n in range(3))
    with TraceStore(store_path) as store:
        assert list(store.trajectories()) == [trajectory(n) for n in range(3)]


def test_second_copy_is_not_stored(store_path: Path) -> None:
    with TraceStore(store_path) as store:
        assert store.add(trajectory(1, verdict="first")) is True
        assert store.add(trajectory(1, verdict="second")) is False
        assert store.add_many([trajectory(1), trajectory(2), trajectory(2)]) == 1
        assert [t.verdict for t in store.trajectories()] == ["first", ""]


def test_trajectory_of_two_stages_counts_in_both_but_is_stored_once(store_path: Path) -> None:
    with TraceStore(store_path) as store:
        assert store.add(trajectory(1), stage="round-1") is True
        assert store.add(trajectory(1), stage="round-2") is False
        assert store.count("round-1") == store.count("round-2") == store.count() == 1
        assert store.finished_task_ids("round-2") == {"task-1"}


def test_filters_select_stage_and_verdict(store_path: Path) -> None:
    with TraceStore(store_path) as store:
        store.add(trajectory(1, accepted=True), "a")
        store.add(trajectory(2, accepted=False, verdict="wrong answer"), "a")
        store.add(trajectory(3, accepted=False, verdict="ungrounded"), "b")
        store.add(trajectory(4), "a")
        store.add(trajectory(5, accepted=False, verdict="wrong answer"), "a")

        def ids(
            stage: str | None = None, accepted: bool | None = None, limit: int | None = None
        ) -> list[str]:
            return [t.id[-1] for t in store.trajectories(stage, accepted, limit)]

        assert ids() == ["1", "2", "3", "4", "5"]
        assert ids("a") == ["1", "2", "4", "5"]
        assert ids(accepted=False) == ["2", "3", "5"]
        assert ids("a", True) == ["1"]
        assert ids("a", limit=2) == ["1", "2"]
        assert ids(limit=0) == []
        assert (store.count(), store.count("a", False), store.count("none")) == (5, 2, 0)
        assert store.reasons() == Counter({"wrong answer": 2, "ungrounded": 1})
        assert store.reasons("b") == Counter({"ungrounded": 1})
        assert store.finished_task_ids("a") == {"task-1", "task-2", "task-4", "task-5"}
        assert store.finished_task_ids("none") == set()


def test_a_failure_is_kept_until_its_task_has_a_trajectory_in_the_stage(store_path: Path) -> None:
    with TraceStore(store_path) as store:
        assert store.failures("a") == {}
        store.add_failures({"task-1": "too long", "task-2": "x"}, "a")
        store.add_failures({"task-2": "later"}, "a")
        store.add(trajectory(1), "b")
        assert store.failures("a") == {"task-1": "too long", "task-2": "later"}
        store.add(trajectory(1), "a")
    with TraceStore(store_path) as store:
        assert (store.failures("a"), store.failures("b")) == ({"task-2": "later"}, {})
        assert store.finished_task_ids("a") == {"task-1"}


def test_long_stores_are_read_in_order_across_pages(store_path: Path) -> None:
    with TraceStore(store_path) as store:
        store.add_many(trajectory(n) for n in range(150))
        assert [t.id for t in store.trajectories()] == [f"id-{n}" for n in range(150)]
        assert [t.id for t in store.trajectories(limit=130)] == [f"id-{n}" for n in range(130)]


def test_adding_while_reading_ends(store_path: Path) -> None:
    with TraceStore(store_path) as store:
        store.add_many(trajectory(n) for n in range(3))
        for number, _ in enumerate(store.trajectories()):
            store.add(trajectory(100 + number))
        assert store.count() == 6


def test_failed_batch_leaves_nothing(store_path: Path) -> None:
    with TraceStore(store_path) as store:
        not_utf8 = trajectory(2, task_id="\ud800")
        with pytest.raises(UnicodeEncodeError):
            store.add_many([trajectory(1), not_utf8])
        assert store.count() == 0
        assert store.add(trajectory(1)) is True


def test_threads_share_a_store(store_path: Path) -> None:
    start = threading.Barrier(2)

    def fill(store: TraceStore, numbers: range) -> int:
        start.wait()
        return sum(store.add(trajectory(n)) for n in numbers)

    with TraceStore(store_path) as store, ThreadPoolExecutor(2) as pool:
        first = pool.submit(fill, store, range(0, 60))
        second = pool.submit(fill, store, range(30, 90))
        assert first.result() + second.result() == 90
        assert sorted(t.id for t in store.trajectories()) == sorted(f"id-{n}" for n in range(90))


def test_simultaneous_openers_create_one_store(tmp_path: Path) -> None:
    openers, files = 4, 20
    together = threading.Barrier(openers)

    def open_all(opener: int) -> None:
        for number in range(files):
            together.wait(timeout=20)
            with TraceStore(tmp_path / f"{number}.db") as store:
                store.add(trajectory(opener))

    with ThreadPoolExecutor(openers) as pool:
        for opened in [pool.submit(open_all, opener) for opener in range(openers)]:
            opened.result()
    for number in range(files):
        with TraceStore(tmp_path / f"{number}.db") as store:
            assert store.count() == openers


WRITER = """
import sys
from pathlib import Path
from masksearch_agent.records import Message, Trajectory, Turn
from masksearch_agent.traces.store import TraceStore

prefix = sys.argv[2]
with TraceStore(Path(sys.argv[1])) as store:
    for number in range(int(sys.argv[3])):
        turn = Turn(f"t{number}", None, "policy", (Message("user", "q"),), "x" * 20_000)
        if store.add(Trajectory(f"{prefix}{number}", "task", (turn,), "a", "answered")):
            print(f"{prefix}{number}", flush=True)
"""


def start_writer(path: Path, prefix: str, count: int) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", WRITER, str(path), prefix, str(count)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def test_killed_writer_loses_nothing_it_acknowledged(store_path: Path) -> None:
    acknowledged: list[str] = []
    for seen_before_kill in (1, 20, 55):
        writer = start_writer(store_path, "n", 1_000_000)
        assert writer.stdout is not None
        for _ in range(seen_before_kill):
            acknowledged.append(writer.stdout.readline().strip())
        writer.kill()
        acknowledged += writer.stdout.read().split()
        assert writer.wait() == -9
    with TraceStore(store_path) as store:
        stored = [t.id for t in store.trajectories()]
    assert len(acknowledged) >= 76
    assert set(acknowledged) <= set(stored)
    assert len(stored) == len(set(stored)) <= len(acknowledged) + 3


def test_processes_share_a_new_file(store_path: Path) -> None:
    writers = [start_writer(store_path, prefix, 40) for prefix in "abc"]
    outputs = [writer.communicate()[0].split() for writer in writers]
    assert [writer.returncode for writer in writers] == [0, 0, 0]
    with TraceStore(store_path) as store:
        assert sorted(t.id for t in store.trajectories()) == sorted(itertools.chain(*outputs))
        assert store.count() == 120


def test_file_of_another_kind_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("these are my notes\n" * 100)
    with pytest.raises(TraceError, match=r"notes\.txt is damaged or no trace store .*move it away"):
        TraceStore(path)
    assert path.read_text() == "these are my notes\n" * 100
    assert [p.name for p in tmp_path.iterdir()] == ["notes.txt"]


def test_other_database_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "other.db"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE recipes (name TEXT)")
        connection.execute("PRAGMA user_version = 1")
    connection.close()
    before = path.read_bytes()
    with pytest.raises(TraceError, match=r"other\.db is a SQLite file but no trace store"):
        TraceStore(path)
    assert path.read_bytes() == before


def test_store_of_another_version_is_refused_and_left_alone(store_path: Path) -> None:
    with TraceStore(store_path) as store:
        store.add(trajectory(1))
        store._connection.execute("PRAGMA user_version = 99")
    before = store_path.read_bytes()
    with pytest.raises(TraceError, match=r"version 99, this release reads 1; export it with the release"):
        TraceStore(store_path)
    assert store_path.read_bytes() == before


def test_damaged_page_is_reported_with_the_file(store_path: Path) -> None:
    with TraceStore(store_path) as store:
        store.add_many(trajectory(n) for n in range(100))
    content = bytearray(store_path.read_bytes())
    content[4096:] = b"\xff" * (len(content) - 4096)
    store_path.write_bytes(content)
    with pytest.raises(TraceError, match=r"traces\.db is damaged"), TraceStore(store_path) as store:
        list(store.trajectories())


def test_damaged_payload_is_reported_with_its_id(store_path: Path) -> None:
    with TraceStore(store_path) as store:
        store.add(trajectory(1))
        with store._connection:
            store._connection.execute("UPDATE trajectories SET payload = x'00ff'")
        with pytest.raises(TraceError, match=r"traces\.db: trajectory 'id-1' is damaged"):
            store.get("id-1")


def test_closed_store_says_so(store_path: Path) -> None:
    store = TraceStore(store_path)
    store.close()
    store.close()
    with pytest.raises(TraceError, match="closed database"):
        store.count()


def test_folder_in_place_of_a_file_is_reported(tmp_path: Path) -> None:
    with pytest.raises(TraceError, match=r"can't be used: unable to open database file"):
        TraceStore(tmp_path)


def test_trajectories_written_as_json_lines_read_back(store_path: Path, tmp_path: Path) -> None:
    clean = [replace(trajectory(n), turns=(), accepted=n != 1) for n in range(3)]
    with TraceStore(store_path) as store:
        store.add_many(clean, "a")
        assert write_jsonl(tmp_path / "out.jsonl", store.trajectories("a", accepted=True)) == 2
    assert list(read_jsonl(tmp_path / "out.jsonl", Trajectory, TraceError)) == [clean[0], clean[2]]
