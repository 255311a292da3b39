"""How a search shows: as a retriever's run in callbacks and traces, and as events for whoever streams `custom`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Literal, NotRequired, TypeAlias

from langchain_core.documents import Document
from langchain_core.runnables import ensure_config
from langchain_core.runnables.config import (
    get_async_callback_manager_for_config,
    get_callback_manager_for_config,
)
from typing_extensions import TypedDict

from masksearch_agent.agent.speech import node_callbacks
from masksearch_agent.jsonl import dump_record
from masksearch_agent.records import Passage, ScoredPassage

__all__ = ("SearchEvent", "arun_as_retriever", "run_as_retriever", "search_event")

_NAME = "search"
_Found: TypeAlias = list[list[ScoredPassage]]


class SearchEvent(TypedDict):
    """What `stream_mode="custom"` tells of a search, when it begins and when it is done."""

    type: Literal["search"]
    status: Literal["started", "finished"]
    queries: list[str]
    passages: NotRequired[list[dict[str, Any]]]
    """What is shown to the model, best first, as `Passage` dictionaries; of a search that is done."""


def search_event(queries: Sequence[str], passages: Sequence[Passage] | None = None) -> SearchEvent:
    """Return the event of a search that begins or, with the passages, of one that is done."""
    event = SearchEvent(type="search", status="started", queries=list(queries))
    if passages is None:
        return event
    return {**event, "status": "finished", "passages": [dump_record(passage) for passage in passages]}


def run_as_retriever(queries: Sequence[str], search: Callable[[], _Found]) -> _Found:
    """Search, and tell callbacks of each query as of a retriever's run."""
    if not _is_watched():
        return search()
    manager = get_callback_manager_for_config(ensure_config())
    runs = [manager.on_retriever_start({"name": _NAME}, query, name=_NAME) for query in queries]
    try:
        found = search()
    except BaseException as failure:
        for run in runs:
            run.on_retriever_error(failure)
        raise
    for run, hits in zip(runs, found, strict=True):
        run.on_retriever_end(_documents(hits))
    return found


async def arun_as_retriever(queries: Sequence[str], search: Callable[[], Awaitable[_Found]]) -> _Found:
    """Do what `run_as_retriever` does, without blocking."""
    if not _is_watched():
        return await search()
    manager = get_async_callback_manager_for_config(ensure_config())
    runs = [await manager.on_retriever_start({"name": _NAME}, query, name=_NAME) for query in queries]
    try:
        found = await search()
    except BaseException as failure:
        for run in runs:
            await run.on_retriever_error(failure)
        raise
    for run, hits in zip(runs, found, strict=True):
        await run.on_retriever_end(_documents(hits))
    return found


def _is_watched() -> bool:
    callbacks = node_callbacks()
    return callbacks is not None and bool(callbacks.handlers)


def _documents(hits: Sequence[ScoredPassage]) -> list[Document]:
    found = ((hit.passage, hit.score) for hit in hits)
    return [
        Document(
            passage.text,
            id=passage.id,
            metadata={**passage.metadata, "title": passage.title, "source": passage.source, "score": score},
        )
        for passage, score in found
    ]
