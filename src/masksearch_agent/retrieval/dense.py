"""Search by meaning: sentence embeddings in Chroma, compared by cosine.

Only vectors and passage ids go into Chroma; the passages themselves are read from the index's own file, so
that every backend returns the same records.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from masksearch_agent.errors import MissingExtraError, RetrievalError
from masksearch_agent.records import Passage, ScoredPassage
from masksearch_agent.retrieval.batching import CallMerger
from masksearch_agent.retrieval.embedders import Embedder

if TYPE_CHECKING:
    import numpy as np

__all__ = ("DenseIndex",)

_COLLECTION = "passages"

# Chroma's default of 100 misses close neighbours where vectors are spread out; this costs 0.1 ms a query.
_HNSW = {"space": "cosine", "ef_search": 200, "ef_construction": 200}


class DenseIndex:
    """Nearest passages in a Chroma collection on disk.

    Args:
        directory: Where `build` wrote the collection.
        passages: The passages it was built from, in the same order.
        embedder: The embedder it was built with.

    Raises:
        RetrievalError: If the collection is missing, damaged or of other passages.
    """

    def __init__(self, directory: Path, passages: Sequence[Passage], embedder: Embedder) -> None:
        chroma_error = _import_chromadb().errors.ChromaError
        if not directory.is_dir():
            raise RetrievalError(f"no dense index in {directory}")
        try:
            # Kept with the collection, which is unusable once its client is gone.
            self._client = _open_client(directory)
            self._collection = self._client.get_collection(_COLLECTION, embedding_function=None)
            count = self._collection.count()
        except (chroma_error, ValueError) as failure:
            raise RetrievalError(f"cannot read the dense index in {directory}: {failure}") from failure
        if count != len(passages):
            raise RetrievalError(
                f"the dense index in {directory} holds {count} passages; expected {len(passages)}"
            )
        self._passages = passages
        self._embedder = embedder
        self._merger: CallMerger[str, Any] = CallMerger(lambda texts: list(embedder.embed(texts)))

    @staticmethod
    def build(directory: Path, passages: Sequence[Passage], embedder: Embedder) -> None:
        """Embed passages and write the collection into a new folder."""
        vectors = embedder.embed(
            [f"{each.title}: {each.text}" if each.title else each.text for each in passages]
        )
        with _open_client(directory) as client:
            collection = client.create_collection(
                _COLLECTION, configuration={"hnsw": _HNSW}, embedding_function=None
            )
            step = client.get_max_batch_size()
            for start in range(0, len(passages), step):
                stop = min(start + step, len(passages))
                positions = [str(position) for position in range(start, stop)]
                collection.add(ids=positions, embeddings=vectors[start:stop])

    def search(self, queries: Sequence[str], limit: int) -> list[list[ScoredPassage]]:
        """Return the nearest passages for each query, scored by cosine."""
        return self._nearest(self._embedder.embed(queries), limit) if queries else []

    async def asearch(self, queries: Sequence[str], limit: int) -> list[list[ScoredPassage]]:
        """Search; queries of concurrent calls are embedded together."""
        if not queries:
            return []
        import numpy as np

        vectors = await asyncio.wrap_future(self._merger.submit(queries))
        # Under a millisecond, less than handing it to a thread and back costs when many runs search at once.
        return self._nearest(np.stack(vectors), limit)

    def _nearest(self, vectors: np.ndarray[Any, Any], limit: int) -> list[list[ScoredPassage]]:
        found = self._collection.query(
            query_embeddings=vectors, n_results=min(limit, len(self._passages)), include=["distances"]
        )
        return [
            [
                ScoredPassage(self._passages[position], 1.0 - distance)
                for distance, position in sorted(zip(distances, map(int, positions), strict=True))
            ]
            for positions, distances in zip(found["ids"], found["distances"], strict=True)
        ]


def _open_client(directory: Path) -> Any:
    chromadb = _import_chromadb()
    settings = chromadb.config.Settings(anonymized_telemetry=False)
    return chromadb.PersistentClient(str(directory), settings=settings)


def _import_chromadb() -> Any:
    try:
        import chromadb
        import chromadb.errors
    except ImportError as failure:
        raise MissingExtraError("chromadb", "index") from failure
    return chromadb
