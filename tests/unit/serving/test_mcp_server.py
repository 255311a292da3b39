"""The agent as an MCP server, with langchain-mcp-adapters as its client."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from fakes.chat_models import ScriptedChatModel
from fakes.retrievers import DictRetriever
from langchain_core.tools import BaseTool
from langchain_mcp_adapters.client import MultiServerMCPClient
from langchain_mcp_adapters.tools import load_mcp_tools
from mcp.shared.memory import create_connected_server_and_client_session

from masksearch_agent.agent.runnable import MaskSearchAgent
from masksearch_agent.config.retrieval import RetrievalSettings
from masksearch_agent.records import Passage
from masksearch_agent.retrieval.adapters import as_search
from masksearch_agent.retrieval.index import build_index
from masksearch_agent.serving.mcp_server import make_mcp_server

SCRIPT = ["<think>who?</think><search>founder</search>", "<think>ok</think><answer>Ada</answer>"]
ENTRIES = {"founder": ["Harrow: Ada founded Harrow.", "Ada: Ada is a founder."]}
ANSWER = {
    "answer": "Ada",
    "stop_reason": "answered",
    "searches": [["founder"]],
    "sources": [
        {
            "title": "Harrow",
            "source": "",
            "url": "",
            "text": "Ada founded Harrow.",
            "metadata": {"title": "Harrow", "id": "Harrow"},
        },
    ],
    "citations": [
        {
            "number": 1,
            "title": "Harrow",
            "source": "",
            "url": "",
            "metadata": {"title": "Harrow", "id": "Harrow"},
            "quote": "Ada founded Harrow.",
            "claim": "Ada",
            "is_claimed": False,
        },
    ],
}

SERVER = """
import sys
sys.path.insert(0, {tests!r})
from fakes.chat_models import ScriptedChatModel
from fakes.retrievers import DictRetriever
from masksearch_agent.agent.runnable import MaskSearchAgent
from masksearch_agent.serving.mcp_server import serve_mcp
agent = MaskSearchAgent(ScriptedChatModel(script={script!r}), DictRetriever(entries={entries!r}))
serve_mcp(agent, int(sys.argv[1]))
"""


def make_agent(**parts: Any) -> MaskSearchAgent:
    return MaskSearchAgent(ScriptedChatModel(script=SCRIPT), DictRetriever(entries=ENTRIES), **parts)


def call(tool: BaseTool, **arguments: Any) -> dict[str, Any]:
    return {"type": "tool_call", "id": "1", "name": tool.name, "args": arguments}


async def test_a_client_is_told_why_a_call_failed_and_no_key():
    def fail(query: str) -> list[str]:
        raise ConnectionError("no route to https://api.example/?api_key=verysecret123")

    server = make_mcp_server(MaskSearchAgent(ScriptedChatModel(script=SCRIPT), fail))
    async with create_connected_server_and_client_session(server._mcp_server) as session:
        for name, arguments in (("research", {"question": "Who?"}), ("search", {"query": "founder"})):
            told = await session.call_tool(name, arguments)
            assert told.isError
            reason = (
                f"Error executing tool {name}: ConnectionError: no route to https://api.example/?api_key=***"
            )
            assert told.content[0].text == reason


async def test_a_client_gets_text_for_a_model_and_data_for_a_program():
    server = make_mcp_server(make_agent())
    async with create_connected_server_and_client_session(server._mcp_server) as session:
        research, search = await load_mcp_tools(session)
        assert (research.name, list(research.args)) == ("research", ["question"])
        assert (search.name, list(search.args)) == ("search", ["query", "limit"])
        message = await research.ainvoke(call(research, question="Who founded Harrow?"))
        assert message.text == "Ada [1]\n\n[1] Harrow: “Ada founded Harrow.” (found, not cited)"
        assert message.artifact["structured_content"] == ANSWER
        message = await search.ainvoke(call(search, query="founder", limit=1))
        assert message.text == "[1] Harrow: Ada founded Harrow."
        assert message.artifact["structured_content"] == {"results": ANSWER["sources"]}
        nothing = await search.ainvoke(call(search, query="unknown"))
        assert (nothing.text, nothing.artifact["structured_content"]) == (
            "No passage found.",
            {"results": []},
        )


async def test_a_citation_has_the_address_of_its_document():
    passage = Passage("p", "Fox", "A fox is red.", source="fox.txt", metadata={"url": "http://x"})
    script = ["<think>x</think><search>fox</search>", "<think>ok</think><answer>red</answer>"]
    server = make_mcp_server(MaskSearchAgent(ScriptedChatModel(script=script), lambda query: [passage]))
    async with create_connected_server_and_client_session(server._mcp_server) as session:
        [research, _] = await load_mcp_tools(session)
        message = await research.ainvoke(call(research, question="Which colour?"))
    data = message.artifact["structured_content"]
    [cited], [source] = data["citations"], data["sources"]
    assert (cited["number"], cited["quote"], cited["claim"]) == (1, "A fox is red.", "red")
    assert [(each["source"], each["url"]) for each in (cited, source)] == [("fox.txt", "http://x")] * 2


async def test_what_it_serves_can_be_searched_again():
    passage = Passage("p", "Fox", "A fox.", source="http://x", metadata={"page": 3})
    server = make_mcp_server(MaskSearchAgent(ScriptedChatModel(script=["?"]), lambda query: [passage]))
    async with create_connected_server_and_client_session(server._mcp_server) as session:
        _, search = await load_mcp_tools(session)
        [[hit]] = await as_search(search).asearch(["fox"], 5)
        found = hit.passage
        assert (found.title, found.text, found.source, found.metadata["page"]) == (
            "Fox",
            "A fox.",
            "http://x",
            3,
        )
        refused = await search.ainvoke(call(search, query="fox", limit=0))
        assert refused.status == "error"


async def test_a_passage_without_a_title_is_its_text():
    passage = Passage("p", "", "A fox, cut \ud83d", metadata={"note": "cut \ud83d"})
    server = make_mcp_server(MaskSearchAgent(ScriptedChatModel(script=["?"]), lambda query: [passage]))
    async with create_connected_server_and_client_session(server._mcp_server) as session:
        _, search = await load_mcp_tools(session)
        message = await search.ainvoke(call(search, query="fox"))
    assert message.text == "[1] A fox, cut ?"
    # All of it can be written as JSON, as a server sends it.
    assert json.dumps(message.artifact, ensure_ascii=False).encode().count(b"cut ?") == 2


async def test_a_failure_reaches_the_client_as_one():
    server = make_mcp_server(MaskSearchAgent(ScriptedChatModel(script=SCRIPT, fail_on=0), lambda query: []))
    async with create_connected_server_and_client_session(server._mcp_server) as session:
        [research, _] = await load_mcp_tools(session)
        message = await research.ainvoke(call(research, question="?"))
        assert message.status == "error"
        assert "the model server is gone" in message.text


def write_server(folder: Path) -> Path:
    tests = str(Path(__file__).parents[2])
    script = folder / "server.py"
    script.write_text(SERVER.format(tests=tests, script=SCRIPT, entries=ENTRIES))
    return script


async def test_the_command_speaks_over_standard_input(tmp_path: Path):
    build_index(
        [Passage("p", "Fox", "A red fox.", source="fox.txt")], tmp_path, RetrievalSettings(mode="bm25")
    )
    command = ["-m", "masksearch_agent.cli", "mcp", "--model", "openai:gpt-5-mini", "--index", str(tmp_path)]
    connection: Any = {
        "transport": "stdio",
        "command": sys.executable,
        "args": command,
        "env": {**os.environ, "OPENAI_API_KEY": "unused: only the search is asked"},
    }
    async with MultiServerMCPClient({"masksearch": connection}).session("masksearch") as session:
        _, search = await load_mcp_tools(session)
        message = await search.ainvoke(call(search, query="fox"))
    assert message.text == "[1] Fox: A red fox."
    [result] = message.artifact["structured_content"]["results"]
    assert (result["source"], result["url"]) == ("fox.txt", "")


async def test_it_listens_on_this_machine_alone_and_to_its_own_pages(tmp_path: Path):
    import httpx

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with subprocess.Popen([sys.executable, str(write_server(tmp_path)), str(port)]) as server:
        try:
            await _listening(port)
            url = f"http://127.0.0.1:{port}/mcp"
            connection: Any = {"transport": "streamable_http", "url": url}
            research, _ = await MultiServerMCPClient({"masksearch": connection}).get_tools()
            message = await research.ainvoke(call(research, question="Who founded Harrow?"))
            assert message.artifact["structured_content"]["answer"] == "Ada"
            # A page in a browser that has this machine's address under a name of its own (DNS rebinding) is refused.
            async with httpx.AsyncClient(trust_env=False) as client:
                reply = await client.post(url, json={}, headers={"host": f"evil.example:{port}"})
            assert reply.status_code == 421
            with socket.socket() as other:
                assert other.connect_ex(("127.0.0.2", port)) != 0
        finally:
            server.terminate()


async def _listening(port: int) -> None:
    until = time.monotonic() + 120
    while time.monotonic() < until:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        await asyncio.sleep(0.1)
    raise TimeoutError(f"nothing listens on port {port}")
