"""Make passages of whatever a search tool, a retriever or a function returns, and a backend of what returns it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any

from langchain_core.documents import Document
from langchain_core.messages import ToolMessage
from langchain_core.runnables.config import ContextThreadPoolExecutor

from masksearch_agent.errors import RetrievalError
from masksearch_agent.records import Passage, ScoredPassage, content_id

__all__ = ("AwaitedSource", "Source", "hits_from_output", "passage_from_document")

_TEXT_KEYS = ("text", "content", "page_content", "snippet", "body")
_SOURCE_KEYS = ("source", "url", "link", "href")
_OWN_KEYS = frozenset((*_TEXT_KEYS, "id", "title", "type"))
"""What a passage has fields for, and so is no metadata of a result that is a dictionary."""
_ITEM = str | Document | Passage | ScoredPassage
_MAX_THREADS = 8


class Source:
    """A backend over a function of a query and a limit, which returns what `hits_from_output` reads."""

    is_traced = False
    """Whether what it asks tells callbacks itself, as a retriever does."""

    def __init__(self, ask: Callable[[str, int], object]) -> None:
        self._ask = ask

    def search(self, queries: Sequence[str], limit: int) -> list[list[ScoredPassage]]:
        """Return one list per query, asking for several at once."""
        if len(queries) <= 1:
            outputs = [self._ask(query, limit) for query in queries]
        else:
            with ContextThreadPoolExecutor(max_workers=min(len(queries), _MAX_THREADS)) as pool:
                outputs = list(pool.map(self._ask, queries, [limit] * len(queries)))
        return [hits_from_output(output, limit) for output in outputs]


def _refuse_sync(_query: str, _limit: int) -> object:
    raise RetrievalError("the search function is async; use an async call (ainvoke, astream, asearch)")


class AwaitedSource(Source):
    """The same over a function that is awaited, with the sync way beside it where there is one."""

    def __init__(
        self, aask: Callable[[str, int], Awaitable[object]], ask: Callable[[str, int], object] = _refuse_sync
    ) -> None:
        super().__init__(ask)
        self._aask = aask

    async def asearch(self, queries: Sequence[str], limit: int) -> list[list[ScoredPassage]]:
        """Return what `search` returns."""
        outputs = await asyncio.gather(*(self._aask(query, limit) for query in queries))
        return [hits_from_output(output, limit) for output in outputs]


def hits_from_output(output: object, limit: int) -> list[ScoredPassage]:
    """Return at most `limit` passages of a search output, in its order, scored by rank.

    Args:
        output: A string; a list of strings, dictionaries, documents or passages; a dictionary with such a
            list under `results`; a `(content, artifact)` pair or a `ToolMessage`, whose artifact is used if
            it holds passages and whose content otherwise.

    Raises:
        RetrievalError: If the output is of another form, or a tool reported an error.
    """
    if isinstance(output, ToolMessage):
        if output.status == "error":
            raise RetrievalError(f"the search tool {output.name!r} failed: {output.content}")
        output = (output.content, output.artifact)
    passages = _passages(output)
    if passages is None:
        kind = type(output).__name__
        what = (
            f"a list with a {type(output[0]).__name__}"
            if isinstance(output, list) and output
            else f"a {kind}"
        )
        raise RetrievalError(
            f"a search returned {what}; expected a str, or a list of str, dict (title and text, "
            "content or snippet), Document or Passage"
        )
    readable = [passage for passage in passages if passage.text.strip()]
    return [ScoredPassage(passage, 1 / rank) for rank, passage in enumerate(readable[:limit], start=1)]


def passage_from_document(document: Document) -> Passage:
    """Return a LangChain document as a passage.

    The id is the document's own, else `id` of its metadata, else a hash of its content; the title is the
    metadata's `title`, else its source. The metadata stays with it.
    """
    entry = {**document.metadata, "text": document.page_content}
    if document.id:
        entry["id"] = document.id
    return _passage_from_mapping(entry, document.metadata)


def _passages(output: object) -> list[Passage] | None:
    """Return the passages in an output, or None where it is of no known form."""
    if isinstance(output, tuple) and len(output) == 2 and not isinstance(output[1], _ITEM):
        content, artifact = output
        found = _passages(artifact)
        return _passages(content) if found is None else found
    if isinstance(output, Mapping) and isinstance(output.get("results"), list):
        output = output["results"]
    if isinstance(output, _ITEM | Mapping):
        output = [output]
    if not isinstance(output, Iterable):
        return None
    passages = [_passage(item) for item in output]
    known = [passage for passage in passages if passage is not None]
    return known if len(known) == len(passages) else None


def _passage(item: object) -> Passage | None:
    match item:
        case Passage():
            return item
        case ScoredPassage():
            return item.passage
        case Document():
            return passage_from_document(item)
        case str():
            return Passage(content_id("", item), "", item)
        case Mapping() if any(isinstance(item.get(key), str) for key in _TEXT_KEYS):
            return _passage_from_mapping(item, {key: item[key] for key in item if key not in _OWN_KEYS})
    return None


def _passage_from_mapping(entry: Mapping[str, Any], metadata: Mapping[str, Any]) -> Passage:
    text = next(entry[key] for key in _TEXT_KEYS if isinstance(entry.get(key), str))
    source = _first(entry, _SOURCE_KEYS)
    title = _first(entry, ("title",)) or source
    given_id = _first(entry, ("id",))
    return Passage(given_id or content_id(title, text), title, text, source=source, metadata=metadata)


def _first(entry: Mapping[str, Any], keys: tuple[str, ...]) -> str:
    return next((str(entry[key]) for key in keys if entry.get(key) not in (None, "")), "")
