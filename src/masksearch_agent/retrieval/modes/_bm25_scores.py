"""Score the words of a corpus for BM25 in memory that hardly grows with it.

BM25S keeps the words of all passages as Python lists while it builds, some 4 GB for a million passages. Here
one pass writes word counts to disk; others turn them into scores, a stretch of passages at a time, and write
the matrix to disk, a block of columns at a time. The scores are those of BM25S (its default, Lucene's
variant of Okapi BM25), and so are the files.
"""

from __future__ import annotations

import tempfile
from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from masksearch_agent.errors import needs_extra

with needs_extra("index"):
    import numpy as np

__all__ = ("build_bm25",)

_STRETCH = 20_000
"""Passages scored together; about 50 MB."""
_BLOCK = 8_000_000
"""Entries of the matrix that are put in place together: 64 MB."""
_SCORES = "data.csc.index.npy"
_HOLDERS = "indices.csc.index.npy"


@dataclass(frozen=True, slots=True)
class _Counts:
    """Which text has which terms and how often: two files with the texts' entries one after the other."""

    terms: Path
    times: Path
    vocabulary: dict[str, int]
    lengths: Any
    """`(N,)` int64: terms of each text."""
    starts: Any
    """`(N + 1,)` int64: where the entries of each text start."""

    def stretches(self) -> Iterator[range]:
        """Yield neighbouring texts that are worked on together."""
        for start in range(0, len(self.lengths), _STRETCH):
            yield range(start, min(start + _STRETCH, len(self.lengths)))

    def read(self, file: Path, texts: range) -> Any:
        """Return the entries of neighbouring texts, of one of the files."""
        first, last = int(self.starts[texts.start]), int(self.starts[texts.stop])
        return np.fromfile(file, dtype=np.uint32, count=last - first, offset=4 * first)


def build_bm25(
    model: Any, directory: Path, texts: Iterable[str], split_terms: Callable[[str], list[str]]
) -> None:
    """Write the index of texts into a new folder; an empty `bm25s.BM25` gives k1 and b, and writes the files."""
    directory.mkdir(parents=True)
    with tempfile.TemporaryDirectory(dir=directory.parent) as scratch:
        counts = _count_terms(texts, split_terms, Path(scratch))
        lengths, size = counts.lengths, len(counts.vocabulary)
        holders = np.zeros(size, dtype=np.int64)
        for stretch in counts.stretches():
            holders += np.bincount(counts.read(counts.terms, stretch), minlength=size)
        columns = np.concatenate([[0], np.cumsum(holders)])
        weights = np.log(1 + (len(lengths) - holders + 0.5) / (holders + 0.5))
        norms = model.k1 * (1 - model.b + model.b * lengths / max(lengths.mean(), 1e-9))

        empty = weights[:0]
        model.scores = {"data": empty, "indices": empty, "indptr": columns, "num_docs": len(lengths)}
        model.vocab_dict = counts.vocabulary
        model.nonoccurrence_array = None
        model.save(directory, allow_pickle=False, show_progress=False)

        # The two long arrays replace the empty ones. An empty array could not be mapped; an entry more than the
        # columns have belongs to none of them.
        entries = max(1, int(columns[-1]))
        with (
            _array_file(directory / _SCORES, "<f4", entries) as score_out,
            _array_file(directory / _HOLDERS, "<i4", entries) as holder_out,
        ):
            for block in _blocks(columns):
                scores, passages = _score_block(counts, block, columns, weights, norms)
                scores.tofile(score_out)
                passages.tofile(holder_out)
            if not columns[-1]:
                score_out.write(bytes(4))
                holder_out.write(bytes(4))


def _score_block(counts: _Counts, block: range, columns: Any, weights: Any, norms: Any) -> tuple[Any, Any]:
    """Fill neighbouring columns of the matrix: return the scores in them, and which texts they are of."""
    scores = np.empty(columns[block.stop] - columns[block.start], dtype="<f4")
    passages = np.empty(len(scores), dtype="<i4")
    free = columns[block.start : block.stop] - columns[block.start]
    for stretch in counts.stretches():
        terms = counts.read(counts.terms, stretch)
        inside = np.flatnonzero((terms >= block.start) & (terms < block.stop))
        inside = inside[np.argsort(terms[inside], kind="stable")]
        terms = terms[inside]
        times = counts.read(counts.times, stretch)[inside]
        distinct = np.diff(counts.starts[stretch.start : stretch.stop + 1])
        holder = np.repeat(np.arange(stretch.start, stretch.stop), distinct)[inside]
        in_column = np.bincount(terms - block.start, minlength=len(block))
        rank = np.arange(len(terms)) - np.repeat(np.cumsum(in_column) - in_column, in_column)
        places = free[terms - block.start] + rank
        scores[places] = weights[terms] * times / (times + norms[holder])
        passages[places] = holder
        free += in_column
    return scores, passages


def _blocks(columns: Any) -> Iterator[range]:
    """Yield neighbouring columns whose entries fit into memory together."""
    start, end = 0, len(columns) - 1
    while start < end:
        fitting = int(np.searchsorted(columns, columns[start] + _BLOCK, side="right")) - 1
        block = range(start, max(start + 1, fitting))
        yield block
        start = block.stop


@contextmanager
def _array_file(path: Path, dtype: str, size: int) -> Iterator[IO[bytes]]:
    """Open a `.npy` file of a flat array, its header written."""
    with path.open("wb") as file:
        header = {"descr": dtype, "fortran_order": False, "shape": (size,)}
        np.lib.format.write_array_header_1_0(file, header)
        file.flush()
        yield file


def _count_terms(texts: Iterable[str], split_terms: Callable[[str], list[str]], folder: Path) -> _Counts:
    """Write the distinct terms of each text and how often it has them into two files of the folder."""
    vocabulary: dict[str, int] = {}
    lengths, starts = array("q"), array("q", [0])
    terms, times = array("I"), array("I")
    term_file, times_file = folder / "terms", folder / "times"
    with term_file.open("wb") as term_out, times_file.open("wb") as times_out:
        for text in texts:
            counted = Counter(split_terms(text))
            terms.extend([vocabulary.setdefault(term, len(vocabulary)) for term in counted])
            times.extend(counted.values())
            lengths.append(counted.total())
            starts.append(starts[-1] + len(counted))
            if len(terms) > 1 << 20:
                terms.tofile(term_out)
                times.tofile(times_out)
                del terms[:], times[:]
        terms.tofile(term_out)
        times.tofile(times_out)
    return _Counts(term_file, times_file, vocabulary, np.array(lengths), np.array(starts))
