"""Search by meaning: sentence embeddings in Chroma, compared by cosine.

Only vectors and passage ids go into Chroma; the passages themselves are read from the index's own file, so
that every backend returns the same records.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from threading import Lock
from typing import Any

from masksearch_agent.errors import RetrievalError, needs_extra
from masksearch_agent.failures import Failures
from masksearch_agent.records import Passage, ScoredPassage
from masksearch_agent.retrieval.backends import IndexPart, RetrieverMode
from masksearch_agent.retrieval.embedders import Embedder, embed_each

with needs_extra("index"):
    import numpy as np

__all__ = ("MODE", "CallMerger", "DenseIndex")

_COLLECTION = "passages"
_VECTORS = "vectors.f32"
"""Beside Chroma's files: the vectors in order, to build the next index from; NaN where there is none."""
_GAPS = "gaps.json"
"""The positions of passages without a vector, where there are some."""
_BATCH = 4096
"""Passages embedded and added at a time: enough to sort by length, little enough to hold."""

# Chroma's default of 100 misses close neighbours where vectors are spread out; this costs 0.1 ms a query.
_HNSW = {"space": "cosine", "ef_search": 200, "ef_construction": 200}

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
    """Nearest passages in a Chroma collection on disk, which `build` made of the same passages and embedder.

    Raises:
        RetrievalError: If the collection is missing, damaged or of other passages.
    """

    def __init__(self, directory: Path, passages: Sequence[Passage], embedder: Embedder) -> None:
        # Kept with the collection, which is unusable once its client is gone.
        self._count = len(passages) - len(_read_gaps(directory))
        self._client, self._collection = _open_collection(directory, self._count)
        self.searched_passages = passages
        """All passages of the index, in its order."""
        self._embedder = embedder
        self._merger = CallMerger(lambda texts: list(embedder.embed(texts)))

    @staticmethod
    def build(
        directory: Path,
        passages: Sequence[Passage],
        embedder: Embedder,
        keys: Sequence[int] = (),
        known: _KnownVectors | None = None,
        failures: Failures | None = None,
    ) -> int:
        """Embed passages and write the collection into a new folder; return how many were embedded.

        The others have their vectors by their content keys from an older index by the same embedder, `known`; those
        that the embedder breaks on have none, and are counted.

        Raises:
            RetrievalError: Not one of the passages could be embedded.
        """
        embedded, gaps, failures = 0, list[int](), failures or Failures()
        gap: np.ndarray[Any, Any] | None = None
        with _open_client(directory) as client, (directory / _VECTORS).open("wb") as file:
            collection = client.create_collection(
                _COLLECTION, configuration={"hnsw": _HNSW}, embedding_function=None
            )
            step = min(_BATCH, client.get_max_batch_size())
            for start in range(0, len(passages), step):
                stop = min(start + step, len(passages))
                found = known.find(keys[start:stop]) if known else {}
                missing = [offset for offset in range(stop - start) if offset not in found]
                if missing:
                    asked = [passages[start + offset] for offset in missing]
                    new = _embed(embedder, asked, failures)
                    found |= {missing[place]: vector for place, vector in new.items()}
                    embedded += len(new)
                if found:
                    gap = np.full_like(next(iter(found.values())), np.nan, dtype=np.float32)
                elif gap is None:
                    why = next(iter(failures.reasons))
                    raise RetrievalError(f"{stop - start} passages, and none can be embedded: {why}")
                vectors = np.stack([found.get(offset, gap) for offset in range(stop - start)])
                vectors.astype(np.float32, copy=False).tofile(file)
                kept = sorted(found)
                gaps += [start + offset for offset in range(stop - start) if offset not in found]
                if kept:
                    collection.add(ids=[str(start + offset) for offset in kept], embeddings=vectors[kept])
        if gaps:
            (directory / _GAPS).write_text(json.dumps(gaps), encoding="utf-8")
        return embedded

    def search(self, queries: Sequence[str], limit: int) -> list[list[ScoredPassage]]:
        """Return the nearest passages for each query, scored by cosine."""
        return self._nearest(self._embedder.embed(queries), limit) if queries else []

    async def asearch(self, queries: Sequence[str], limit: int) -> list[list[ScoredPassage]]:
        """Search; queries of concurrent calls are embedded together."""
        if not queries:
            return []
        vectors = await asyncio.wrap_future(self._merger.submit(queries))
        # Under a millisecond, less than handing it to a thread and back costs when many runs search at once.
        return self._nearest(np.stack(vectors), limit)

    def _nearest(self, vectors: np.ndarray[Any, Any], limit: int) -> list[list[ScoredPassage]]:
        found = self._collection.query(
            query_embeddings=vectors, n_results=min(limit, self._count), include=["distances"]
        )
        return [
            [
                ScoredPassage(self.searched_passages[position], 1.0 - distance)
                for distance, position in sorted(zip(distances, map(int, positions), strict=True))
            ]
            for positions, distances in zip(found["ids"], found["distances"], strict=True)
        ]


class _KnownVectors:
    """The vectors of an older index, found by the content keys of its passages.

    Chroma is not opened: it would write to its files.

    Raises:
        RetrievalError: If the vectors are missing or damaged.
    """

    def __init__(self, directory: Path, keys: Sequence[int]) -> None:
        try:
            stored = np.memmap(directory / _VECTORS, dtype=np.float32, mode="r")
            self._vectors = stored.reshape(len(keys), -1)
        except (OSError, ValueError) as failure:
            raise RetrievalError(f"cannot read the vectors in {directory}: {failure}") from failure
        all_keys = np.array(keys, dtype=np.uint64)
        self._order = np.argsort(all_keys, kind="stable")
        self._keys = all_keys[self._order]

    def find(self, keys: Sequence[int]) -> dict[int, np.ndarray[Any, Any]]:
        """Return the known vectors by where their key stands in `keys`."""
        wanted = np.array(keys, dtype=np.uint64)
        places = np.minimum(np.searchsorted(self._keys, wanted), len(self._keys) - 1)
        offsets = np.flatnonzero(self._keys[places] == wanted)
        found = {int(offset): self._vectors[self._order[places[offset]]] for offset in offsets}
        return {offset: vector for offset, vector in found.items() if np.isfinite(vector[0])}


def _open_collection(directory: Path, count: int) -> tuple[Any, Any]:
    """Open a collection of so many passages; return it behind its client."""
    chroma_error = _import_chromadb().errors.ChromaError
    if not directory.is_dir():
        raise RetrievalError(f"no dense index in {directory}")
    try:
        client = _open_client(directory)
        collection = client.get_collection(_COLLECTION, embedding_function=None)
        found = collection.count()
    except (chroma_error, ValueError) as failure:
        raise RetrievalError(f"cannot read the dense index in {directory}: {failure}") from failure
    if found != count:
        raise RetrievalError(f"the dense index in {directory} holds {found} passages; expected {count}")
    return client, collection


def _embed(
    embedder: Embedder, passages: Sequence[Passage], failures: Failures
) -> dict[int, np.ndarray[Any, Any]]:
    """Return the vectors of passages by their places; count those that have none."""

    def note(place: int, failure: Exception) -> None:
        failures.add(f"passage {passages[place].id}", failure)

    return embed_each(embedder, [_embedded_text(passage) for passage in passages], note)


def _read_gaps(directory: Path) -> list[int]:
    """Return the positions of the passages without a vector."""
    try:
        gaps: list[int] = json.loads((directory / _GAPS).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return []
    except (OSError, ValueError) as failure:
        raise RetrievalError(f"cannot read the dense index in {directory}: {failure}") from failure
    return gaps


def _embedded_text(passage: Passage) -> str:
    return f"{passage.title}: {passage.text}" if passage.title else passage.text


def _open_client(directory: Path) -> Any:
    chromadb = _import_chromadb()
    settings = chromadb.config.Settings(anonymized_telemetry=False)
    return chromadb.PersistentClient(str(directory), settings=settings)


def _import_chromadb() -> Any:
    with needs_extra("index"):
        import chromadb
        import chromadb.errors
    return chromadb


class _DenseMode(RetrieverMode):
    embeds = True

    # Chroma would write to the files that it opens, so nothing more than the folder is checked beforehand.

    def build(self, part: IndexPart, older: IndexPart | None) -> int:
        known = None
        if older is not None:
            try:
                known = _KnownVectors(older.folder, older.passages.keys)
            except RetrievalError as failure:
                logger.warning("embedding all passages again: %s", failure)
        return DenseIndex.build(
            part.folder, part.passages, part.embedder, part.passages.keys, known, part.failures
        )

    def open(self, part: IndexPart) -> DenseIndex:
        return DenseIndex(part.folder, part.passages, part.embedder)


MODE = _DenseMode()
"""Rank by meaning."""
