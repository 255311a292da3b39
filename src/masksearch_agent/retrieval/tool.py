"""A search as a LangChain tool, for any agent."""

from __future__ import annotations

from collections.abc import Sequence

from langchain_core.tools import BaseTool, StructuredTool

from masksearch_agent.records import Passage, ScoredPassage
from masksearch_agent.retrieval.search import Search

__all__ = ("found_text", "make_search_tool")


def make_search_tool(search: Search, name: str = "search", limit: int = 5) -> BaseTool:
    """Return a tool that searches for one query and returns at most `limit` passages.

    The model reads numbered passages; the tool message carries the same `Passage` records as its artifact.
    """

    def run(query: str) -> tuple[str, list[Passage]]:
        return _output(search.search([query], limit)[0])

    async def arun(query: str) -> tuple[str, list[Passage]]:
        return _output((await search.asearch([query], limit))[0])

    return StructuredTool.from_function(
        run,
        arun,
        name=name,
        description="Search the document collection. Returns the passages that fit the query best.",
        response_format="content_and_artifact",
    )


def _output(hits: Sequence[ScoredPassage]) -> tuple[str, list[Passage]]:
    passages = [hit.passage for hit in hits]
    return found_text(passages), passages


def found_text(passages: Sequence[Passage]) -> str:
    """Return passages as a model reads them that called a tool."""
    lines = [
        f"[{number}] {passage.title}: {passage.text}" if passage.title else f"[{number}] {passage.text}"
        for number, passage in enumerate(passages, start=1)
    ]
    return "\n".join(lines) or "No passage found."
