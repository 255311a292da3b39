"""Search by meaning: sentence embeddings in Chroma, compared by cosine; or what a LangChain vector store finds.

Only vectors and rows go into Chroma; the passages themselves are read from the index's own file, so that every backend
returns the same records. What is kept where is told by a file of the part (`_vector_stores`).
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from itertools import chain, islice
from pathlib import Path
from threading import Lock
from typing import Any

from masksearch_agent.errors import RetrievalError, needs_extra
from masksearch_agent.files import replace_text
from masksearch_agent.records import Passage, ScoredPassage
from masksearch_agent.retrieval.backends import IndexPart, RetrieverMode, SearchBackend
from masksearch_agent.retrieval.embedders import Embedder, embed_each
from masksearch_agent.retrieval.modes._vector_stores import (
    ChromaVectors,
    StoredTexts,
    StoreIndex,
    VectorPlace,
    check_chroma,
    choose_place,
    embedded_text,
)
from masksearch_agent.retrieval.passages import PassageFile

with needs_extra("index"):
    import numpy as np

__all__ = ("MODE", "CallMerger", "DenseIndex")

_VECTORS = "vectors.f32"
"""Beside Chroma's files: the vectors by row, to build the next index from; zeros where there is none."""
_GAPS = "gaps.json"
"""The rows of passages that could not be embedded."""
_PROBED = 10
"""Passages that a search has to find, whatever for; where Chroma's graph is gone, it finds those added last."""
_BATCH = 4096
"""Passages embedded and added at a time: enough to sort by length, little enough to hold."""

logger = logging.getLogger(__name__)


class CallMerger:
    """Turns concurrent calls into few large ones: runs a function of a list, in one thread, over all that waits for it.

    A hundred rollouts that search at the same time each bring one query, and embedding them one by one costs several
    times what embedding them together does. Whatever arrives while a call is running goes into the next one, so nobody
    waits for a timer and a lone caller loses nothing.
    """

    def __init__(self, function: Callable[[list[Any]], Sequence[Any]]) -> None:
        self._function = function
        self._waiting: list[tuple[list[Any], Future[list[Any]]]] = []
        self._lock = Lock()
        self._worker = ThreadPoolExecutor(max_workers=1, thread_name_prefix="merged-calls")

    def submit(self, items: Sequence[Any]) -> Future[list[Any]]:
        """Return a future of the results for `items`."""
        future: Future[list[Any]] = Future()
        with self._lock:
            self._waiting.append((list(items), future))
        self._worker.submit(self._run)
        return future

    def _run(self) -> None:
        with self._lock:
            calls, self._waiting = self._waiting, []
        calls = [call for call in calls if call[1].set_running_or_notify_cancel()]
        if not calls:  # An earlier run took them along, or nobody waits any more.
            return
        try:
            results = self._function([item for items, _ in calls for item in items])
        except Exception as failure:  # noqa: BLE001 - raised again where the caller waits
            if len(calls) == 1:
                calls[0][1].set_exception(failure)
                return
            for items, future in calls:  # Each by itself: what one brings must not fail the others.
                try:
                    future.set_result(list(self._function(items)))
                except Exception as of_call:  # noqa: BLE001
                    future.set_exception(of_call)
            return
        rest = iter(results)
        for items, future in calls:
            future.set_result(list(islice(rest, len(items))))


class DenseIndex:
    """Nearest passages in a Chroma collection, which holds the vectors of these passages by this embedder."""

    def __init__(self, vectors: ChromaVectors, passages: PassageFile, embedder: Embedder) -> None:
        self._vectors = vectors
        self.searched_passages = passages
        """All passages of the index, in its order."""
        self._embedder = embedder
        self._merger = CallMerger(lambda texts: list(embedder.embed(texts)))

    def search(self, queries: Sequence[str], limit: int) -> list[list[ScoredPassage]]:
        """Return the nearest passages for each query, scored by cosine."""
        return self._nearest(self._embedder.embed(queries), limit) if queries else []

    async def asearch(self, queries: Sequence[str], limit: int) -> list[list[ScoredPassage]]:
        """Search; queries of concurrent calls are embedded together."""
        if not queries:
            return []
        embedded = await asyncio.wrap_future(self._merger.submit(queries))
        vectors = np.stack(embedded)
        if self._vectors.is_remote:
            return await asyncio.to_thread(self._nearest, vectors, limit)
        # Under a millisecond, less than handing it to a thread and back costs when many runs search at once.
        return self._nearest(vectors, limit)

    def _nearest(self, vectors: np.ndarray[Any, Any], limit: int) -> list[list[ScoredPassage]]:
        passages = self.searched_passages
        first = self._vectors.nearest(vectors, limit)

        def rank(place: int, wanted: int) -> list[tuple[int, float]]:
            return first[place] if wanted == limit else self._vectors.nearest(vectors[[place]], wanted)[0]

        return [passages.best(partial(rank, place), limit) for place in range(len(vectors))]


_FindVectors = Callable[[np.ndarray[Any, Any]], dict[int, np.ndarray[Any, Any]]]
"""Returns the known vectors of texts, given by their hashes, by where these stand."""


def _known_vectors(folder: Path, texts: np.ndarray[Any, Any]) -> _FindVectors:
    """Return what finds the vectors of an index, whose texts have these hashes, in the order of its rows.

    Chroma is not opened: it would write to its files. Vectors that are missing or damaged are not known.
    """
    try:
        shape = (len(texts), VectorPlace.read(folder).size)
        vectors = np.memmap(folder / _VECTORS, dtype=np.float32, mode="r", shape=shape)
    except (OSError, ValueError, RetrievalError) as failure:
        logger.warning("embedding all passages again: cannot read the vectors in %s: %s", folder, failure)
        return lambda wanted: {}
    order = np.argsort(texts, kind="stable")
    texts = texts[order]

    def find(wanted: np.ndarray[Any, Any]) -> dict[int, np.ndarray[Any, Any]]:
        places = np.minimum(np.searchsorted(texts, wanted), len(texts) - 1)
        found = {int(at): vectors[order[places[at]]] for at in np.flatnonzero(texts[places] == wanted)}
        return {at: vector for at, vector in found.items() if vector.any()}

    return find


def _add_vectors(part: IndexPart, first: int, find_known: _FindVectors) -> int:
    """Embed the passages from a row on and those that have no vector yet, but for known vectors; keep the vectors."""
    place, passages = VectorPlace.read(part.folder), part.passages
    texts, is_there = passages.rows["text"], passages.is_there()
    again = [row for row in _read_gaps(part.folder) if row < first and is_there[row]]
    new = chain(((row, passages.at(row)) for row in again), passages.since(first))
    embedded, gaps, path = 0, list[int](), part.folder / _VECTORS
    path.touch()
    with ChromaVectors(part.folder, place) as vectors, path.open("r+b") as file:
        file.truncate(4 * place.size * first)
        while batch := list(islice(new, min(_BATCH, vectors.max_batch))):
            rows = np.array([row for row, _ in batch])
            found = find_known(texts[rows])
            missing = {offset: passage for offset, (_, passage) in enumerate(batch) if offset not in found}
            if missing:
                made = _embed(part, missing)
                found |= made
                embedded += len(made)
            gaps += [row for offset, (row, _) in enumerate(batch) if offset not in found]
            if found:
                rows = rows[sorted(found)]
                stacked = np.stack([found[offset] for offset in sorted(found)]).astype(np.float32, copy=False)
                place = place.sized(part.folder, stacked.shape[1])
                for row, vector in zip(rows, stacked, strict=True):
                    file.seek(4 * place.size * int(row))
                    file.write(vector.tobytes())
                vectors.put(rows, stacked)
            elif not place.size:
                why = next(iter(part.failures.reasons))
                raise RetrievalError(f"{len(batch)} passages, and none can be embedded: {why}")
        file.truncate(4 * place.size * len(passages.rows))
    replace_text(part.folder / _GAPS, json.dumps(gaps))
    return embedded


def _embed(part: IndexPart, passages: dict[int, Passage]) -> dict[int, np.ndarray[Any, Any]]:
    """Return the vectors of passages by their keys; count those that have none."""
    keys, texts = list(passages), [embedded_text(passage) for passage in passages.values()]

    def note(place: int, failure: Exception) -> None:
        part.failures.add(f"passage {passages[keys[place]].id}", failure)

    return {keys[place]: vector for place, vector in embed_each(part.embedder, texts, note).items()}


def _read_gaps(folder: Path) -> list[int]:
    try:
        gaps = json.loads((folder / _GAPS).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return []
    except (OSError, ValueError, RecursionError) as failure:
        raise RetrievalError(f"cannot read the dense index in {folder}: {failure}") from failure
    if not isinstance(gaps, list) or not all(isinstance(row, int) for row in gaps):
        raise RetrievalError(f"cannot read the dense index in {folder}: {_GAPS} is no list of rows")
    return gaps


class _DenseMode(RetrieverMode):
    embeds = True
    grows = True

    def build(self, part: IndexPart, older: IndexPart | None) -> int:
        part.folder.mkdir()
        if choose_place(part.dense).write(part.folder).store:
            return StoredTexts(part).add(0)
        if older is None:
            return _add_vectors(part, 0, lambda wanted: {})
        return _add_vectors(part, 0, _known_vectors(older.folder, older.passages.rows["text"]))

    def add(self, part: IndexPart, first: int) -> int:
        if VectorPlace.read(part.folder).store:
            return StoredTexts(part).add(first)
        return _add_vectors(part, first, _known_vectors(part.folder, part.passages.rows["text"][:first]))

    def remove(self, part: IndexPart, rows: Sequence[int]) -> None:
        place = VectorPlace.read(part.folder)
        if place.store:
            StoredTexts(part).remove(rows)
            return
        with ChromaVectors(part.folder, place) as vectors:
            vectors.remove(rows)

    def drop(self, part: IndexPart) -> None:
        place = VectorPlace.read(part.folder)
        if place.store:
            StoredTexts(part).remove(range(len(part.passages.rows)))
        elif place.url:
            with ChromaVectors(part.folder, place) as vectors:
                vectors.drop()

    def check(self, part: IndexPart) -> None:
        place = VectorPlace.read(part.folder)
        _read_gaps(part.folder)
        if not place.store and not place.url:
            check_chroma(part.folder)

    def check_whole(self, part: IndexPart) -> None:
        self.check(part)
        place = VectorPlace.read(part.folder)
        if place.store or place.url:
            return
        with self._open_vectors(part, place) as vectors:
            probed = min(vectors.count, _PROBED)
            [found] = vectors.nearest(np.ones((1, place.size), dtype=np.float32), probed or 1)
        if len(found) < probed:
            raise RetrievalError(f"the dense index in {part.folder} finds {len(found)} of {probed} passages")

    def open(self, part: IndexPart) -> SearchBackend:
        place = VectorPlace.read(part.folder)
        if place.store:
            return StoreIndex(StoredTexts(part), part.passages)
        return DenseIndex(self._open_vectors(part, place), part.passages, part.embedder)

    def _open_vectors(self, part: IndexPart, place: VectorPlace) -> ChromaVectors:
        extent = part.passages.extent
        vectors = ChromaVectors(part.folder, place, version=extent.rows + extent.dead)
        expected = len(part.passages) - sum(map(part.passages.has, _read_gaps(part.folder)))
        if vectors.count < expected:
            raise RetrievalError(
                f"the dense index in {part.folder} holds {vectors.count} passages; expected {expected}"
            )
        return vectors


MODE = _DenseMode()
"""Rank by meaning."""
