"""Reciprocal rank fusion of several rankings (Cormack, Clarke and Büttcher, SIGIR 2009).

A passage scores the sum of `1 / (k + rank)` over the rankings that hold it, ranks counted from 1. Scores of
different backends can't be compared; ranks can.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from masksearch_agent.records import Passage, ScoredPassage
from masksearch_agent.retrieval.backends import RetrieverMode, SearchBackend, asearch_of, searched_passages_of

__all__ = ("MODE", "HybridIndex", "fuse_rankings")

_MIN_DEPTH = 20


def fuse_rankings(
    rankings: Sequence[Sequence[ScoredPassage]], limit: int, *, k: int = 60
) -> list[ScoredPassage]:
    """Merge rankings of one query into one; equal scores stand in the order of first appearance."""
    scores: dict[str, float] = {}
    passages: dict[str, Passage] = {}
    for ranking in rankings:
        for rank, hit in enumerate(ranking, start=1):
            passages.setdefault(hit.passage.id, hit.passage)
            scores[hit.passage.id] = scores.get(hit.passage.id, 0.0) + 1 / (k + rank)
    best = sorted(scores, key=lambda passage_id: -scores[passage_id])[:limit]
    return [ScoredPassage(passages[passage_id], scores[passage_id]) for passage_id in best]


@dataclass(frozen=True)
class HybridIndex:
    """Searches several backends and fuses their rankings; an earlier backend wins a tie."""

    parts: Sequence[SearchBackend]
    k: int = 60
    """Constant of the fusion: a larger one lets low ranks count for more."""

    @property
    def searched_passages(self) -> Sequence[Passage]:
        """The passages of all parts; none where these are not known to be the same."""
        first, *others = map(searched_passages_of, self.parts)
        return first if all(passages is first for passages in others) else ()

    def search(self, queries: Sequence[str], limit: int) -> list[list[ScoredPassage]]:
        """Return the fused ranking for each query."""
        return self._fuse([part.search(queries, _depth(limit)) for part in self.parts], limit)

    async def asearch(self, queries: Sequence[str], limit: int) -> list[list[ScoredPassage]]:
        """Search all parts at once and fuse."""
        found = await asyncio.gather(*(asearch_of(part, queries, _depth(limit)) for part in self.parts))
        return self._fuse(found, limit)

    def _fuse(self, found: Sequence[list[list[ScoredPassage]]], limit: int) -> list[list[ScoredPassage]]:
        return [fuse_rankings(rankings, limit, k=self.k) for rankings in zip(*found, strict=True)]


def _depth(limit: int) -> int:
    """Look deeper than asked: what stands high in both rankings may stand low in each."""
    return max(2 * limit, _MIN_DEPTH)


class _HybridMode(RetrieverMode):
    parts = ("bm25", "dense")

    def fuse(self, backends: Sequence[SearchBackend], rrf_k: int) -> HybridIndex:
        return HybridIndex(backends, k=rrf_k)


MODE = _HybridMode()
"""Rank by shared words and by meaning."""
