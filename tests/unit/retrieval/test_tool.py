from __future__ import annotations

from fakes.passages import ListBackend, make_passages
from langchain_core.messages import ToolMessage

from masksearch_agent.records import Passage
from masksearch_agent.retrieval.search import Search
from masksearch_agent.retrieval.tool import make_search_tool

PASSAGES = [*make_passages("first", "second"), Passage("bare", "", "third")]
CALL = {"type": "tool_call", "id": "1", "name": "look_up", "args": {"query": "q"}}


def make_tool(limit: int = 5):
    return make_search_tool(Search(ListBackend({"q": PASSAGES, "none": []})), "look_up", limit)


async def test_the_model_reads_text_and_the_message_carries_the_passages():
    for message in (make_tool().invoke(CALL), await make_tool().ainvoke(CALL)):
        assert isinstance(message, ToolMessage)
        assert message.content == "[1] T0: first\n[2] T1: second\n[3] third"
        assert message.artifact == PASSAGES


def test_the_limit_and_the_name_are_kept():
    tool = make_tool(limit=1)
    assert tool.name == "look_up"
    assert list(tool.args) == ["query"]
    assert tool.invoke({"query": "q"}) == "[1] T0: first"


def test_finding_nothing_is_said():
    assert make_tool().invoke({"query": "none"}) == "No passage found."
