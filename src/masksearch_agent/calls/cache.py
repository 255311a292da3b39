"""Answers of services, kept on disk, so that a run that goes on pays for nothing twice."""

from __future__ import annotations

import json
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from masksearch_agent.errors import MaskSearchError
from masksearch_agent.records import content_id

__all__ = ("AnswerCache",)

_SCHEMA = (
    "CREATE TABLE IF NOT EXISTS answers (key TEXT PRIMARY KEY, written_s REAL NOT NULL, answer TEXT NOT NULL)"
)


class AnswerCache:
    """A SQLite file from questions to JSON answers. Threads may share one cache, processes one file.

    Args:
        path: The file; it is created, with its folders, when it does not exist.
        max_age_s: Answers older than this are asked for anew; None keeps them for good.

    Raises:
        MaskSearchError: The file cannot be opened, or is no such cache.
    """

    def __init__(self, path: Path, max_age_s: float | None = None) -> None:
        self.path = path
        self._max_age_s = max_age_s
        self._lock = threading.Lock()
        with self._errors_named():
            path.parent.mkdir(parents=True, exist_ok=True)
            self._connection = sqlite3.connect(
                path, timeout=60, isolation_level=None, check_same_thread=False
            )
            self._connection.execute(_SCHEMA)

    def get(self, *question: object) -> Any:
        """Return the answer to a question, or None."""
        with self._errors_named():
            row = self._connection.execute(
                "SELECT written_s, answer FROM answers WHERE key = ?", [content_id(*question)]
            ).fetchone()
        if row is None or (self._max_age_s is not None and time.time() - row[0] > self._max_age_s):
            return None
        return json.loads(row[1])

    def put(self, answer: Any, *question: object) -> None:
        """Keep the answer to a question; it replaces an older one."""
        text = json.dumps(answer, ensure_ascii=False)
        with self._errors_named():
            self._connection.execute(
                "INSERT OR REPLACE INTO answers VALUES (?, ?, ?)", [content_id(*question), time.time(), text]
            )

    @contextmanager
    def _errors_named(self) -> Iterator[None]:
        """Take the lock, and say what to do about what SQLite or the disk raises."""
        with self._lock:
            try:
                yield
            except (OSError, sqlite3.Error) as failure:
                raise MaskSearchError(
                    f"cannot use {self.path} as a cache: {failure}; delete it or choose another path"
                ) from failure
