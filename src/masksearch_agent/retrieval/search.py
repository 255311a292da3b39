"""The one search that the graphs call, whatever ranks behind it.

It withholds passages that would give a training task away, and it remembers what it has seen where a run of ours asks
for it (rollouts of one question repeat each other's queries): what an application's own source returns may depend on
who asks and when, and is never remembered. Sync and async calls share one plan, so that both give the same results.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection, Generator, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from itertools import chain, islice, zip_longest
from threading import Lock
from typing import TypeVar

from masksearch_agent.errors import RetrievalError
from masksearch_agent.records import Passage, ScoredPassage
from masksearch_agent.retrieval.backends import SearchBackend, asearch_of, searched_passages_of
from masksearch_agent.retrieval.leak_guard import LeakGuard
from masksearch_agent.retrieval.phrase_sketch import PhraseSketch
from masksearch_agent.text.cleaning import encodable

__all__ = ("Search", "cut_to_words", "interleave")

_RUN_CACHE_SIZE = 50_000
"""Result lists that a search remembers which is opened for a run of ours, and is gone with it."""

_ResultT = TypeVar("_ResultT")
_Hits = tuple[ScoredPassage, ...]
_Rankings = list[list[ScoredPassage]]
"""One list per query, best first."""
_Plan = Generator[tuple[list[str], int], _Rankings | None, _ResultT]
"""Asks for the rankings of queries, so many passages of each, and is told them."""

_EXTRA = 4
"""Passages fetched beyond the limit where some may be withheld."""
_MAX_FETCH = 512
"""Where to stop looking deeper when a guard withholds nearly everything."""
_MAX_SKETCHED = 50_000
"""Passages that are read to tell what they cannot hold, in some five seconds. More of them hold nearly everything."""


class Search:
    """Searches a backend, with a leak guard and perhaps a cache. Safe to share between threads and event loops.

    Args:
        backend: What ranks the passages.
        cache_size: Result lists to remember, by query and number alone, the least recently used leaving first; 0
            remembers none, as is right for a source whose answers depend on the caller or change while it is open.
        is_guarded: False withholds nothing, whatever guard a search comes with: to measure what the guard is worth.
        shows_copies: True returns the same title and text once for each document of an index that has it, else the
            best alone.
    """

    def __init__(
        self,
        backend: SearchBackend,
        *,
        cache_size: int = 0,
        is_guarded: bool = True,
        shows_copies: bool = False,
    ) -> None:
        self._backend = backend
        self._is_guarded = is_guarded
        self._shows_copies = shows_copies
        self._cache_size = cache_size
        self._cache: OrderedDict[tuple[str, int], _Hits] = OrderedDict()
        self._lock = Lock()
        self._sketch_lock = Lock()

    def for_run(self) -> Search:
        """Return a search over the same backend with a cache of its own, for a run; this one where it has a cache."""
        if self._cache_size:
            return self
        return Search(
            self._backend,
            cache_size=_RUN_CACHE_SIZE,
            is_guarded=self._is_guarded,
            shows_copies=self._shows_copies,
        )

    def search(self, queries: Sequence[str], limit: int, guard: LeakGuard | None = None) -> _Rankings:
        """Return one list of at most `limit` passages per query, best first; a blank query finds nothing.

        In place of copies and of passages that the guard withholds others move up, as far as there are any.

        Raises:
            RetrievalError: If the limit is below 1, or the backend broke its contract.
        """
        return self._carry_out(self._plan(queries, limit, guard))

    def prefetch(self, queries: Sequence[str], limit: int) -> None:
        """Rank queries in one request, so that guarded searches for them with this limit find them in the cache.

        As far as the cache is large enough; what a guard withholds may still need a deeper request.
        """
        normal = dict.fromkeys(filter(None, map(_normal, queries)))
        fetch = limit + _EXTRA if self._is_guarded else limit
        self._carry_out(self._look_up(list(normal)[: self._cache_size], fetch))

    def _carry_out(self, plan: _Plan[_ResultT]) -> _ResultT:
        rankings = None
        while True:
            try:
                request = plan.send(rankings)
            except StopIteration as finished:
                result: _ResultT = finished.value
                return result
            rankings = self._backend.search(*request)

    def may_find(self, phrase: str, besides: str = "") -> bool:
        """Return False where no search finds a passage with the phrase, because none holds it; else True.

        The first call reads all passages, where the backend says which these are and they are not too many. The phrase
        is compared as `matching.contains_phrase` does; `besides` is the passage that the searches' guard withholds.
        """
        with self._sketch_lock:
            sketch = self._sketch
        return sketch is None or sketch.may_hold(phrase, besides if self._is_guarded else "")

    @property
    def is_traced(self) -> bool:
        """Whether what is searched tells callbacks of each query itself, as a retriever's run."""
        return getattr(self._backend, "is_traced", False)

    @property
    def passages(self) -> Sequence[Passage]:
        """All that a search could return, where the backend says which these are; empty where it can't."""
        return searched_passages_of(self._backend)

    @property
    def identity(self) -> str:
        """What is searched, as far as the backend tells: its name or else its type, and of an index its passages."""
        kind = str(getattr(self._backend, "name", type(self._backend).__name__))
        passages = self.passages
        return f"{kind}, {getattr(passages, 'fingerprint', len(passages))}" if len(passages) else kind

    @cached_property
    def _sketch(self) -> PhraseSketch | None:
        return PhraseSketch(self.passages) if 0 < len(self.passages) <= _MAX_SKETCHED else None

    async def asearch(self, queries: Sequence[str], limit: int, guard: LeakGuard | None = None) -> _Rankings:
        """Return what `search` returns, without blocking the event loop."""
        plan = self._plan(queries, limit, guard)
        rankings = None
        while True:
            try:
                request = plan.send(rankings)
            except StopIteration as finished:
                return list(finished.value)
            rankings = await asearch_of(self._backend, *request)

    def _plan(self, queries: Sequence[str], limit: int, guard: LeakGuard | None) -> _Plan[_Rankings]:
        given = list(queries)
        if isinstance(queries, str) or not all(isinstance(query, str) for query in given):
            raise RetrievalError(f"queries is {str(queries)[:80]!r}; expected a list of strings")
        if not isinstance(limit, int) or limit < 1:
            raise RetrievalError(f"search limit is {limit!r}; expected at least 1")
        guard = guard if self._is_guarded else None
        normal = list(map(_normal, given))
        kept: dict[str, list[ScoredPassage]] = {}
        pending = list(dict.fromkeys(filter(None, normal)))
        fetch = limit if guard is None else limit + _EXTRA
        # What another source returns twice may be two things to it, and asking again may cost.
        drops_copies = not self._shows_copies and len(self.passages) > 0
        while pending:
            found = yield from self._look_up(pending, fetch)
            short = []
            for query, hits in found.items():
                allowed = (hit for hit in hits if guard is None or not guard.withholds(hit.passage))
                kept[query] = list(islice(_distinct(allowed) if drops_copies else allowed, limit))
                is_cut = guard is not None or drops_copies
                if is_cut and len(kept[query]) < limit and len(hits) >= fetch:
                    short.append(query)
            pending = short if fetch < _MAX_FETCH else []
            fetch *= 2
        return [list(kept.get(query, ())) for query in normal]

    def _look_up(self, queries: list[str], limit: int) -> _Plan[dict[str, _Hits]]:
        """Answer from the cache what it knows, and ask for the rest in one request."""
        with self._lock:
            known = {query: self._cache[query, limit] for query in queries if (query, limit) in self._cache}
            for query in known:
                self._cache.move_to_end((query, limit))
        missing = [query for query in queries if query not in known]
        if not missing:
            return known
        rankings = (yield missing, limit) or []
        if len(rankings) != len(missing):
            raise RetrievalError(
                f"{type(self._backend).__name__} returned {len(rankings)} result lists for {len(missing)} "
                "queries; a backend must return one list per query"
            )
        fresh = {
            query: tuple(map(_written, ranking[:limit]))
            for query, ranking in zip(missing, rankings, strict=True)
        }
        with self._lock:
            self._cache.update({(query, limit): hits for query, hits in fresh.items()})
            while len(self._cache) > self._cache_size:
                self._cache.popitem(last=False)
        return {query: known[query] if query in known else fresh[query] for query in queries}


def _normal(query: str) -> str:
    # Tokenizers and HTTP clients refuse half surrogates, and with them all queries of a batch.
    return " ".join(encodable(query).split())


def _written(hit: ScoredPassage) -> ScoredPassage:
    # Snippets are cut within a character, and neither a chat model nor a client can be sent half of one.
    passage = hit.passage
    texts = (passage.title, passage.text, passage.source)
    title, text, source = map(encodable, texts)
    if (title, text, source) == texts:
        return hit
    return replace(hit, passage=replace(passage, title=title, text=text, source=source))


def _distinct(hits: Iterable[ScoredPassage]) -> Iterator[ScoredPassage]:
    shown: set[tuple[str, str]] = set()
    for hit in hits:
        content = (hit.passage.title, hit.passage.text)
        if content not in shown:
            shown.add(content)
            yield hit


def cut_to_words(passage: Passage, limit: int | None) -> Passage:
    """Return a passage with at most so many words of its text, separated by spaces; None leaves it whole."""
    words = [] if limit is None else passage.text.split()
    return replace(passage, text=" ".join(words[:limit])) if len(words) > (limit or 0) else passage


def interleave(
    results: Sequence[Sequence[ScoredPassage]], limit: int, besides: Collection[str] = ()
) -> list[ScoredPassage]:
    """Merge the results of several queries: the best of each in turn, then the second best, and so on.

    A passage that several queries found counts once; one whose id is in `besides` is left out.
    """
    distinct: dict[str, ScoredPassage] = {}
    for hit in filter(None, chain.from_iterable(zip_longest(*results))):
        if hit.passage.id not in besides:
            distinct.setdefault(hit.passage.id, hit)
    return list(distinct.values())[:limit]
