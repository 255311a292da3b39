"""Search with what an application already has: a retriever, a tool, a vector store, a function; or by a name.

Async calls use the object's own async method, so that LangChain's callbacks, tracing and cancellation keep
working; a plain function runs in a thread, and so does, for sync code, what can only be awaited. Whatever is asked is
given the caller's `RunnableConfig`, so that it can tell one user from another, and nothing of what it answers is
remembered.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from langchain_core.language_models import BaseLanguageModel
from langchain_core.retrievers import BaseRetriever
from langchain_core.runnables import (
    Runnable,
    RunnableConfig,
    RunnableLambda,
    RunnableSequence,
    ensure_config,
)
from langchain_core.runnables.base import RunnableBindingBase
from langchain_core.runnables.configurable import DynamicRunnable
from langchain_core.runnables.utils import accepts_config
from langchain_core.tools import BaseTool
from langchain_core.utils.pydantic import model_json_schema
from langchain_core.vectorstores import VectorStore, VectorStoreRetriever

from masksearch_agent.concurrency import finish_in_thread
from masksearch_agent.config.calls import CallSettings
from masksearch_agent.config.retrieval import RetrievalSettings, ServedSearchSettings, WebSearchSettings
from masksearch_agent.errors import RetrievalError
from masksearch_agent.retrieval.backends import SearchBackend
from masksearch_agent.retrieval.index import open_index
from masksearch_agent.retrieval.patient import PatientBackend
from masksearch_agent.retrieval.results import AwaitedSource, Source
from masksearch_agent.retrieval.retriever import MaskSearchRetriever
from masksearch_agent.retrieval.search import Search
from masksearch_agent.retrieval.served import open_served_search, served_url
from masksearch_agent.retrieval.web import open_web_search, web_source

__all__ = ("as_search", "is_folder", "open_search")


def is_folder(index: str | Path) -> bool:
    """Return whether what is searched is named by the folder of an index, not as a web search or a server."""
    return web_source(str(index)) is None and served_url(index) is None


def open_search(index: str | Path, settings: RetrievalSettings) -> Search:
    """Open what a run searches by its name.

    That is the folder of an index, `web:` and the name of a web search, or the address of a server (`http://…`).

    The search has a cache, and is to live no longer than the run.

    Raises:
        RetrievalError: There is no such index.
        ServiceRefusedError: The web search lacks its key.
    """
    search = _open_remote(str(index), settings.web, settings.served)
    if search is None:
        store = None if isinstance(settings.dense, str) else settings.dense
        search = Search(open_index(Path(index), settings.chosen_mode, vector_store=store))
    return search.for_run()


def _open_remote(name: str, web: WebSearchSettings, served: ServedSearchSettings) -> Search | None:
    """Return the search on the web or at a server that is named so; None for any other name."""
    source, url = web_source(name), served_url(name)
    if source is not None:
        return open_web_search(source, web)
    return open_served_search(url, served) if url is not None else None


def as_search(
    obj: object,
    *,
    cache_size: int = 0,
    calls: CallSettings | None = None,
    settings: RetrievalSettings | None = None,
) -> Search:
    """Return a `Search` over anything that can search.

    Args:
        obj: A `Search` (returned as it is), a `SearchBackend`, the path of an index folder, a web search by its name
            (`web:wikipedia`), the address of a server (`http://…`), a LangChain retriever, tool (called with one
            string) or vector store, or a chain or function, sync or async, that takes a query and returns strings,
            documents or passages; it gets the caller's config where it has a parameter `config`.
        cache_size: Result lists to remember, whoever asks; only for a source that answers everybody alike, and whose
            answers do not change.
        calls: Timeout, retries and rate for a source that is reached over a network and has none of its own;
            None asks it once. A web search has its own.
        settings: How what `obj` names is opened: the mode of an index, the engine of a web search, the path and the
            fields of a server.

    Raises:
        RetrievalError: If `obj` is none of these, a path without an index, or a tool that needs more than a query.
    """
    if isinstance(obj, Search):
        return obj
    if isinstance(obj, str | Path):
        # The cache on disk is for runs, which have a folder; whoever only searches wants no file.
        settings = settings or RetrievalSettings()
        search = _open_remote(str(obj), settings.web.model_copy(update={"cache": None}), settings.served)
        if search is not None:
            return search
        backend: SearchBackend = open_index(Path(obj), settings.chosen_mode)
    else:
        backend = _backend(obj)
    if calls is not None:
        backend = PatientBackend(backend, f"the search over a {type(obj).__name__}", calls)
    return Search(backend, cache_size=cache_size)


def _backend(obj: object) -> SearchBackend:
    # LangChain's own types come first: a vector store too has a method named `search`.
    match obj:
        case VectorStore():
            return AwaitedSource(
                lambda query, limit: obj.asimilarity_search(query, k=limit),
                lambda query, limit: obj.similarity_search(query, k=limit),
            )
        case BaseTool():
            return _of_runnable(obj, _tool_input(obj))
        case Runnable() if not isinstance(obj, BaseLanguageModel):
            return _of_runnable(obj, _chain_input(obj))
        case SearchBackend() if not isinstance(obj, type | Runnable):
            return obj
    if not callable(obj) or isinstance(obj, type | BaseLanguageModel):
        what = f"the class {obj.__name__}" if isinstance(obj, type) else f"a {type(obj).__name__}"
        raise RetrievalError(
            f"cannot search with {what}; expected a Search, a SearchBackend, the path of an index folder, a "
            "LangChain retriever, tool or vector store, a chain or function that takes a query and returns "
            "strings, documents or passages"
        )
    # A function that takes a `config` gets the caller's, as in a chain.
    asks = partial(_ask_with_config, obj) if accepts_config(obj) else obj
    if inspect.iscoroutinefunction(obj) or inspect.iscoroutinefunction(getattr(obj, "__call__", None)):  # noqa: B004
        return AwaitedSource(lambda query, _: asks(query))
    return Source(lambda query, _: asks(query))


def _ask_with_config(function: Callable[..., Any], query: str) -> Any:
    return function(query, config=ensure_config())


def _of_runnable(runnable: Runnable[Any, Any], wrap: Callable[[str], Any]) -> AwaitedSource:
    """Return a source over a tool, a retriever, a chain, or what is made of one; `wrap` makes its input of a query."""
    is_awaited = _must_be_awaited(runnable)

    async def aask(query: str, limit: int) -> object:
        config = ensure_config()
        return await runnable.ainvoke(wrap(query), config, **_retriever_options(runnable, config, limit))

    def ask(query: str, limit: int) -> object:
        nonlocal is_awaited
        config = ensure_config()
        if not is_awaited:
            try:
                return runnable.invoke(wrap(query), config, **_retriever_options(runnable, config, limit))
            except NotImplementedError:
                # So says what has no sync form and cannot be known for it beforehand, such as a retriever. Steps of a
                # chain that stand before it run again, for the queries of this call and no others.
                is_awaited = True
        return finish_in_thread(lambda: aask(query, limit))

    source = AwaitedSource(aask, ask)
    source.is_traced = _ends_in_retriever(runnable)
    return source


def _must_be_awaited(runnable: Runnable[Any, Any]) -> bool:
    """Whether something is made of an async function, chain step, tool or graph node without a sync form beside it."""
    seen: set[int] = set()
    parts: list[object] = [runnable]
    while parts:
        part = parts.pop()
        if id(part) in seen:
            continue
        seen.add(id(part))
        match part:
            case Runnable():
                known = vars(part)
                if (known.get("afunc") or known.get("coroutine")) and not known.get("func"):
                    return True
                parts += [*known.values(), *(part.deps if isinstance(part, RunnableLambda) else ())]
            case Mapping():
                parts += part.values()
            case list() | tuple():  # Maybe of a million documents.
                parts += (each for each in part if isinstance(each, Runnable | Mapping | list | tuple))
            case object(bound=Runnable() as inner):  # A node of a LangGraph graph.
                parts.append(inner)
    return False


def _ends_in_retriever(runnable: object) -> bool:
    while not isinstance(runnable, BaseRetriever):
        match runnable:
            case (
                RunnableBindingBase(bound=inner)
                | DynamicRunnable(default=inner)
                | RunnableSequence(last=inner)
            ):
                runnable = inner
            case _:
                return False
    return True


def _retriever_options(runnable: Runnable[Any, Any], config: RunnableConfig, limit: int) -> dict[str, Any]:
    # Only retrievers of a vector store and of an index of ours take the number of results with a call; others return
    # their own number, and so does one whose owner has set it.
    while not isinstance(runnable, BaseRetriever):
        if isinstance(runnable, DynamicRunnable):
            runnable, config = runnable.prepare(config)
        elif isinstance(runnable, RunnableBindingBase) and "k" not in runnable.kwargs:
            runnable = runnable.bound
        else:
            return {}
    takes_k = (isinstance(runnable, VectorStoreRetriever) and "k" not in runnable.search_kwargs) or (
        isinstance(runnable, MaskSearchRetriever) and "k" not in runnable.model_fields_set
    )
    return {"k": limit} if takes_k else {}


def _chain_input(runnable: Runnable[Any, Any]) -> Callable[[str], object]:
    """Return what makes a chain's input of a query: the query, or a dictionary where the chain takes one of one key."""
    if isinstance(runnable, BaseRetriever):
        return str
    described = runnable.get_input_jsonschema()
    names = list(described.get("required") or described.get("properties") or ())
    # `root` stands for whatever a chain takes whose steps do not say it.
    if described.get("type") != "object" or names in ([], ["root"]):
        return str
    if len(names) > 1:
        raise RetrievalError(
            f"cannot search with the chain {runnable.get_name()}: it takes {', '.join(names)}; expected a query, or a "
            "dictionary of one key"
        )
    return lambda query: {names[0]: query}


def _injected_arguments(tool: BaseTool) -> list[str]:
    """Return what a tool must be given beside its input, as `ToolRuntime` and `InjectedState`."""
    injected: frozenset[str] = getattr(tool, "_injected_args_keys", frozenset())
    function = getattr(tool, "func", None) or getattr(tool, "coroutine", None) or tool._run
    parameters = inspect.signature(function).parameters
    # A tool of an MCP server can do without what it would be given.
    return sorted(name for name in injected if parameters[name].default is inspect.Parameter.empty)


def _tool_input(tool: BaseTool) -> Callable[[str], object]:
    """Return what makes a tool's input of a query."""
    schema = tool.tool_call_schema
    if injected := _injected_arguments(tool):
        raise RetrievalError(
            f"cannot search with the tool {tool.name!r}: it takes {', '.join(injected)}, which LangGraph injects for a "
            "model that calls it; expected the query alone: pass a function of it, in which "
            "`langgraph.runtime.get_runtime().context` is the caller's"
        )
    described = schema if isinstance(schema, dict) else model_json_schema(schema)
    names = list(described.get("properties", {}))
    required = list(described.get("required", []))
    if not names or len(required) > 1:
        takes = ", ".join(required or names) or "no argument"
        raise RetrievalError(
            f"cannot search with the tool {tool.name!r}: it takes {takes}; expected one argument, the query"
        )
    argument = next((name for name in (*required, "query") if name in names), names[0])
    if tool.response_format == "content":
        return lambda query: {argument: query}
    # An artifact is only returned to a tool call.
    call = {"type": "tool_call", "id": "search", "name": tool.name}
    return lambda query: {**call, "args": {argument: query}}
