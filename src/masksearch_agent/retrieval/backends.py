"""What a search backend is, queries in and ranked passages out, and what a retriever mode is, which makes one.

A backend only ranks. Caching, withholding and merging belong to `Search`, so that they behave the same over
an index of our own, a LangChain retriever and a web search.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from langchain_core.runnables import run_in_executor

from masksearch_agent.concurrency import is_bound_to_thread
from masksearch_agent.errors import RetrievalError
from masksearch_agent.failures import Failures
from masksearch_agent.records import Passage, ScoredPassage
from masksearch_agent.retrieval.embedders import Embedder
from masksearch_agent.retrieval.passages import PassageFile

__all__ = (
    "AsyncSearchBackend",
    "IndexPart",
    "RetrieverMode",
    "SearchBackend",
    "asearch_of",
    "searched_passages_of",
)


@runtime_checkable
class SearchBackend(Protocol):
    """Ranks passages for queries."""

    def search(self, queries: Sequence[str], limit: int) -> list[list[ScoredPassage]]:
        """Return one list per query, best first, of at most `limit` passages."""


@runtime_checkable
class AsyncSearchBackend(SearchBackend, Protocol):
    """A backend that may be awaited on the event loop: it waits there, or is done at once.

    A backend without `asearch` is run in a thread when called from async code.
    """

    async def asearch(self, queries: Sequence[str], limit: int) -> list[list[ScoredPassage]]:
        """Return what `search` returns."""


def searched_passages_of(backend: SearchBackend) -> Sequence[Passage]:
    """Return all that a search could return where the backend can say it, as an index can and a web search cannot."""
    passages: Sequence[Passage] = getattr(backend, "searched_passages", ())
    return passages


async def asearch_of(backend: SearchBackend, queries: Sequence[str], limit: int) -> list[list[ScoredPassage]]:
    """Search without blocking the event loop: awaited where the backend can be, else in a thread.

    What only its own thread may use is searched in the caller's, which blocks.
    """
    try:
        if isinstance(backend, AsyncSearchBackend):
            return await backend.asearch(queries, limit)
        # Not `asyncio.to_thread`, which waits for ever where `next` found nothing: no future takes a StopIteration.
        return await run_in_executor(None, backend.search, queries, limit)
    except Exception as failure:
        if not is_bound_to_thread(failure):
            raise
    return backend.search(queries, limit)


@dataclass(frozen=True, slots=True)
class IndexPart:
    """The folder that one mode has in an index, and what belongs to it."""

    folder: Path
    """The mode's own; it does not exist before it is built."""
    passages: PassageFile
    """What is searched, in the order of the index."""
    embedder: Embedder
    """For a mode that embeds; it loads its model on first use."""
    dense: Any = "chroma"
    """Where vectors are kept (`RetrievalSettings.dense`); an index that is opened knows it, all but an object."""
    failures: Failures = field(default_factory=Failures)
    """Counts the passages that the part is without, because they could not be embedded."""


class RetrieverMode:
    """One way to rank the passages of an index. A plugin derives from it and is found by its name (`plugins`).

    An index has one part for each mode that it was built for. A mode either has a part of its own, and then overrides
    `open` and mostly `build`, or searches the parts of other modes together, and then sets `parts` and overrides
    `fuse`.
    """

    parts: tuple[str, ...] = ()
    """Names of the modes whose parts are searched together; none for a mode with a part of its own."""
    embeds: bool = False
    """Whether the part is made with the embedder, and can only be opened with the same one."""
    grows: bool = False
    """Whether passages can be added to a part that is there and taken out; then `add` and `remove` are overridden."""

    def build(self, part: IndexPart, older: IndexPart | None) -> int:
        """Write the part, and return how many passages were embedded.

        Args:
            part: Where, and of what. The folder is to be created.
            older: The part of the index that is replaced, to take over from what did not change; its files may be
                damaged. None where there is none, or where it was made with another embedder.
        """
        part.folder.mkdir()
        return 0

    def add(self, part: IndexPart, first: int) -> int:
        """Add the passages from a row on to a part that is there, and return how many were embedded.

        What the part holds from this row on was left by a writer that did not finish, and is replaced. Until the index
        is told of the new rows, nobody looks at them.
        """
        raise NotImplementedError(f"{type(self).__name__} has no `add`")

    def remove(self, part: IndexPart, rows: Sequence[int]) -> None:
        """Take rows out of a part; some may be out of it already."""
        raise NotImplementedError(f"{type(self).__name__} has no `remove`")

    def drop(self, part: IndexPart) -> None:
        """Give up what a part keeps elsewhere than in its folder, which is removed next."""

    def check(self, part: IndexPart) -> None:
        """Look whether the files of a part are whole, without changing them.

        Raises:
            RetrievalError: They are not; the index is then built again.
        """
        if not part.folder.is_dir():
            raise RetrievalError(f"there is no {part.folder}")

    def check_whole(self, part: IndexPart) -> None:
        """Look at more than `check` does, in time that may grow with the part: when an index is built again.

        Raises:
            RetrievalError: The files are not whole; the index is then built anew.
        """
        self.check(part)

    def open(self, part: IndexPart) -> SearchBackend:
        """Return what ranks the passages of a part that was built before.

        Raises:
            RetrievalError: Its files are missing or damaged.
        """
        raise NotImplementedError(f"{type(self).__name__} has no `open`")

    def fuse(self, backends: Sequence[SearchBackend], rrf_k: int) -> SearchBackend:
        """Return one backend over those of `parts`, in their order; `rrf_k` is that of `RetrievalSettings`."""
        return backends[0]
