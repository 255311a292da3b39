"""Passages, backends and embedders that can be predicted by hand."""

from __future__ import annotations

import re
import zlib
from collections.abc import Mapping, Sequence

import numpy as np

from masksearch_agent.records import Passage, ScoredPassage


def make_passages(*texts: str) -> list[Passage]:
    """Return passages `p0`, `p1`, … titled `T0`, `T1`, …"""
    return [Passage(f"p{number}", f"T{number}", text) for number, text in enumerate(texts)]


def ids(hits: Sequence[ScoredPassage]) -> list[str]:
    return [hit.passage.id for hit in hits]


class ListBackend:
    """Returns a fixed ranking per query, and records every request."""

    def __init__(self, rankings: Mapping[str, Sequence[Passage]]) -> None:
        self.rankings = rankings
        self.requests: list[tuple[list[str], int]] = []

    def search(self, queries: Sequence[str], limit: int) -> list[list[ScoredPassage]]:
        self.requests.append((list(queries), limit))
        return [
            [ScoredPassage(passage, 1 / rank) for rank, passage in enumerate(self.rankings[query], start=1)][
                :limit
            ]
            for query in queries
        ]


class AwaitableBackend(ListBackend):
    """A `ListBackend` that can be awaited."""

    async def asearch(self, queries: Sequence[str], limit: int) -> list[list[ScoredPassage]]:
        return self.search(queries, limit)


class ListedPassages(AwaitableBackend):
    """Finds nothing and says what it ranks."""

    def __init__(self, passages: Sequence[Passage]) -> None:
        super().__init__({})
        self.searched_passages = passages


class WordEmbedder:
    """Counts words in hashed buckets: texts that share words are close."""

    def __init__(self, name: str = "words", size: int = 256) -> None:
        self.name = name
        self.size = size
        self.batches: list[int] = []

    def embed(self, texts: Sequence[str]) -> np.ndarray:
        self.batches.append(len(texts))
        vectors = np.zeros((len(texts), self.size), dtype="float32")
        for row, text in enumerate(texts):
            for word in re.findall(r"\w+", text.lower()):
                vectors[row, zlib.crc32(word.encode()) % self.size] += 1
        norms = np.linalg.norm(vectors, axis=1, keepdims=True)
        return vectors / np.maximum(norms, 1e-9)
