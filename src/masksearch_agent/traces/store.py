"""The trace store: every finished trajectory, kept for good in one SQLite file.

Idea: a trajectory costs seconds to minutes of model time, so it is committed the moment it is finished.
Rejected trajectories are kept too, with the reason. A trajectory is stored once, under its content id,
however many stages (a generation round, a training) it takes part in.

Invariant: what `add` or `add_many` returned for is on disk, whole, once. The write-ahead log with
`synchronous=FULL` holds this when the process is killed and when the power fails, for half a millisecond a
commit.
"""

from __future__ import annotations

import json
import sqlite3
import sys
import threading
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple, Self

from masksearch_agent.errors import TraceError
from masksearch_agent.jsonl import dump_record, load_record
from masksearch_agent.records import Trajectory

__all__ = ("PackedTrajectory", "TraceStore", "pack_trajectory")

_SCHEMA_VERSION = 1
"""Raised when a store of an older release can't be read any more."""

_APPLICATION_ID = 0x4D534B54  # "MSKT": tells a trace store from any other SQLite file
_SCHEMA = (
    """CREATE TABLE trajectories (
        position INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, task_id TEXT NOT NULL,
        accepted INTEGER, verdict TEXT NOT NULL, payload BLOB NOT NULL) STRICT""",
    "CREATE INDEX verdicts ON trajectories (accepted, verdict)",
    """CREATE TABLE outcomes (
        stage TEXT NOT NULL, task_id TEXT NOT NULL, position INTEGER NOT NULL REFERENCES trajectories,
        PRIMARY KEY (stage, task_id, position)) STRICT, WITHOUT ROWID""",
    f"PRAGMA application_id = {_APPLICATION_ID}",
    f"PRAGMA user_version = {_SCHEMA_VERSION}",
)
_FAILURES = """CREATE TABLE IF NOT EXISTS failures (
    stage TEXT NOT NULL, task_id TEXT NOT NULL, reason TEXT NOT NULL,
    PRIMARY KEY (stage, task_id)) STRICT, WITHOUT ROWID"""
"""Made with the first failure, so that stores of earlier releases take some too."""
_ADD_TRAJECTORY = """INSERT INTO trajectories (id, task_id, accepted, verdict, payload)
    VALUES (?, ?, ?, ?, ?) ON CONFLICT (id) DO NOTHING"""
_JOIN_STAGE = """INSERT INTO outcomes SELECT ?, task_id, position FROM trajectories
    WHERE id = ? ON CONFLICT DO NOTHING"""
_PAGE_SIZE = 64
_LOCK_TIMEOUT_S = 60.0


class PackedTrajectory(NamedTuple):
    """A trajectory as a store keeps it. Packing takes longer than storing, so workers do it for the driver."""

    id: str
    task_id: str
    accepted: bool | None
    verdict: str
    payload: bytes


class TraceStore:
    """A SQLite file of trajectories. Threads may share one store; processes may share one file.

    Filters mean the same everywhere: `stage` takes the trajectories of one stage (None: of all), `accepted`
    those with that verdict (None: all, judged or not).

    A file that does not exist is created, with its folders.

    Raises:
        TraceError: The file is no trace store, was written by another release, or is damaged; it is left as it was.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.RLock()
        with self._errors_named():
            path.parent.mkdir(parents=True, exist_ok=True)
            # Threads take turns at one connection; IMMEDIATE makes concurrent processes wait, not fail.
            self._connection = sqlite3.connect(
                path, timeout=_LOCK_TIMEOUT_S, isolation_level="IMMEDIATE", check_same_thread=False
            )
        try:
            with self._errors_named():
                self._open()
        except BaseException:
            self._connection.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file. Closing twice is fine; using a closed store raises `TraceError`."""
        with self._lock:
            self._connection.close()

    def add(self, trajectory: Trajectory, stage: str = "") -> bool:
        """Store a finished trajectory of a stage for good; return whether its id is new.

        One whose id was there already only joins the stage, and what was stored stays.
        """
        return self.add_many([trajectory], stage) == 1

    def add_many(self, trajectories: Iterable[Trajectory], stage: str = "") -> int:
        """Store trajectories in one transaction, all of them or none; return how many were not there yet."""
        return self.add_packed(map(pack_trajectory, trajectories), stage)

    def add_packed(self, trajectories: Iterable[PackedTrajectory], stage: str = "") -> int:
        """Do what `add_many` does with trajectories that were packed elsewhere."""
        rows = list(trajectories)
        added = 0
        with self._errors_named(), self._connection:
            for row in rows:
                added += self._connection.execute(_ADD_TRAJECTORY, row).rowcount
                self._connection.execute(_JOIN_STAGE, (stage, row.id))
        return added

    def add_failures(self, reasons: Mapping[str, str], stage: str = "") -> None:
        """Store why tasks of a stage failed, in one transaction; a later reason takes the place of an earlier one."""
        with self._errors_named(), self._connection:
            self._connection.execute(_FAILURES)
            rows = [(stage, task_id, reason) for task_id, reason in reasons.items()]
            self._connection.executemany("INSERT OR REPLACE INTO failures VALUES (?, ?, ?)", rows)

    def failures(self, stage: str) -> dict[str, str]:
        """Return why tasks of a stage failed that have no trajectory there, by their ids."""
        if not self._read("SELECT 1 FROM sqlite_master WHERE name = 'failures'", []):
            return {}
        query = (
            "SELECT task_id, reason FROM failures WHERE stage = ? "
            "AND task_id NOT IN (SELECT task_id FROM outcomes WHERE stage = ?)"
        )
        return dict(self._read(query, [stage, stage]))

    def get(self, trajectory_id: str) -> Trajectory | None:
        """Return the trajectory with this id, or None."""
        rows = self._read("SELECT id, payload FROM trajectories WHERE id = ?", [trajectory_id])
        return self._unpack(*rows[0]) if rows else None

    def ids(self, prefix: str) -> list[str]:
        """Return the ids that begin so, at most ten, in the order of the alphabet."""
        # Ids are hexadecimal, so the next prefix ends the range; a pattern match could not use the index.
        rows = self._read(
            "SELECT id FROM trajectories WHERE id >= ? AND id < ? ORDER BY id LIMIT 10",
            [prefix, f"{prefix}\U0010ffff"],
        )
        return [trajectory_id for (trajectory_id,) in rows]

    def stages(self) -> Counter[str]:
        """Count the trajectories of each stage."""
        return Counter(dict(self._read("SELECT stage, count(*) FROM outcomes GROUP BY stage", [])))

    def trajectories(
        self, stage: str | None = None, accepted: bool | None = None, limit: int | None = None
    ) -> Iterator[Trajectory]:
        """Yield trajectories in the order in which they were stored, a page at a time.

        The iterator covers what the store held at its first step; adding meanwhile is safe.
        """
        where, values = _conditions(stage, accepted)
        last, end = 0, self._read("SELECT coalesce(max(position), 0) FROM trajectories", [])[0][0]
        left = sys.maxsize if limit is None else limit
        query = (
            f"SELECT position, id, payload FROM trajectories "
            f"WHERE {where} AND position > ? AND position <= ? ORDER BY position LIMIT ?"
        )
        while page := self._read(query, [*values, last, end, min(left, _PAGE_SIZE)]):
            yield from (self._unpack(trajectory_id, payload) for _, trajectory_id, payload in page)
            last, left = page[-1][0], left - len(page)

    def count(self, stage: str | None = None, accepted: bool | None = None) -> int:
        """Return the number of trajectories."""
        where, values = _conditions(stage, accepted)
        return int(self._read(f"SELECT count(*) FROM trajectories WHERE {where}", values)[0][0])

    def reasons(self, stage: str | None = None) -> Counter[str]:
        """Count the verdicts of the rejected trajectories."""
        where, values = _conditions(stage, accepted=False)
        query = f"SELECT verdict, count(*) FROM trajectories WHERE {where} GROUP BY verdict"
        return Counter(dict(self._read(query, values)))

    def finished_task_ids(self, stage: str) -> set[str]:
        """Return the tasks with at least one trajectory in the stage: what a resumed run can skip."""
        rows = self._read("SELECT DISTINCT task_id FROM outcomes WHERE stage = ?", [stage])
        return {task_id for (task_id,) in rows}

    def _open(self) -> None:
        if not self._is_initialised():
            with self._connection:
                self._connection.execute("BEGIN IMMEDIATE")
                if not self._is_initialised():  # another process may have been faster
                    for statement in _SCHEMA:
                        self._connection.execute(statement)
        self._connection.execute("PRAGMA synchronous = FULL")
        # The switch does not wait for a process that has the file locked. Without it the file is as safe,
        # only slower, and whoever opens it next switches.
        with suppress(sqlite3.OperationalError):
            self._connection.execute("PRAGMA journal_mode = WAL")

    def _is_initialised(self) -> bool:
        """Return False for an empty file, True for a trace store of this release; raise for anything else."""
        # One statement, so that no other process can initialise the file between two of the values.
        [[application_id, version, table_count]] = self._connection.execute(
            "SELECT application_id, user_version, (SELECT count(*) FROM sqlite_master) "
            "FROM pragma_application_id, pragma_user_version"
        )
        if application_id == version == table_count == 0:
            return False
        if application_id != _APPLICATION_ID:
            raise TraceError(f"{self.path} is a SQLite file but no trace store; choose another path")
        if version != _SCHEMA_VERSION:
            raise TraceError(
                f"{self.path} has trace store version {version}, this release reads {_SCHEMA_VERSION}; "
                "export it with the release that wrote it, or move it away to start a new one"
            )
        return True

    def _read(self, statement: str, values: list[object]) -> list[Any]:
        with self._errors_named():
            return self._connection.execute(statement, values).fetchall()

    def _unpack(self, trajectory_id: str, payload: bytes) -> Trajectory:
        try:
            data = json.loads(zlib.decompress(payload))
        except (zlib.error, ValueError) as failure:
            raise TraceError(f"{self.path}: trajectory {trajectory_id!r} is damaged: {failure}") from failure
        return load_record(Trajectory, data, TraceError)

    @contextmanager
    def _errors_named(self) -> Iterator[None]:
        """Take the lock, and turn what SQLite raises into a `TraceError` that says what to do."""
        with self._lock:
            try:
                yield
            except sqlite3.OperationalError as failure:
                raise TraceError(
                    f"{self.path} can't be used: {failure}; check the path, the free disk space and whether "
                    "another process holds the file"
                ) from failure
            except sqlite3.ProgrammingError as failure:
                raise TraceError(f"{self.path}: {failure} Open a new `TraceStore`.") from failure
            except sqlite3.DatabaseError as failure:
                raise TraceError(
                    f"{self.path} is damaged or no trace store ({failure}); move it away, with its `-wal` "
                    "and `-shm` files if there are any, and start a new one"
                ) from failure


def pack_trajectory(trajectory: Trajectory) -> PackedTrajectory:
    """Return a trajectory in the form that `TraceStore.add_packed` takes."""
    text = json.dumps(dump_record(trajectory), separators=(",", ":"))
    # Level 1 makes a payload 2 to 4 times smaller; higher levels win another 5% for twice the time.
    payload = zlib.compress(text.encode(), level=1)
    return PackedTrajectory(
        trajectory.id, trajectory.task_id, trajectory.accepted, trajectory.verdict, payload
    )


def _conditions(stage: str | None, accepted: bool | None) -> tuple[str, list[object]]:
    """Return an SQL condition over `trajectories` and its values."""
    conditions, values = ["1"], list[object]()
    if stage is not None:
        conditions.append("position IN (SELECT position FROM outcomes WHERE stage = ?)")
        values.append(stage)
    if accepted is not None:
        conditions.append("accepted = ?")
        values.append(accepted)
    return " AND ".join(conditions), values
