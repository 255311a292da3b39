"""A deep agent that delegates research to our graph."""

from __future__ import annotations

import json
from typing import Any

from deepagents import CompiledSubAgent, create_deep_agent
from fakes.ecosystem import MARKS, ToolCallingModel, make_searcher
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from langgraph.checkpoint.memory import InMemorySaver

THREAD: Any = {"configurable": {"thread_id": "t"}}


def delegate(company: str, call_id: str) -> dict[str, Any]:
    arguments = {"description": f"Who founded {company}?", "subagent_type": "researcher"}
    return {"name": "task", "args": arguments, "id": call_id, "type": "tool_call"}


async def test_a_deep_agent_s_tasks_come_back_as_data_and_nothing_of_the_protocol_with_them():
    for is_async in (False, True):
        script = [
            AIMessage("", tool_calls=[delegate("Harrow", "1"), delegate("Velling", "2")]),
            AIMessage("Ada, Bo."),
        ]
        model = ToolCallingModel(script=script)
        searcher: CompiledSubAgent = {
            "name": "researcher",
            "description": "Answers a question from the documents.",
            "runnable": make_searcher().graph,
        }
        app = create_deep_agent(model, subagents=[searcher], checkpointer=InMemorySaver())
        asked = {"messages": [HumanMessage("Who founded what?")]}
        state = await app.ainvoke(asked, THREAD) if is_async else app.invoke(asked, THREAD)
        told = {m.tool_call_id: json.loads(m.text) for m in state["messages"] if isinstance(m, ToolMessage)}
        assert (told["1"]["answer"], told["2"]["answer"]) == ("Ada", "Bo")
        assert told["1"]["stop_reason"] == "answered"
        assert "Harrow" in json.dumps(told["1"]["sources"])
        assert state["messages"][-1].text == "Ada, Bo."
        assert "transcript" not in state
        assert "searches" not in state
        said = [str(message.text) for message in (*state["messages"], *model.calls[-1])]
        assert not any(mark in text for text in said for mark in MARKS)
