"""A search backend that can be predicted by hand."""

from __future__ import annotations

import re
from collections.abc import Sequence

from masksearch_agent.records import Passage, ScoredPassage


class OverlapBackend:
    """Ranks passages by how many distinct words of the query they hold; ties keep their order."""

    def __init__(self, passages: Sequence[Passage]) -> None:
        self.passages = tuple(passages)
        self.queries: list[str] = []

    def search(self, queries: Sequence[str], limit: int) -> list[list[ScoredPassage]]:
        self.queries.extend(queries)
        return [self._rank(query)[:limit] for query in queries]

    def _rank(self, query: str) -> list[ScoredPassage]:
        words = _words(query)
        scored = [
            ScoredPassage(passage, float(len(words & _words(f"{passage.title} {passage.text}"))))
            for passage in self.passages
        ]
        return sorted((hit for hit in scored if hit.score > 0), key=lambda hit: -hit.score)


def _words(text: str) -> set[str]:
    return set(re.findall(r"\w+", text.lower()))
