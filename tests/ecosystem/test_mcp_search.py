"""An app that searches with a tool of an MCP server, over standard input, in async and in plain sync code."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import pytest
from fakes.ecosystem import make_searcher
from langchain_core.tools import BaseTool
from langchain_mcp_adapters.client import MultiServerMCPClient

SERVER = '''
from mcp.server.fastmcp import FastMCP
from pydantic import BaseModel

server = FastMCP("library", log_level="WARNING")
PAGES = [
    {"title": "Harrow", "url": "https://x.org/harrow", "text": "Ada founded Harrow."},
    {"title": "Velling", "url": "https://x.org/velling", "text": "Bo founded Velling."},
]


class Page(BaseModel):
    title: str
    url: str
    text: str


@server.tool()
def structured(query: str) -> list[Page]:
    """Look pages up."""
    return [Page(**page) for page in PAGES if page["title"] in query]


@server.tool(structured_output=False)
def as_text(query: str, limit: int = 5) -> list[dict]:
    """Look pages up; the answer is JSON text."""
    return [page for page in PAGES if page["title"] in query][:limit]


@server.tool()
def broken(query: str) -> str:
    """Fail."""
    raise ValueError("the shelf is empty")


server.run()
'''


@pytest.fixture
async def tools(tmp_path: Path) -> dict[str, BaseTool]:
    script = tmp_path / "library.py"
    script.write_text(SERVER)
    connection: Any = {
        "transport": "stdio",
        "command": sys.executable,
        "args": [str(script)],
        "env": dict(os.environ),
    }
    return {tool.name: tool for tool in await MultiServerMCPClient({"library": connection}).get_tools()}


async def test_an_mcp_tool_is_the_search_and_its_results_are_results(tools: dict[str, BaseTool]):
    for name in ("structured", "as_text"):
        agent = make_searcher(search=tools[name])
        for answer in (await agent.ainvoke("Who founded Harrow?"), agent.invoke("Who founded Velling?")):
            [source] = answer.sources
            assert answer.answer == source.text.split()[0]
            assert source.source == f"https://x.org/{source.title.lower()}"


async def test_a_tool_that_fails_says_so(tools: dict[str, BaseTool]):
    from masksearch_agent.errors import RetrievalError

    with pytest.raises(RetrievalError, match="'broken' failed: .*the shelf is empty"):
        await make_searcher(search=tools["broken"]).ainvoke("Who founded Harrow?")
