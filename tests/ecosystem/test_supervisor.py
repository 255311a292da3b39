"""A supervisor that hands over to our graph: by langgraph-supervisor, and by a `Command` of one's own."""

from __future__ import annotations

from typing import Annotated, Any

from fakes.ecosystem import MARKS, ToolCallingModel, make_searcher
from langchain.agents import create_agent
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from langchain_core.tools import InjectedToolCallId, tool
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import END, START, MessagesState, StateGraph
from langgraph.prebuilt import InjectedState
from langgraph.types import Command
from langgraph_supervisor import create_supervisor

THREAD: Any = {"configurable": {"thread_id": "t"}}
ADA = "Ada [1]\n\n[1] Harrow: “Ada founded Harrow.” (found, not cited)"
BO = "Bo [1]\n\n[1] Velling: “Bo founded Velling.” (found, not cited)"


def handoff(to: str, call_id: str) -> AIMessage:
    return AIMessage(
        "", tool_calls=[{"name": f"transfer_to_{to}", "args": {}, "id": call_id, "type": "tool_call"}]
    )


def spoken(messages: list[Any]) -> list[tuple[str, str]]:
    return [(message.type, message.text) for message in messages if message.text and message.type != "tool"]


async def test_langgraph_supervisor_hands_over_and_gets_an_answer_back():
    script = [
        handoff("masksearch", "1"),
        AIMessage("It was Ada."),
        handoff("masksearch", "2"),
        AIMessage("Bo."),
    ]
    model = ToolCallingModel(script=script)
    helper = create_agent(ToolCallingModel(script=["unused"]), [], name="writer")
    app = create_supervisor([make_searcher().graph, helper], model=model).compile(
        checkpointer=InMemorySaver()
    )
    state = await app.ainvoke({"messages": [HumanMessage("Who founded Harrow?")]}, THREAD)
    answer = next(message for message in state["messages"] if "found, not cited" in message.text)
    assert answer.text == ADA
    assert state["messages"][-1].text == "It was Ada."
    state = app.invoke({"messages": [HumanMessage("Who founded Velling?")]}, THREAD)
    assert [text for _, text in spoken(state["messages"]) if "found, not cited" in text] == [
        ADA,
        BO,
    ]
    assert state["messages"][-1].text == "Bo."
    seen = [message.text for messages in model.calls for message in messages]
    assert not any(mark in text for text in (*seen, *(m.text for m in state["messages"])) for mark in MARKS)


@tool
def hand_over_to_search(
    task: str,
    state: Annotated[dict[str, Any], InjectedState],
    tool_call_id: Annotated[str, InjectedToolCallId],
) -> Command[Any]:
    """Hand a question over to the searcher."""
    done = ToolMessage("handed over", tool_call_id=tool_call_id, name="hand_over_to_search")
    return Command(goto="searcher", graph=Command.PARENT, update={"messages": [*state["messages"], done]})


async def test_a_command_hands_over_the_task_that_it_names():
    task = {"task": "Who founded Velling?"}
    calls = AIMessage(
        "", tool_calls=[{"name": "hand_over_to_search", "args": task, "id": "1", "type": "tool_call"}]
    )
    model = ToolCallingModel(script=[calls])
    app = StateGraph(MessagesState)
    app.add_node(
        "boss", create_agent(model, [hand_over_to_search], name="boss"), destinations=("searcher", END)
    )
    app.add_node("searcher", make_searcher().graph)
    app.add_edge(START, "boss")
    app.add_edge("searcher", END)
    graph = app.compile(checkpointer=InMemorySaver())
    state = await graph.ainvoke({"messages": [HumanMessage("I wonder about companies.")]}, THREAD)
    assert state["messages"][-1].text == BO
    assert not any(mark in message.text for message in state["messages"] for mark in MARKS)
