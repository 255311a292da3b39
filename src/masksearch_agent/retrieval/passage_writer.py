"""Add passages to the files of an index, and tell which leave it (`passages`)."""

from __future__ import annotations

import json
import logging
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from hashlib import blake2b
from itertools import islice
from pathlib import Path
from typing import IO, Any

from masksearch_agent.errors import RetrievalError, needs_extra
from masksearch_agent.jsonl import dump_record
from masksearch_agent.records import Passage, content_id
from masksearch_agent.retrieval.passages import DEAD_ROWS, FIELDS, LINES, ROWS, Extent, PassageFile

with needs_extra("index"):
    import numpy as np

__all__ = ("append_passages",)

_ROW_BYTES, _DEAD_BYTES = 8 * len(FIELDS), 8
_BATCH = 4096

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Given:
    """The passages that a writer was given, in their order, repeated ones too."""

    rows: Any
    """`(N,)` int64: their rows, of those that were there already their old ones."""
    hashes: Any
    """`(N,)`, with the fields of a row."""


def append_passages(
    folder: Path,
    known: PassageFile | None,
    passages: Iterable[Passage],
    removed: Collection[str] | None = None,
) -> Extent:
    """Add passages that are not there yet to the files of a folder; repeated ones count once.

    Nothing that is there changes: a passage keeps its row, and one that leaves its line. What was added counts once the
    extent is written down. Where all passages are given (`removed` is None), what is there is read once, too, and a
    passage whose line is damaged gets a new one.

    Args:
        folder: Where the files are, or are to be.
        known: What is there. None begins anew.
        passages: Read once, and not held in memory.
        removed: Ids of passages and documents that leave, beside all other passages of the documents that `passages`
            are of; None takes out all that is not among `passages`.

    Raises:
        RetrievalError: If no passage is left, or two different ones share an id.
    """
    old = known.extent if known is not None else Extent()
    with _open_files(folder, known) as (lines, rows):
        held = _Held(known) if known is not None and removed is not None else None
        known_lines = _known_lines(known, is_read=removed is None)
        new = passages if held is None else map(held.apart, passages)
        given = _write_new(lines, rows, old.rows, known_lines, new)
    extent = replace(old, rows=max(old.rows, int(given.rows.max(initial=-1)) + 1))
    leaves = np.ones(extent.rows, dtype=bool)
    if known is not None:
        leaves[: old.rows] = known.is_there()
        if removed is not None:
            leaves[: old.rows] &= _is_named(known, given, removed)
    leaves[given.rows[_first_of_each(folder, extent, given)]] = False
    dead = np.flatnonzero(leaves)
    if len(dead) + old.dead == extent.rows:
        raise RetrievalError("there is no passage to index")
    with (folder / DEAD_ROWS).open("ab") as file:
        dead.astype("<u8").tofile(file)
    return replace(extent, dead=old.dead + len(dead))


class _Held:
    """Keeps the passages of an index from being taken for those of other documents with the same text."""

    def __init__(self, known: PassageFile) -> None:
        there = known.is_there()
        names = known.rows["name"][there]
        order = np.argsort(names)
        self._names, self._documents = names[order], known.rows["document"][there][order]

    def apart(self, passage: Passage) -> Passage:
        """Return a passage with an id of its own where another document holds that of its title and text."""
        name = np.uint64(_hash(passage.id))
        place = int(np.searchsorted(self._names, name))
        if place == len(self._names) or self._names[place] != name:
            return passage
        document = passage.document_id or passage.id
        is_held = int(self._documents[place]) != _hash(document)
        # An id that was given is the caller's word for what is the same passage.
        if not is_held or passage.id != content_id(passage.title, passage.text):
            return passage
        return replace(passage, id=content_id(passage.document_id or passage.source, passage.id))


@contextmanager
def _open_files(folder: Path, known: PassageFile | None) -> Iterator[tuple[IO[bytes], IO[bytes]]]:
    """Open the files to add to them; what an earlier writer did not finish is cut off."""
    extent = known.extent if known is not None else Extent()
    sizes = {
        LINES: int(known.rows["end"][-1]) if known is not None else 0,
        ROWS: _ROW_BYTES * extent.rows,
        DEAD_ROWS: _DEAD_BYTES * extent.dead,
    }
    for name, size in sizes.items():
        with (folder / name).open("ab") as file:
            if file.tell() != size:
                file.truncate(size)
    with (folder / LINES).open("ab") as lines, (folder / ROWS).open("ab") as rows:
        yield lines, rows


def _write_new(
    lines: IO[bytes], rows: IO[bytes], next_row: int, known: tuple[Any, Any], passages: Iterable[Passage]
) -> _Given:
    """Write the passages that are not known, and find the rows of those that are."""
    known_lines, known_rows = known
    all_rows, all_hashes = [np.empty(0, dtype=np.int64)], [np.empty(0, dtype=FIELDS)]
    passages = iter(passages)
    while batch := list(islice(passages, _BATCH)):
        texts = [_line(passage) for passage in batch]
        hashes = np.array([(0, *_hashes(*pair)) for pair in zip(batch, texts, strict=True)], dtype=FIELDS)
        places = np.minimum(np.searchsorted(known_lines, hashes["line"]), max(len(known_lines) - 1, 0))
        is_known = known_lines[places] == hashes["line"] if len(known_lines) else np.zeros(len(batch), bool)
        found = np.where(is_known, known_rows[places], -1) if len(known_lines) else np.full(len(batch), -1)
        new = np.flatnonzero(found < 0)
        found[new] = next_row + np.arange(len(new))
        next_row += len(new)
        fresh = [texts[place] for place in new]
        hashes["end"][new] = lines.tell() + np.cumsum([len(text) for text in fresh], dtype=np.uint64)
        lines.write(b"".join(fresh))
        rows.write(hashes[new].tobytes())
        all_rows.append(found)
        all_hashes.append(hashes)
    return _Given(np.concatenate(all_rows), np.concatenate(all_hashes))


def _known_lines(known: PassageFile | None, is_read: bool) -> tuple[Any, Any]:
    """Return the hashes of the lines that are there, sorted, and the row of each; of those read, the whole ones."""
    if known is None:
        return np.empty(0, dtype="<u8"), np.empty(0, dtype=np.int64)
    rows = _whole_rows(known) if is_read else np.flatnonzero(known.is_there())
    hashes = known.rows["line"][rows]
    order = np.argsort(hashes, kind="stable")
    return hashes[order], rows[order]


def _whole_rows(known: PassageFile) -> Any:
    """Return the rows whose passage stands in its line as it was written."""
    found = ((row, _hash(line)) for row, line in known.lines(0))
    rows = np.fromiter(found, dtype=[("row", np.int64), ("line", np.uint64)], count=len(known))
    is_whole = rows["line"] == known.rows["line"][rows["row"]]
    if not is_whole.all():
        damaged = np.count_nonzero(~is_whole)
        logger.warning(
            "%d passages of the index in %s are damaged and written again", damaged, known.directory
        )
    return rows["row"][is_whole]


def _is_named(known: PassageFile, given: _Given, removed: Collection[str]) -> Any:
    """Return which rows are named for removal, are of a document that was given, or have an id that was."""
    named = np.array([_hash(each) for each in removed], dtype=np.uint64)
    names = np.concatenate([named, given.hashes["name"]])
    documents = np.concatenate([named, given.hashes["document"]])
    return np.isin(known.rows["name"], names) | np.isin(known.rows["document"], documents)


def _first_of_each(folder: Path, extent: Extent, given: _Given) -> Any:
    """Return the places of the given passages without those that repeat an earlier one."""
    names, texts = given.hashes["name"], given.hashes["text"]
    order = np.argsort(names, kind="stable")
    is_first = np.ones(len(order), dtype=bool)
    is_first[1:] = names[order][1:] != names[order][:-1]
    first = order[np.maximum.accumulate(np.where(is_first, np.arange(len(order)), 0))]
    conflicts = order[texts[order] != texts[first]]
    if len(conflicts):
        whole = replace(extent, dead=0, purged=0)
        passage = PassageFile(folder, whole, is_kept=False).at(int(given.rows[conflicts.min()]))
        raise RetrievalError(
            f"two different passages have the id {passage.id!r} (one is titled {passage.title!r}); "
            "give each passage an id of its own"
        )
    return order[is_first]


def _line(passage: Passage) -> bytes:
    return json.dumps(dump_record(passage), ensure_ascii=False).encode(errors="replace") + b"\n"


def _hashes(passage: Passage, line: bytes) -> tuple[int, int, int, int]:
    """Return what a row holds of a passage beside where it ends."""
    document = passage.document_id or passage.id
    return _hash(passage.id), _hash(document), _hash(passage.title, passage.text), _hash(line)


def _hash(*parts: str | bytes) -> int:
    """Return 64 bits: of five million passages, two agree by chance once in a million corpora."""
    digest = blake2b(digest_size=8)
    for part in parts:
        data = part.encode(errors="replace") if isinstance(part, str) else part
        digest.update(len(data).to_bytes(8, "little"))
        digest.update(data)
    return int.from_bytes(digest.digest(), "little")
