"""A search over a network: timeouts, waits and retries around a backend, and a cache on disk behind it."""

from __future__ import annotations

import contextvars
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from langchain_core.runnables import run_in_executor

from masksearch_agent.calls.cache import AnswerCache
from masksearch_agent.calls.patience import PatientCaller
from masksearch_agent.concurrency import finish_in_thread, gather_bounded
from masksearch_agent.config.calls import CallSettings
from masksearch_agent.errors import RetrievalError
from masksearch_agent.jsonl import dump_record, load_record
from masksearch_agent.records import ScoredPassage
from masksearch_agent.retrieval.backends import AsyncSearchBackend, SearchBackend
from masksearch_agent.retrieval.results import queries_at_once

__all__ = ("PatientBackend",)

_MAX_THREADS = 16


class PatientBackend:
    """Asks another backend one query at a time, each with the patience of `calls.PatientCaller`.

    One that cannot be awaited runs in threads; a timeout leaves its thread behind. `name` stands for the source in
    messages and in the cache of answers, and `max_limit` is the most passages that it returns for a query.
    """

    def __init__(
        self,
        backend: SearchBackend,
        name: str,
        calls: CallSettings | None = None,
        cache: AnswerCache | None = None,
        max_limit: int | None = None,
    ) -> None:
        self.name = name
        self._backend = backend
        self._caller = PatientCaller(name, calls)
        self._cache = cache
        self._max_limit = max_limit
        self._threads = ThreadPoolExecutor(_MAX_THREADS, thread_name_prefix="masksearch-search")

    def search(self, queries: Sequence[str], limit: int) -> list[list[ScoredPassage]]:
        """Return what `asearch` returns; works inside a running event loop too."""
        return finish_in_thread(lambda: self.asearch(queries, limit))

    async def asearch(self, queries: Sequence[str], limit: int) -> list[list[ScoredPassage]]:
        """Return one list per query, best first.

        Raises:
            ServiceError: The source kept failing.
            ServiceRefusedError: The service refused for good.
        """
        wanted = limit if self._max_limit is None else min(limit, self._max_limit)
        return await gather_bounded(lambda query: self._ask(query, wanted), queries, queries_at_once(queries))

    async def _ask(self, query: str, limit: int) -> list[ScoredPassage]:
        known = self._cache.get(self.name, query, limit) if self._cache is not None else None
        if known is not None:
            return [load_record(ScoredPassage, hit, RetrievalError) for hit in known]
        hits = await self._caller.call(lambda: self._attempt(query, limit))
        if self._cache is not None:
            self._cache.put([dump_record(hit) for hit in hits], self.name, query, limit)
        return hits

    async def _attempt(self, query: str, limit: int) -> list[ScoredPassage]:
        if isinstance(self._backend, AsyncSearchBackend):
            [hits] = await self._backend.asearch([query], limit)
        else:
            run = contextvars.copy_context().run
            [hits] = await run_in_executor(self._threads, run, self._backend.search, [query], limit)
        return hits
