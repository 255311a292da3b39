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

from masksearch_agent.errors import RetrievalError

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
    awaited = await make_searcher(search=tools["structured"]).ainvoke("Who founded Harrow?")
    called = make_searcher(search=tools["as_text"]).invoke("Who founded Velling?")
    for answer, name in ((awaited, "Ada"), (called, "Bo")):
        [source] = answer.sources
        assert answer.answer == name
        assert source.text == f"{name} founded {source.title}."
        assert source.source == f"https://x.org/{source.title.lower()}"
    with pytest.raises(RetrievalError, match=r"'broken' failed: .*the shelf is empty"):
        await make_searcher(search=tools["broken"]).ainvoke("Who founded Harrow?")
