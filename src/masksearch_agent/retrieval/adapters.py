"""Search with what an application already has: a retriever, a tool, a vector store, a function; or by a name.

Async calls use the object's own async method, so that LangChain's callbacks, tracing and cancellation keep
working; a plain function runs in a thread. Whatever is asked is given the caller's `RunnableConfig`, so that it can
tell one user from another, and nothing of what it answers is remembered.
"""

from __future__ import annotations

import inspect
from functools import partial
from pathlib import Path
from typing import Any

from langchain_core.retrievers import BaseRetriever
from langchain_core.runnables import ensure_config
from langchain_core.tools import BaseTool
from langchain_core.utils.pydantic import model_json_schema
from langchain_core.vectorstores import VectorStore, VectorStoreRetriever

from masksearch_agent.config.calls import CallSettings
from masksearch_agent.config.retrieval import RetrievalSettings, WebSearchSettings
from masksearch_agent.errors import RetrievalError
from masksearch_agent.retrieval.backends import SearchBackend
from masksearch_agent.retrieval.index import open_index
from masksearch_agent.retrieval.patient import PatientBackend
from masksearch_agent.retrieval.results import AwaitedSource, Source
from masksearch_agent.retrieval.search import Search
from masksearch_agent.retrieval.web import open_web_search, web_source

__all__ = ("as_search", "open_search")


def open_search(index: str | Path, settings: RetrievalSettings) -> Search:
    """Open what a run searches by its name: the folder of an index, or `web:` and the name of a web search.

    The search has a cache, and is to live no longer than the run.

    Raises:
        RetrievalError: There is no such index.
        ServiceRefusedError: The web search lacks its key.
    """
    source = web_source(str(index))
    if source is not None:
        return open_web_search(source, settings.web).for_run()
    return Search(open_index(Path(index), settings.chosen_mode)).for_run()


def as_search(obj: object, *, cache_size: int = 0, calls: CallSettings | None = None) -> Search:
    """Return a `Search` over anything that can search.

    Args:
        obj: A `Search` (returned as it is), a `SearchBackend`, the path of an index folder, a web search by its name
            (`web:wikipedia`), a LangChain retriever, tool (called with one string) or vector store, or a function, sync
            or async, that takes a query and returns strings, documents or passages.
        cache_size: Result lists to remember, whoever asks; only for a source that answers everybody alike, and whose
            answers do not change.
        calls: Timeout, retries and rate for a source that is reached over a network and has none of its own;
            None asks it once. A web search has its own.

    Raises:
        RetrievalError: If `obj` is none of these, a path without an index, or a tool that needs more than a query.
    """
    if isinstance(obj, Search):
        return obj
    source = web_source(str(obj)) if isinstance(obj, str | Path) else None
    if source is not None:
        # The cache on disk is for runs, which have a folder; whoever only searches wants no file.
        return open_web_search(source, WebSearchSettings(cache=None))
    backend = _backend(obj)
    if calls is not None:
        backend = PatientBackend(backend, f"the search over a {type(obj).__name__}", calls)
    return Search(backend, cache_size=cache_size)


def _backend(obj: object) -> SearchBackend:
    # LangChain's own types come first: a vector store too has a method named `search`.
    match obj:
        case str() | Path():
            return open_index(Path(obj))
        case BaseRetriever():
            source = AwaitedSource(
                lambda query, limit: obj.ainvoke(query, ensure_config(), **_retriever_options(obj, limit)),
                lambda query, limit: obj.invoke(query, ensure_config(), **_retriever_options(obj, limit)),
            )
            source.is_traced = True
            return source
        case BaseTool():
            wrap = partial(_tool_input, obj, _query_argument(obj))
            return AwaitedSource(
                lambda query, _: obj.ainvoke(wrap(query), ensure_config()),
                lambda query, _: obj.invoke(wrap(query), ensure_config()),
            )
        case VectorStore():
            return AwaitedSource(
                lambda query, limit: obj.asimilarity_search(query, k=limit),
                lambda query, limit: obj.similarity_search(query, k=limit),
            )
        case SearchBackend() if not isinstance(obj, type):
            return obj
    if not callable(obj) or isinstance(obj, type):
        what = f"the class {obj.__name__}" if isinstance(obj, type) else f"a {type(obj).__name__}"
        raise RetrievalError(
            f"cannot search with {what}; expected a Search, a SearchBackend, the path of an index folder, a "
            "LangChain retriever, tool or vector store, or a function that takes a query and returns "
            "strings, documents or passages"
        )
    if inspect.iscoroutinefunction(obj) or inspect.iscoroutinefunction(getattr(obj, "__call__", None)):  # noqa: B004
        return AwaitedSource(lambda query, _: obj(query))
    return Source(lambda query, _: obj(query))


def _retriever_options(retriever: BaseRetriever, limit: int) -> dict[str, Any]:
    # Only a vector store's retriever takes the number of results with a call; others return their own number, and so
    # does one whose owner has set it.
    takes_k = isinstance(retriever, VectorStoreRetriever) and "k" not in retriever.search_kwargs
    return {"k": limit} if takes_k else {}


def _query_argument(tool: BaseTool) -> str:
    """Return the name of the argument that takes the query."""
    schema = tool.tool_call_schema
    described = schema if isinstance(schema, dict) else model_json_schema(schema)
    names = list(described.get("properties", {}))
    required = list(described.get("required", []))
    if not names or len(required) > 1:
        takes = ", ".join(required or names) or "no argument"
        raise RetrievalError(
            f"cannot search with the tool {tool.name!r}: it takes {takes}; expected one argument, the query"
        )
    return str(next((name for name in (*required, "query") if name in names), names[0]))


def _tool_input(tool: BaseTool, argument: str, query: str) -> dict[str, Any]:
    arguments = {argument: query}
    if tool.response_format == "content":
        return arguments
    # An artifact is only returned to a tool call.
    return {"type": "tool_call", "id": "search", "name": tool.name, "args": arguments}
