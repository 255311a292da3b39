"""Web search through langchain-community's wrappers, as one more search backend.

Each wrapper is asked for its list of results, not for its digest of them, so that every result is a passage with
its title and its address: the leak guard judges each on its own, and an answer can name its sources.

Keys come from the environment under the wrappers' own names: `SERPAPI_API_KEY`, `SERPER_API_KEY`,
`TAVILY_API_KEY`. DuckDuckGo and Wikipedia need none.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from functools import partial
from typing import Any

from masksearch_agent.calls.cache import AnswerCache
from masksearch_agent.config.retrieval import WebSearchSettings, WebSource
from masksearch_agent.errors import MissingExtraError, RetrievalError, ServiceRefusedError
from masksearch_agent.retrieval.patient import PatientBackend
from masksearch_agent.retrieval.results import AwaitedSource, Source
from masksearch_agent.retrieval.search import Search

__all__ = ("WEB_PREFIX", "open_web_search", "web_source")

WEB_PREFIX = "web:"
"""`web:wikipedia` stands for a web search where the path of an index folder is expected."""

_WRAPPERS: dict[WebSource, tuple[str, str, str, int]] = {
    "serpapi": ("serpapi", "SerpAPIWrapper", "SERPAPI_API_KEY", 100),
    "serper": ("google_serper", "GoogleSerperAPIWrapper", "SERPER_API_KEY", 100),
    "tavily": ("tavily_search", "TavilySearchAPIWrapper", "TAVILY_API_KEY", 20),
    "duckduckgo": ("duckduckgo_search", "DuckDuckGoSearchAPIWrapper", "", 50),
    "wikipedia": ("wikipedia", "WikipediaAPIWrapper", "", 20),
}
"""Module and class in `langchain_community.utilities`, the key's name, and the most results of a query."""

_NO_SERPAPI_RESULTS = "hasn't returned any results"
_NO_DDGS_RESULTS = "No results found"
"""How these two report, as an error, that nothing was found."""


def web_source(name: str) -> WebSource | None:
    """Return the source that `web:…` names, or None where the text is no such name.

    Raises:
        RetrievalError: It begins like one and names no source.
    """
    if not name.startswith(WEB_PREFIX):
        return None
    sources = {WEB_PREFIX + source: source for source in _WRAPPERS}
    if name not in sources:
        raise RetrievalError(f"no web search is named {name!r}; expected one of {', '.join(sources)}")
    return sources[name]


def open_web_search(
    source: WebSource, settings: WebSearchSettings | None = None, wrapper: Any = None
) -> Search:
    """Return a search over the web, through a wrapper that was set up by hand (language, region), or a plain one.

    Raises:
        MissingExtraError: langchain-community or the source's own package is not installed.
        ServiceRefusedError: The source's API key is not set.
    """
    settings = settings or WebSearchSettings()
    cache = AnswerCache(settings.cache, settings.cache_max_age_s) if settings.cache is not None else None
    wrapper = _make_wrapper(source) if wrapper is None else wrapper
    ask, make_source = _ASKS[source]
    backend = make_source(partial(ask, wrapper))
    return Search(PatientBackend(backend, f"{source} search", settings.calls, cache, _WRAPPERS[source][3]))


async def _ask_serpapi(wrapper: Any, query: str, limit: int) -> object:
    params = {**wrapper.params, "num": limit}
    found = await _with_session(wrapper.model_copy(update={"params": params}), query)
    error = str(found.get("error", ""))
    if error and _NO_SERPAPI_RESULTS not in error:
        raise ConnectionError(f"SerpAPI: {error}")
    return [item for item in found.get("organic_results", []) if "snippet" in item]


async def _ask_serper(wrapper: Any, query: str, limit: int) -> object:
    found = await _with_session(wrapper.model_copy(update={"k": limit}), query)
    return [item for item in found["organic"] if "snippet" in item]


async def _ask_tavily(wrapper: Any, query: str, limit: int) -> object:
    return await wrapper.results_async(query, max_results=limit, search_depth="basic")


def _ask_duckduckgo(wrapper: Any, query: str, limit: int) -> object:
    try:
        return wrapper.results(query, limit)
    except Exception as failure:
        if _NO_DDGS_RESULTS in str(failure):
            return []
        raise


def _ask_wikipedia(wrapper: Any, query: str, limit: int) -> object:
    return wrapper.model_copy(update={"top_k_results": limit}).load(query)


_ASKS: dict[WebSource, tuple[Callable[..., Any], type[Source]]] = {
    "serpapi": (_ask_serpapi, AwaitedSource),
    "serper": (_ask_serper, AwaitedSource),
    "tavily": (_ask_tavily, AwaitedSource),
    "duckduckgo": (_ask_duckduckgo, Source),
    "wikipedia": (_ask_wikipedia, Source),
}


async def _with_session(wrapper: Any, query: str) -> Any:
    """Ask through a session of ours: the wrapper's own takes an error's body for an answer."""
    import aiohttp

    async with aiohttp.ClientSession(raise_for_status=True) as session:
        return await wrapper.model_copy(update={"aiosession": session}).aresults(query)


def _make_wrapper(source: WebSource) -> Any:
    module, name, key, _ = _WRAPPERS[source]
    try:
        wrapper_type = getattr(importlib.import_module(f"langchain_community.utilities.{module}"), name)
        return wrapper_type(**_OPTIONS.get(source, {}))
    except ImportError as failure:
        raise MissingExtraError(failure.name or source, "web") from failure
    except ValueError:
        # The wrapper's own message may repeat what it was given.
        raise ServiceRefusedError(
            f"the {source} search cannot be set up; set its API key in the environment"
            + (f" as {key}" if key else "")
        ) from None


_OPTIONS: dict[WebSource, dict[str, Any]] = {
    # By default the wrapper finds pages of the last year only.
    "duckduckgo": {"time": None},
    "wikipedia": {"doc_content_chars_max": 1500},
}
