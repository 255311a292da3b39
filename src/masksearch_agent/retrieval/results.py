"""Make passages of whatever a search tool, a retriever or a function returns, and a backend of what returns it."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from contextlib import suppress
from itertools import chain
from typing import Any

from langchain_core.documents import Document
from langchain_core.messages import ToolMessage
from langchain_core.runnables.config import ContextThreadPoolExecutor, ensure_config
from pydantic_core import to_jsonable_python

from masksearch_agent.concurrency import finish_in_thread, gather_bounded, is_bound_to_thread
from masksearch_agent.errors import RetrievalError
from masksearch_agent.records import Passage, ScoredPassage, content_id

__all__ = (
    "AwaitedSource",
    "Source",
    "document_of",
    "hits_from_output",
    "passage_from_document",
    "queries_at_once",
)

_TEXT_KEYS = ("text", "content", "page_content", "snippet", "body", "description", "summary")
_SOURCE_KEYS = ("source", "url", "link", "href", "uri")
_LIST_KEYS = ("structured_content", "results", "result", "documents", "passages", "context")
"""Under which a search, an MCP tool (`structured_content`, `result`) and a chain (`context`) put what they found; other
keys are looked at after these."""
_BLOCK_KEYS = {"type", "text", "id", "annotations", "index", "extras"}
"""Of a block of text of a tool's answer (LangChain's content blocks)."""
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
        return [hits_from_output(output, limit) for output in self._ask_all(queries, limit)]

    def _ask_all(self, queries: Sequence[str], limit: int) -> list[object]:
        if len(queries) > 1:
            try:
                with ContextThreadPoolExecutor(
                    max_workers=min(queries_at_once(queries), _MAX_THREADS)
                ) as pool:
                    return list(pool.map(self._ask, queries, [limit] * len(queries)))
            except Exception as failure:
                if not is_bound_to_thread(failure):
                    raise
        return [self._ask(query, limit) for query in queries]


class AwaitedSource(Source):
    """The same over a function that is awaited; sync code awaits it in a thread where no sync way is beside it."""

    def __init__(
        self,
        aask: Callable[[str, int], Coroutine[Any, Any, object]],
        ask: Callable[[str, int], object] | None = None,
    ) -> None:
        super().__init__(ask or (lambda query, limit: finish_in_thread(lambda: aask(query, limit))))
        self._aask = aask

    async def asearch(self, queries: Sequence[str], limit: int) -> list[list[ScoredPassage]]:
        """Return what `search` returns."""
        outputs = await gather_bounded(
            lambda query: self._aask(query, limit), queries, queries_at_once(queries)
        )
        return [hits_from_output(output, limit) for output in outputs]


def queries_at_once(queries: Sequence[str]) -> int:
    """Return how many queries are asked at once: all, or as many as the caller's config lets run beside each other."""
    return min(len(queries), ensure_config().get("max_concurrency") or len(queries))


def hits_from_output(output: object, limit: int) -> list[ScoredPassage]:
    """Return at most `limit` passages of a search output, in its order, scored by rank.

    Args:
        output: A string; a list of strings, dictionaries, documents or passages; a dictionary with such a
            list in it, as `{"results": […]}`; text that is such a thing as JSON; content blocks; a `(content,
            artifact)` pair or a `ToolMessage`, whose artifact is used if it holds passages and whose content otherwise.

    Raises:
        RetrievalError: If the output is of another form, or a tool reported an error.
    """
    if isinstance(output, ToolMessage):
        if output.status == "error":
            raise RetrievalError(f"the search tool {output.name!r} failed: {output.text}")
        output = (output.content, output.artifact)
    try:
        passages = _passages(output)
    except RecursionError:
        passages = None
    if passages is None:
        what = f"a {type(output).__name__}"
        if isinstance(output, list) and output:
            what = f"a list with a {type(output[0]).__name__}"
        raise RetrievalError(
            f"a search returned {what}; expected a str, or a list of str, dict (title and text, "
            "content or snippet), Document or Passage"
        )
    readable = [passage for passage in passages if passage.text.strip()]
    return [ScoredPassage(passage, 1 / rank) for rank, passage in enumerate(readable[:limit], start=1)]


def passage_from_document(document: Document) -> Passage:
    """Return a LangChain document as a passage.

    Its own id, else `id` of its metadata, becomes the `document_id`, as chunks often share it; the title is the
    metadata's `title`, else its source. The metadata stays with it.
    """
    # Integrations that build documents unchecked leave out what a row of theirs lacks.
    known, text = document.metadata or {}, document.page_content or ""
    if document.id and "document_id" in known and isinstance(known.get("position"), int):
        # It says which part of which document it is (`document_of`), so the id is its own.
        title, source = _first(known, ("title",)), _first(known, _SOURCE_KEYS)
        place = (str(known["document_id"]), known["position"], source, known)
        return Passage(document.id, title, text, *place)
    entry = {**known, "text": text}
    if document.id:
        entry["id"] = document.id
    return _passage_from_mapping(entry, known)


def document_of(passage: Passage) -> Document:
    """Return a passage as a LangChain document; the metadata that it came with goes before what else is known of it.

    Lists of the metadata, which a passage holds as tuples, are lists again.
    """
    known = {
        "title": passage.title,
        "source": passage.source,
        "document_id": passage.document_id,
        "position": passage.position,
    }
    return Document(passage.text, id=passage.id, metadata={**known, **to_jsonable_python(passage.metadata)})


def _passages(output: object) -> list[Passage] | None:
    """Return the passages in an output, or None where it is of no known form."""
    match output:
        case (content, artifact) if isinstance(output, tuple) and not isinstance(artifact, _ITEM):
            found = _passages(artifact)
            return _passages(content) if found is None else found
        case str():
            found = _from_json(output)
            return [Passage(content_id("", output), "", output)] if found is None else found
        case Mapping():
            return _from_mapping(output)
        case Document() | Passage() | ScoredPassage():
            output = [output]
    if not isinstance(output, Iterable):
        return None
    items = list(output)
    if any(_is_block(item) for item in items):
        # What is no text, an image say, is nothing to read.
        return list(chain.from_iterable(_passages(item["text"]) or () for item in items if _is_block(item)))
    passages = [_passage(item) for item in items]
    known = [passage for passage in passages if passage is not None]
    return known if len(known) == len(passages) else None


def _from_mapping(output: Mapping[str, Any]) -> list[Passage] | None:
    """Return the passages of what a mapping lists, or else of the mapping as a result; None where it is neither."""
    if _is_block(output):
        return _passages(output["text"])
    named = [output[key] for key in _LIST_KEYS if isinstance(output.get(key), list | Mapping)]
    others = [] if _is_entry(output) else list(output.values())
    lists = [value for value in others if isinstance(value, list) and value and isinstance(value[0], Mapping)]
    for value in (*named, *lists):
        found = _passages(value)
        if found is not None:
            return found
    if _is_entry(output):
        return [_passage_from_mapping(output)]
    return _passages(output["result"]) if isinstance(output.get("result"), str) else None


def _from_json(text: str) -> list[Passage] | None:
    """Return the passages of a text that is JSON of them; None for any other text, JSON or not."""
    if text.lstrip()[:1] in ("{", "["):
        with suppress(ValueError, RecursionError):
            return _passages(json.loads(text))
    return None


def _is_block(item: object) -> bool:
    """Whether something is a block of text, as tools and models answer in."""
    return isinstance(item, Mapping) and item.get("type") == "text" and item.keys() <= _BLOCK_KEYS


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
        case Mapping() if _is_entry(item):
            return _passage_from_mapping(item)
    return None


def _is_entry(item: object) -> bool:
    return isinstance(item, Mapping) and any(isinstance(item.get(key), str) for key in _TEXT_KEYS)


def _passage_from_mapping(entry: Mapping[str, Any], metadata: Mapping[str, Any] | None = None) -> Passage:
    """Return an entry as a passage; without metadata of its own, that is what a passage has no field for."""
    if isinstance(entry.get("metadata"), Mapping):  # A document as JSON.
        entry = {**entry["metadata"], **{key: value for key, value in entry.items() if key != "metadata"}}
    text_key = next(key for key in _TEXT_KEYS if isinstance(entry.get(key), str))
    title, source, given = _first(entry, ("title",)), _first(entry, _SOURCE_KEYS), _first(entry, ("id",))
    title = title or source
    if metadata is None:
        metadata = {key: entry[key] for key in entry if key not in ("id", "title", "type", text_key)}
    # An id of its own: chunks that share their document's are passages of their own all the same.
    own_id = content_id(given, title, entry[text_key]) if given else content_id(title, entry[text_key])
    return Passage(own_id, title, entry[text_key], given, source=source, metadata=metadata)


def _first(entry: Mapping[str, Any], keys: tuple[str, ...]) -> str:
    return next(filter(None, (_said(entry.get(key)) for key in keys)), "")


def _said(value: object) -> str:
    # A table's empty cell is not-a-number in pandas.
    return "" if value is None or (isinstance(value, float) and math.isnan(value)) else str(value)
