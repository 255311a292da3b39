"""Open what a run searches by its name: the folder of an index, or a web search."""

from __future__ import annotations

from pathlib import Path

from masksearch_agent.config.retrieval import RetrievalSettings
from masksearch_agent.retrieval.index import open_index
from masksearch_agent.retrieval.search import Search
from masksearch_agent.retrieval.web import open_web_search, web_source

__all__ = ("open_search",)


def open_search(index: str | Path, settings: RetrievalSettings) -> Search:
    """Open an index or a web search.

    Args:
        index: Folder that `build_index` wrote, or `web:` with the name of a web search.
        settings: How an index is ranked where they say so, and how a web search is called.

    Raises:
        RetrievalError: There is no such index.
        ServiceRefusedError: The web search lacks its key.
    """
    source = web_source(str(index))
    if source is not None:
        return open_web_search(source, settings.web)
    return Search(open_index(Path(index), settings.chosen_mode))
