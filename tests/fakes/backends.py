"""Search backends that look queries up in a table, at once or each at its own pace."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

from masksearch_agent.records import Passage, ScoredPassage


class TableBackend:
    """Returns the passages listed for a query; an unknown query finds none."""

    def __init__(self, table: Mapping[str, Sequence[Passage]]) -> None:
        self.table = table
        self.queries: list[str] = []

    def search(self, queries: Sequence[str], limit: int) -> list[list[ScoredPassage]]:
        self.queries.extend(queries)
        return [
            [ScoredPassage(passage, 1.0) for passage in self.table.get(query, ())][:limit]
            for query in queries
        ]


class PacedBackend(TableBackend):
    """A `TableBackend` whose queries take a given time each, in seconds."""

    def __init__(self, table: Mapping[str, Sequence[Passage]], delays_s: Mapping[str, float]) -> None:
        super().__init__(table)
        self.delays_s = delays_s
        self.finished: list[str] = []
        self.running = 0
        self.most_running = 0

    async def asearch(self, queries: Sequence[str], limit: int) -> list[list[ScoredPassage]]:
        self.running += 1
        self.most_running = max(self.most_running, self.running)
        await asyncio.sleep(max((self.delays_s.get(query, 0.0) for query in queries), default=0.0))
        self.running -= 1
        self.finished.extend(queries)
        return self.search(queries, limit)
