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
from pathlib import Path
from typing import IO, Any

__all__ = ("build_bm25",)

_STRETCH = 20_000
"""Passages scored together; about 50 MB."""
_BLOCK = 8_000_000
"""Entries of the matrix that are put in place together: 64 MB."""
_SCORES = "data.csc.index.npy"
_HOLDERS = "indices.csc.index.npy"


def build_bm25(
    model: Any, directory: Path, texts: Iterable[str], split_terms: Callable[[str], list[str]]
) -> None:
    """Write the index of texts into a new folder.

    Args:
        model: An empty `bm25s.BM25`; its k1 and b are used, and it writes the files.
        directory: The folder.
        texts: What is indexed, by position.
        split_terms: Cuts a text into its terms.
    """
    import numpy as np

    directory.mkdir(parents=True)
    with tempfile.TemporaryDirectory(dir=directory.parent) as scratch:
        term_file, count_file = Path(scratch) / "terms", Path(scratch) / "counts"
        vocabulary, lengths, distinct = _count_terms(texts, split_terms, term_file, count_file)
        entries = np.concatenate([[0], np.cumsum(distinct)])
        holders = np.zeros(len(vocabulary), dtype=np.int64)
        stretches = range(0, len(lengths), _STRETCH)
        for start in stretches:
            first, last = entries[start], entries[min(start + _STRETCH, len(lengths))]
            holders += np.bincount(_part(term_file, first, last), minlength=len(vocabulary))
        columns = np.concatenate([[0], np.cumsum(holders)])
        weights = np.log(1 + (len(lengths) - holders + 0.5) / (holders + 0.5))
        norms = model.k1 * (1 - model.b + model.b * lengths / max(lengths.mean(), 1e-9))

        model.scores = {
            "data": weights[:0],
            "indices": weights[:0],
            "indptr": columns,
            "num_docs": len(lengths),
        }
        model.vocab_dict = vocabulary
        model.nonoccurrence_array = None
        model.save(directory, allow_pickle=False, show_progress=False)

        # The two long arrays replace the empty ones. An empty array could not be mapped; an entry more than the
        # columns have belongs to none of them.
        size = max(1, int(columns[-1]))
        with (
            _array_file(directory / _SCORES, "<f4", size) as score_out,
            _array_file(directory / _HOLDERS, "<i4", size) as holder_out,
        ):
            for block in _blocks(columns):
                scores = np.empty(columns[block.stop] - columns[block.start], dtype="<f4")
                passages = np.empty(len(scores), dtype="<i4")
                free = columns[block.start : block.stop] - columns[block.start]
                for start in stretches:
                    stop = min(start + _STRETCH, len(lengths))
                    terms = _part(term_file, entries[start], entries[stop])
                    inside = np.flatnonzero((terms >= block.start) & (terms < block.stop))
                    inside = inside[np.argsort(terms[inside], kind="stable")]
                    terms = terms[inside]
                    counts = _part(count_file, entries[start], entries[stop])[inside]
                    holder = np.repeat(np.arange(start, stop), distinct[start:stop])[inside]
                    in_column = np.bincount(terms - block.start, minlength=len(block))
                    rank = np.arange(len(terms)) - np.repeat(np.cumsum(in_column) - in_column, in_column)
                    places = free[terms - block.start] + rank
                    scores[places] = weights[terms] * counts / (counts + norms[holder])
                    passages[places] = holder
                    free += in_column
                scores.tofile(score_out)
                passages.tofile(holder_out)
            if not columns[-1]:
                np.zeros(1, dtype="<f4").tofile(score_out)
                np.zeros(1, dtype="<i4").tofile(holder_out)


def _blocks(columns: Any) -> Iterator[range]:
    """Yield neighbouring columns whose entries fit into memory together."""
    import numpy as np

    start, end = 0, len(columns) - 1
    while start < end:
        fitting = int(np.searchsorted(columns, columns[start] + _BLOCK, side="right")) - 1
        block = range(start, max(start + 1, fitting))
        yield block
        start = block.stop


@contextmanager
def _array_file(path: Path, dtype: str, size: int) -> Iterator[IO[bytes]]:
    """Open a `.npy` file of a flat array, its header written."""
    import numpy as np

    with path.open("wb") as file:
        header = {"descr": dtype, "fortran_order": False, "shape": (size,)}
        np.lib.format.write_array_header_1_0(file, header)
        file.flush()
        yield file


def _count_terms(
    texts: Iterable[str], split_terms: Callable[[str], list[str]], term_file: Path, count_file: Path
) -> tuple[dict[str, int], Any, Any]:
    """Write the distinct terms of each text and how often it has them.

    Returns:
        The terms with their numbers, and `(N,)` how many terms and how many distinct ones each text has.
    """
    import numpy as np

    vocabulary: dict[str, int] = {}
    lengths, distinct = array("q"), array("q")
    terms, counts = array("I"), array("I")
    with term_file.open("wb") as term_out, count_file.open("wb") as count_out:
        for text in texts:
            counted = Counter(split_terms(text))
            terms.extend([vocabulary.setdefault(term, len(vocabulary)) for term in counted])
            counts.extend(counted.values())
            lengths.append(counted.total())
            distinct.append(len(counted))
            if len(terms) > 1 << 20:
                terms.tofile(term_out)
                counts.tofile(count_out)
                del terms[:], counts[:]
        terms.tofile(term_out)
        counts.tofile(count_out)
    return vocabulary, np.array(lengths), np.array(distinct)


def _part(file: Path, first: int, last: int) -> Any:
    import numpy as np

    return np.fromfile(file, dtype=np.uint32, count=int(last - first), offset=4 * int(first))
