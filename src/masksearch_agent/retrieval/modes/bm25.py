"""Lexical search: BM25 over titles and texts.

The scores are computed when the index is built (BM25S, arXiv 2407.03618), so that a query only adds up
sparse columns. The order is total: equal scores stand in corpus order, and a passage that shares no word
with the query is not returned.

Words are neither stemmed nor stopped: on HotpotQA and MuSiQue questions either changes recall@5 by at most
0.02, up or down, and both would tie the index to English. Chinese text, which has no spaces, is indexed by
its characters and its pairs of neighbouring characters; that needs no dictionary and knows every name.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from masksearch_agent.errors import RetrievalError, needs_extra
from masksearch_agent.records import Passage, ScoredPassage
from masksearch_agent.retrieval.backends import IndexPart, RetrieverMode
from masksearch_agent.retrieval.modes._bm25_scores import build_bm25
from masksearch_agent.text.words import search_terms

with needs_extra("index"):
    import numpy as np

__all__ = ("MODE", "BM25Index")


@dataclass(frozen=True)
class BM25Index:
    """A BM25 index, mapped into memory: what nobody asks for stays on disk, and processes share the rest."""

    model: Any
    """A fitted `bm25s.BM25`."""
    searched_passages: Sequence[Passage]
    """All passages of the index, in its order."""

    @staticmethod
    def build(directory: Path, passages: Iterable[Passage]) -> None:
        """Index passages by the words of their title and text, in a new folder: `.npy` arrays and JSON."""
        texts = (f"{each.title} {each.text}" for each in passages)
        build_bm25(_import_bm25s().BM25(), directory, texts, search_terms)

    @classmethod
    def load(cls, directory: Path, passages: Sequence[Passage]) -> BM25Index:
        """Read back what `build` wrote of the same passages.

        Raises:
            RetrievalError: If files are missing or damaged, or the index is of other passages.
        """
        bm25s = _import_bm25s()
        try:
            model = bm25s.BM25.load(directory, load_corpus=False, allow_pickle=False, mmap=True)
            count = int(model.scores["num_docs"])
            for name in ("data", "indices", "indptr"):
                # A plain array over the mapped pages is sliced twice as fast.
                model.scores[name] = model.scores[name].view(np.ndarray)
        except (OSError, ValueError, KeyError, TypeError, EOFError) as failure:
            raise RetrievalError(f"cannot read the BM25 index in {directory}: {failure}") from failure
        if count != len(passages):
            raise RetrievalError(
                f"the BM25 index in {directory} holds {count} passages; expected {len(passages)}"
            )
        return cls(model, passages)

    def search(self, queries: Sequence[str], limit: int) -> list[list[ScoredPassage]]:
        """Return the best passages for each query."""
        return [self._rank(query, limit) for query in queries]

    async def asearch(self, queries: Sequence[str], limit: int) -> list[list[ScoredPassage]]:
        """Search on the event loop: a query takes less time than handing it to a thread is worth."""
        return self.search(queries, limit)

    def _rank(self, query: str, limit: int) -> list[ScoredPassage]:
        known = [word for word in search_terms(query) if word in self.model.vocab_dict]
        if not known:
            return []
        scores = self.model.get_scores(known)
        return [ScoredPassage(self.searched_passages[i], float(scores[i])) for i in _top(scores, limit)]


def _top(scores: np.ndarray[Any, Any], limit: int) -> list[int]:
    """Return the positions of the highest positive scores; equal scores in the order of their positions."""
    floor = 0.0
    if limit < len(scores):
        floor = float(np.partition(scores, len(scores) - limit)[len(scores) - limit])
    candidates = np.flatnonzero((scores >= floor) & (scores > 0))
    order = np.argsort(-scores[candidates], kind="stable")[:limit]
    positions: list[int] = candidates[order].tolist()
    return positions


def _import_bm25s() -> Any:
    with needs_extra("index"):
        import bm25s
    return bm25s


class _BM25Mode(RetrieverMode):
    def build(self, part: IndexPart, older: IndexPart | None) -> int:
        BM25Index.build(part.folder, part.passages)
        return 0

    def check(self, part: IndexPart) -> None:
        self.open(part)

    def open(self, part: IndexPart) -> BM25Index:
        return BM25Index.load(part.folder, part.passages)


MODE = _BM25Mode()
"""Rank by shared words; needs neither torch nor Chroma."""
