"""The agent as an MCP server: any client of the Model Context Protocol gets what it answers, and what it searches.

Two tools: `research` answers a question with its sources, `search` gives the passages that fit a query. Each answers
in text for a model and, with the same content, in structured data for a program.
"""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from masksearch_agent.agent.runnable import MaskSearchAgent
from masksearch_agent.errors import needs_extra
from masksearch_agent.failures import reason_of
from masksearch_agent.retrieval.tool import found_text
from masksearch_agent.serving.mcp_answers import Answer, Results

if TYPE_CHECKING:
    from mcp.server.fastmcp import FastMCP

__all__ = ("make_mcp_server", "serve_mcp")

_MAX_RESULTS = 50


def make_mcp_server(agent: MaskSearchAgent, port: int = 8000) -> "FastMCP[Any]":
    """Return an MCP server that offers an agent and its search; the port is that of `streamable-http`.

    Raises:
        MissingExtraError: The package `mcp` is not installed.
    """
    with needs_extra("mcp"):
        from mcp.server.fastmcp import FastMCP
        from mcp.types import CallToolResult, TextContent, ToolAnnotations

    server: FastMCP[Any] = FastMCP("masksearch", host="127.0.0.1", port=port, log_level="WARNING")
    only_reads = ToolAnnotations(readOnlyHint=True)

    async def research(
        question: Annotated[str, Field(description="A question in plain words.")],
    ) -> Annotated[CallToolResult, Answer]:
        with _told_without_keys():
            answer = await agent.ainvoke(question)
        said = [TextContent(type="text", text=answer.text)]
        return CallToolResult(content=said, structuredContent=Answer.of(answer).model_dump(mode="json"))

    async def search(
        query: Annotated[str, Field(description="What to look for.")],
        limit: Annotated[int, Field(ge=1, le=_MAX_RESULTS, description="Passages to return.")] = 5,
    ) -> Annotated[CallToolResult, Results]:
        with _told_without_keys():
            [hits] = await agent.search.asearch([query], limit)
        results = Results.of(hit.passage for hit in hits)
        said = [TextContent(type="text", text=found_text([hit.passage for hit in hits]))]
        return CallToolResult(content=said, structuredContent=results.model_dump(mode="json"))

    described = "Answer a question by searching a document collection, step by step."
    server.add_tool(research, description=described, annotations=only_reads)
    found = "Search the document collection. Returns the passages that fit the query best."
    server.add_tool(search, description=found, annotations=only_reads)
    return server


@contextmanager
def _told_without_keys() -> Iterator[None]:
    """Tell the client why a call failed: client libraries put their keys into what they say."""
    from mcp.server.fastmcp.exceptions import ToolError

    try:
        yield
    except Exception as failure:  # noqa: BLE001 (raised again, without what it may tell about keys)
        raise ToolError(reason_of(failure)) from None


def serve_mcp(agent: MaskSearchAgent, port: int | None = None) -> None:
    """Serve an agent until its client leaves: over standard input and output, or at `127.0.0.1:port/mcp`.

    Raises:
        MissingExtraError: The package `mcp` is not installed.
    """
    server = make_mcp_server(agent, port or 8000)
    asyncio.run(server.run_stdio_async() if port is None else server.run_streamable_http_async())
