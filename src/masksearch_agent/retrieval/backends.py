"""What a search backend is: queries in, ranked passages out.

A backend only ranks. Caching, withholding and merging belong to `Search`, so that they behave the same over
an index of our own, a LangChain retriever and a web search.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from masksearch_agent.records import Passage, ScoredPassage

__all__ = ("AsyncSearchBackend", "ListedBackend", "SearchBackend")


@runtime_checkable
class SearchBackend(Protocol):
    """Ranks passages for queries."""

    def search(self, queries: Sequence[str], limit: int) -> list[list[ScoredPassage]]:
        """Return one list per query, best first, of at most `limit` passages."""
        ...


@runtime_checkable
class AsyncSearchBackend(SearchBackend, Protocol):
    """A backend that may be awaited on the event loop: it waits there, or is done at once.

    A backend without `asearch` is run in a thread when called from async code.
    """

    async def asearch(self, queries: Sequence[str], limit: int) -> list[list[ScoredPassage]]:
        """Return what `search` returns."""
        ...


@runtime_checkable
class ListedBackend(SearchBackend, Protocol):
    """A backend that can say what it ranks, as an index can and a web search cannot."""

    @property
    def searched_passages(self) -> Sequence[Passage]:
        """All that a search could return; none where that is not known."""
        ...
