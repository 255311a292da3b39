"""Passages on disk, read by their row.

An index holds as many passages as there are, but a search reads ten of them. They stay in a JSON-lines file; beside it
are 40 bytes a passage: where its line ends, and hashes to tell by what it is. Both files only grow, and so does the
list of rows whose passages were taken out. How much of them counts is told by an `Extent`, which the index keeps in its
manifest: so an index changes in one step, what was not finished is beyond the extent and is cut off by the next writer,
and whoever reads sees what was there when it was opened.
"""

from __future__ import annotations

import hashlib
import json
import os
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from threading import Lock
from typing import IO, Any, overload

from masksearch_agent.errors import RetrievalError, needs_extra
from masksearch_agent.files import FolderHold
from masksearch_agent.jsonl import load_record
from masksearch_agent.records import Passage, ScoredPassage

__all__ = ("DEAD_ROWS", "FIELDS", "LINES", "ROWS", "Extent", "PassageFile", "with_advice")

LINES, ROWS, DEAD_ROWS = "passages.jsonl", "passages.rows", "passages.dead"
FIELDS = [("end", "<u8"), ("name", "<u8"), ("document", "<u8"), ("text", "<u8"), ("line", "<u8")]
"""Where the line ends in the file; hashes of the id, of the document's id, of title and text, and of the line."""
_REMEMBERED = 20_000
_ADVICE = "run `masksearch index` to build the index again"


def with_advice(failure: object) -> str:
    """Return what is wrong with an index, with what to do about it."""
    return str(failure) if _ADVICE in str(failure) else f"{failure}; {_ADVICE}"


@dataclass(frozen=True, slots=True)
class Extent:
    """How much of the files of passages counts."""

    rows: int = 0
    """Passages that were ever added."""
    dead: int = 0
    """Those of them that were taken out."""
    purged: int = 0
    """Those of them that are out of every part of the index, too."""


class PassageFile(Sequence[Passage]):
    """The passages of an index. Safe to share between threads and forked processes.

    A passage has a place, from 0, among those that are there, and a row, which it keeps for good.

    Args:
        directory: Where the files are.
        extent: How much of them counts.
        is_kept: Keep writers from removing the folder, as long as the object lives.

    Raises:
        RetrievalError: If files are missing, or hold less than the extent.
    """

    def __init__(self, directory: Path, extent: Extent, *, is_kept: bool = True) -> None:
        with needs_extra("index"):
            import numpy as np
        self.directory, self.extent = directory, extent
        if not 0 <= extent.dead < extent.rows:
            raise RetrievalError(
                f"the index in {directory} is damaged: {extent.dead} of {extent.rows} rows are dead"
            )
        try:
            self._hold = FolderHold(directory) if is_kept else None
            self._path = directory / LINES
            file = self._path.open("rb")
            self.rows = np.memmap(directory / ROWS, dtype=FIELDS, mode="r", shape=(extent.rows,))
            """A structured array, one record a row: `end` and hashes (uint64)."""
            self.dead = np.fromfile(directory / DEAD_ROWS, dtype="<u8", count=extent.dead)
            """Rows without a passage, in the order in which they lost it."""
        except (OSError, ValueError) as failure:
            raise RetrievalError(f"cannot read the passages in {directory}: {failure}") from failure
        size = os.fstat(file.fileno()).st_size
        if size < int(self.rows["end"][-1]) or len(self.dead) < extent.dead:
            raise RetrievalError(
                f"the index in {directory} is damaged: {LINES} has {size} bytes of "
                f"{self.rows['end'][-1]}, {DEAD_ROWS} {len(self.dead)} rows of {extent.dead}"
            )
        self._hidden = frozenset(self.dead[extent.purged :].tolist())
        self._lines = _Lines(file, self._path, self.rows["end"])
        self.at: Callable[[int], Passage] = lru_cache(_REMEMBERED)(self._lines.read)
        """Return the passage of a row."""
        self.at(extent.rows - 1)  # What a power failure cuts off or leaves blank is at the end.

    def __len__(self) -> int:
        return self.extent.rows - self.extent.dead

    @overload
    def __getitem__(self, position: int) -> Passage: ...
    @overload
    def __getitem__(self, position: slice) -> list[Passage]: ...
    def __getitem__(self, position: int | slice) -> Passage | list[Passage]:
        """Return the passage at a place."""
        if isinstance(position, slice):
            return [self._lines.read(self._row(each)) for each in range(*position.indices(len(self)))]
        if not -len(self) <= position < len(self):
            raise IndexError(f"position {position} of {len(self)} passages")
        return self.at(self._row(position % len(self)))

    def __iter__(self) -> Iterator[Passage]:
        return (passage for _, passage in self.since(0))

    def since(self, first: int) -> Iterator[tuple[int, Passage]]:
        """Yield the rows from one on that have a passage, with it."""
        return ((row, _parse(line, self._path)) for row, line in self.lines(first))

    def lines(self, first: int) -> Iterator[tuple[int, bytes]]:
        """Yield the rows from one on that have a passage, with what stands in the file for it."""
        dead = set(self.dead.tolist())
        with self._path.open("rb") as file:
            start = self._lines.start(first)
            file.seek(start)
            # By their lengths: in a damaged line there may be a line end, or none at its end.
            size = self._path.stat().st_size
            for row, end in enumerate(map(int, self.rows["end"][first:]), first):
                # A damaged end is that of no line, and the next one begins where the last whole one ended.
                is_whole = start <= end <= size
                line = file.read(end - start) if is_whole else b""
                start = end if is_whole else start
                if row not in dead:
                    yield row, line

    def has(self, row: int) -> bool:
        """Tell whether a part that gives a row means a passage of these: it may be ahead or behind of what we see."""
        return 0 <= row < self.extent.rows and row not in self._hidden

    def best(self, rank: Callable[[int], Sequence[tuple[int, float]]], limit: int) -> list[ScoredPassage]:
        """Return the best passages of a part that ranks so many rows; where some do not count, it is asked for more."""
        wanted = limit
        while True:
            ranked = rank(wanted)
            hits = [(row, score) for row, score in ranked if self.has(row)]
            if len(hits) >= limit or len(ranked) < wanted:
                return [ScoredPassage(self.at(row), score) for row, score in hits[:limit]]
            wanted *= 2

    def is_there(self) -> Any:
        """Return which rows have a passage: `(rows,)` bool."""
        import numpy as np

        there = np.ones(self.extent.rows, dtype=bool)
        there[self.dead.astype(np.int64)] = False
        return there

    @property
    def fingerprint(self) -> str:
        """A hash of titles and texts, whatever their order."""
        import numpy as np

        texts = np.sort(self.rows["text"][self.is_there()])
        return hashlib.sha256(texts.tobytes()).hexdigest()[:16]

    def _row(self, position: int) -> int:
        # So many dead rows stand before the one that is looked for as are passed on the way.
        return position + bisect_right(self._passed, position) if self.extent.dead else position

    @cached_property
    def _passed(self) -> list[int]:
        return [row - number for number, row in enumerate(sorted(self.dead.tolist()))]


class _Lines:
    """Reads single lines of a file. `PassageFile` remembers them; a reference back would keep both from being freed."""

    def __init__(self, file: IO[bytes], path: Path, ends: Any) -> None:
        self._file, self._path, self._ends = file, path, ends
        self._lock = Lock()

    def start(self, row: int) -> int:
        return int(self._ends[row - 1]) if row else 0

    def read(self, row: int) -> Passage:
        start = self.start(row)
        length = int(self._ends[row]) - start
        if not 0 <= length <= os.fstat(self._file.fileno()).st_size:
            raise RetrievalError(with_advice(f"{self._path} is damaged (a line of {length} bytes)"))
        if hasattr(os, "pread"):
            return _parse(os.pread(self._file.fileno(), length, start), self._path)
        with self._lock:
            self._file.seek(start)
            return _parse(self._file.read(length), self._path)


def _parse(line: bytes, path: Path) -> Passage:
    try:
        return load_record(Passage, json.loads(line), RetrievalError)
    except (ValueError, RecursionError) as failure:
        raise RetrievalError(with_advice(f"{path} is damaged ({failure})")) from failure
