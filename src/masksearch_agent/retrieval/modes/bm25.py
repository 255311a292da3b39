"""Lexical search: BM25 over titles and texts, by tantivy.

Passages that cannot be among the best are skipped (block-max WAND, SIGIR 2011). In a large corpus, the words of a query
that a fifth of all passages hold do not find any, they only help to rank what the rarer ones found: that takes a fifth
of the time (`docs/performance.md`). The index stays on disk, and adding to it or taking out of it does not write it
anew. Equal scores stand in the order of the rows, and a passage that shares no word with the query is
not returned.

tantivy scores by Okapi BM25 as Lucene does, with k1 = 1.2 and b = 0.75 and the length of a passage in one byte. It gets
the words of `text.words`, so that there is one notion of a word. They are neither stemmed nor stopped: on HotpotQA
and MuSiQue questions either changes recall@5 by at most 0.02, up or down, and both would tie the index to English.
Chinese text, which has no spaces, is indexed by its characters and its pairs of neighbouring characters; that needs no
dictionary and knows every name.
"""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import tempfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from masksearch_agent.errors import RetrievalError, needs_extra
from masksearch_agent.records import ScoredPassage
from masksearch_agent.retrieval.backends import IndexPart, RetrieverMode
from masksearch_agent.retrieval.passages import PassageFile, with_advice
from masksearch_agent.text.words import search_terms

__all__ = ("MODE", "BM25Index")

_WORDS, _ROW = "words", "row"
_HEAP_BYTES = 128_000_000
"""What tantivy collects before it writes a segment, of some 400,000 passages."""
_SPARE = 8
"""Passages looked at beyond the limit, so that equal scores around it stand in order too."""
_QUICK = 100_000
"""Passages up to which a query takes less time than handing it to a thread is worth."""
_LARGE = 500_000
"""Passages beyond which words that stand everywhere only rank what the others have found."""
_SHARE = 0.2
"""Of the passages, for a word to stand everywhere."""
_CANDIDATES, _DEPTH = 50, 4
"""Passages that are found and then ranked by all words: at least so many, and so many times what is asked for."""
_TITLE_WEIGHT = 3
"""Times the words of a title count: what is about a thing comes before what only names it. Two finds fewer gold
passages, four hardly more (`benchmarks/title_weight.py`). An index of before counts them once, and can be read."""
_LOCK = ".tantivy-meta.lock"
_ENDED = "writer was killed"
_FOOTER = re.compile(rb'"crc":(\d+)}(.{4})\x39\x05\0\0\Z', re.DOTALL)
"""The end of a file of tantivy's: the checksum of what stands before its footer, and the footer's length."""
_MAX_FOOTER_BYTES = 1000


class BM25Index:
    """A BM25 index on disk, mapped into memory: what nobody asks for stays there, and processes share the rest.

    Raises:
        RetrievalError: If files are missing or damaged, or the index is of fewer passages.
    """

    def __init__(self, directory: Path, passages: PassageFile) -> None:
        self.searched_passages = passages
        """All passages of the index, in its order."""
        self._directory = directory
        self._index, self._searcher = _open(directory)
        if self._searcher.num_docs < len(passages):
            raise RetrievalError(
                f"the BM25 index in {directory} holds {self._searcher.num_docs} passages; expected {len(passages)}"
            )

    def search(self, queries: Sequence[str], limit: int) -> list[list[ScoredPassage]]:
        """Return the best passages for each query."""
        return [self._rank(query, limit) for query in queries]

    async def asearch(self, queries: Sequence[str], limit: int) -> list[list[ScoredPassage]]:
        """Search, in a thread where it takes long."""
        if len(self.searched_passages) <= _QUICK:
            return self.search(queries, limit)
        return await asyncio.to_thread(self.search, queries, limit)

    def _rank(self, query: str, limit: int) -> list[ScoredPassage]:
        words = search_terms(query)
        return self.searched_passages.best(partial(self._find, words), limit) if words else []

    def _find(self, words: list[str], limit: int) -> list[tuple[int, float]]:
        """Return the best rows and their scores, the best first."""
        tantivy = _import_tantivy()
        query = partial(tantivy.Query.term_query, self._index.schema, _WORDS, index_option="freq")
        clauses = [(tantivy.Occur.Should, query(word)) for word in words]
        if self._searcher.num_docs > _LARGE:
            holders = _SHARE * self._searcher.num_docs
            rare = [word for word in words if self._searcher.doc_freq(_WORDS, word) < holders]
            if 0 < len(rare) < len(words):
                depth = max(_CANDIDATES, _DEPTH * limit)
                rows = [row for row, _ in self._best([clauses[words.index(word)] for word in rare], depth)]
                among = tantivy.Query.term_set_query(self._index.schema, _ROW, rows)
                clauses.append((tantivy.Occur.Must, tantivy.Query.const_score_query(among, 0.0)))
        return self._best(clauses, limit)

    def _best(self, clauses: list[tuple[Any, Any]], limit: int) -> list[tuple[int, float]]:
        asked = _import_tantivy().Query.boolean_query(clauses)
        # tantivy sets aside room for as many as it is asked for, and aborts the process where there is none.
        wanted = min(limit + _SPARE, max(self._searcher.num_docs, 1))
        with _reading(self._directory):
            found = self._searcher.search(asked, wanted, count=False).hits
            rows = self._searcher.fast_field_values(_ROW, [address for _, address in found])
            if None in rows:
                raise ValueError("a passage that was found has no row")
        hits = [(row, score) for row, (score, _) in zip(rows, found, strict=True)]
        return sorted(hits, key=lambda hit: (-hit[1], hit[0]))[:limit]


def _open(directory: Path) -> tuple[Any, Any]:
    """Open an index, and what searches it as it is now."""
    tantivy = _import_tantivy()
    with _reading(directory):
        with _writable(directory) as place:
            index = tantivy.Index.open(str(place))
        return index, index.searcher()


@contextmanager
def _reading(directory: Path) -> Iterator[None]:
    """Raise a `RetrievalError` where tantivy cannot read an index."""
    try:
        yield
    except BaseException as failure:
        # Some damage makes tantivy panic, which is no `Exception` in Python.
        if isinstance(failure, OSError | ValueError) or type(failure).__name__ == "PanicException":
            why = f"cannot read the BM25 index in {directory}: {failure}"
            raise RetrievalError(with_advice(why)) from failure
        raise


def _check_sum(file: Path) -> None:
    """Raise a `ValueError` where a file is not what tantivy wrote, as far as its footer tells."""
    with needs_extra("index"):
        import numpy as np
    content = np.memmap(file, mode="r")
    footer = _FOOTER.search(content[-_MAX_FOOTER_BYTES:].tobytes())
    if footer is not None:
        written, length = int(footer[1]), int.from_bytes(footer[2], "little") + 8
        if zlib.crc32(content[: len(content) - length].data) != written:
            raise ValueError(f"{file.name} is damaged")


@contextmanager
def _writable(directory: Path) -> Iterator[Path]:
    """Give a folder to open an index in: tantivy locks it by a file. Once it is open, its files are mapped."""
    if os.access(directory, os.W_OK):
        yield directory
        return
    with tempfile.TemporaryDirectory() as mirror:
        for file in directory.iterdir():
            if file.suffix == ".json":
                shutil.copyfile(file, Path(mirror, file.name))
            elif file.name != _LOCK:
                Path(mirror, file.name).symlink_to(file.resolve())
        yield Path(mirror)


@contextmanager
def _writer(directory: Path) -> Iterator[tuple[Any, Any]]:
    """Give an index, made where there is none, and what writes it; what is written counts when the block ends."""
    tantivy = _import_tantivy()
    directory.mkdir(exist_ok=True)
    schema = (
        tantivy.SchemaBuilder()
        .add_text_field(_WORDS, tokenizer_name="whitespace", index_option="freq")
        .add_unsigned_field(_ROW, indexed=True, fast=True)
        .build()
    )
    writer = None
    try:
        index = tantivy.Index(schema, path=str(directory))
        # One thread keeps the passages in their order.
        writer = index.writer(_HEAP_BYTES, 1)
        yield index, writer
        writer.commit()
        writer.wait_merging_threads()
    except (OSError, ValueError) as failure:
        why = _why(failure, writer)
        # tantivy says everything by plain `ValueError`s, and it is from an `OSError` that a full disk is known.
        raise RetrievalError(f"cannot write the BM25 index in {directory}: {why}") from OSError(why)
    # Some files are readable to nobody else, whatever the user's umask is.
    for file in directory.glob("*.json"):
        file.chmod((directory / _LOCK).stat().st_mode & 0o777)


def _why(failure: Exception, writer: Any) -> str:
    """Say why writing failed: tantivy first tells that its thread has ended, and what ended it when asked again."""
    if _ENDED in str(failure):
        try:
            writer.commit()
        except ValueError as reason:
            return str(reason)
    return str(failure)


def _import_tantivy() -> Any:
    with needs_extra("index"):
        import tantivy
    return tantivy


class _BM25Mode(RetrieverMode):
    grows = True

    def build(self, part: IndexPart, older: IndexPart | None) -> int:
        return self.add(part, 0)

    def add(self, part: IndexPart, first: int) -> int:
        tantivy = _import_tantivy()
        with _writer(part.folder) as (index, writer):
            kind = tantivy.FieldType.Unsigned
            writer.delete_documents_by_query(tantivy.Query.range_query(index.schema, _ROW, kind, first))
            for row, passage in part.passages.since(first):
                document = tantivy.Document()
                words = search_terms(passage.title) * _TITLE_WEIGHT + search_terms(passage.text)
                document.add_text(_WORDS, " ".join(words))
                document.add_unsigned(_ROW, row)
                writer.add_document(document)
        return 0

    def remove(self, part: IndexPart, rows: Sequence[int]) -> None:
        tantivy = _import_tantivy()
        with _writer(part.folder) as (index, writer):
            # `delete_documents_by_term` takes a Python integer for a signed one, and deletes nothing.
            writer.delete_documents_by_query(tantivy.Query.term_set_query(index.schema, _ROW, list(rows)))

    def check(self, part: IndexPart) -> None:
        self.open(part)

    def check_whole(self, part: IndexPart) -> None:
        self.check(part)
        with _reading(part.folder):
            for file in part.folder.iterdir():
                if file.suffix not in (".json", ".lock"):
                    _check_sum(file)

    def open(self, part: IndexPart) -> BM25Index:
        return BM25Index(part.folder, part.passages)


MODE = _BM25Mode()
"""Rank by shared words; needs neither torch nor Chroma."""
