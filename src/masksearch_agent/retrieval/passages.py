"""Passages on disk, read by their position.

An index holds as many passages as there are, but a search reads ten of them. They stay in a JSON-lines file;
in memory are where each line ends (8 bytes a passage) and the passages that were read last.
"""

from __future__ import annotations

import json
import os
from array import array
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from hashlib import sha256
from pathlib import Path
from threading import Lock
from typing import overload

from masksearch_agent.errors import RetrievalError
from masksearch_agent.jsonl import dump_record, load_record
from masksearch_agent.records import Passage, content_id

__all__ = ("PassageFile", "write_passages")

_PASSAGES = "passages.jsonl"
_ENDS = "passages.ends"
_KEYS = "passages.keys"
_REMEMBERED = 20_000


def write_passages(directory: Path, passages: Iterable[Passage]) -> str:
    """Write passages into a folder, repeated ones once; return a hash of them all, in their order.

    Raises:
        RetrievalError: If there is no passage, or two different ones share an id.
    """
    digest = sha256()
    ends, keys = array("Q"), array("Q")
    seen: dict[int, int] = {}
    with (directory / _PASSAGES).open("wb") as file:
        for passage in passages:
            name = int(content_id(passage.id), 16)
            key = int(content_id(passage.title, passage.text), 16)
            if seen.setdefault(name, key) != key:
                raise RetrievalError(
                    f"two different passages have the id {passage.id!r} (one is titled {passage.title!r}); "
                    "give each passage an id of its own"
                )
            if len(seen) == len(keys):
                continue
            line = json.dumps(dump_record(passage), ensure_ascii=False).encode() + b"\n"
            file.write(line)
            digest.update(line)
            ends.append(file.tell())
            keys.append(key)
    if not keys:
        raise RetrievalError("there is no passage to index")
    for name_of_file, numbers in ((_ENDS, ends), (_KEYS, keys)):
        (directory / name_of_file).write_bytes(numbers.tobytes())
    return digest.hexdigest()


class PassageFile(Sequence[Passage]):
    """The passages that `write_passages` wrote. Safe to share between threads and forked processes.

    Raises:
        RetrievalError: If files are missing or do not fit together.
    """

    def __init__(self, directory: Path) -> None:
        self._path = directory / _PASSAGES
        self.keys = array("Q")
        """A 64-bit hash of the title and text of each passage."""
        self._ends = array("Q")
        try:
            self._ends.frombytes((directory / _ENDS).read_bytes())
            self.keys.frombytes((directory / _KEYS).read_bytes())
            self._file = self._path.open("rb")
        except (OSError, ValueError) as failure:
            raise RetrievalError(f"cannot read the passages in {directory}: {failure}") from failure
        size = os.fstat(self._file.fileno()).st_size
        if not self._ends or len(self._ends) != len(self.keys) or self._ends[-1] != size:
            self._file.close()
            raise RetrievalError(f"{self._path} is damaged: it has {size} bytes, not {[*self._ends[-1:]]}")
        self._lock = Lock()
        self._remembered = lru_cache(_REMEMBERED)(self._read)

    def __len__(self) -> int:
        return len(self._ends)

    @overload
    def __getitem__(self, position: int) -> Passage: ...
    @overload
    def __getitem__(self, position: slice) -> list[Passage]: ...
    def __getitem__(self, position: int | slice) -> Passage | list[Passage]:
        """Return the passage at a position."""
        if isinstance(position, slice):
            return [self._read(each) for each in range(*position.indices(len(self)))]
        if not -len(self) <= position < len(self):
            raise IndexError(f"position {position} of {len(self)} passages")
        return self._remembered(position % len(self))

    def __iter__(self) -> Iterator[Passage]:
        with self._path.open("rb") as file:
            for line in file:
                yield self._parse(line)

    def _read(self, position: int) -> Passage:
        start = self._ends[position - 1] if position else 0
        length = self._ends[position] - start
        if hasattr(os, "pread"):
            return self._parse(os.pread(self._file.fileno(), length, start))
        with self._lock:
            self._file.seek(start)
            return self._parse(self._file.read(length))

    def _parse(self, line: bytes) -> Passage:
        try:
            return load_record(Passage, json.loads(line), RetrievalError)
        except ValueError as failure:
            raise RetrievalError(f"{self._path} is damaged ({failure})") from failure
