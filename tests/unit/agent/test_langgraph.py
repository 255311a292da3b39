"""What LangGraph offers must keep working: checkpointers, interrupts, subgraphs, tools, stores of state."""

from __future__ import annotations

import copy
import logging
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, TypedDict

import pytest
from fakes.agents import PASSAGES, SEARCH, THREAD, echo, make_agent
from fakes.chat_models import ScriptedChatModel, ScriptedRecordingModel
from fakes.retrievers import DictRetriever
from langchain_core.messages import AIMessage, AnyMessage, HumanMessage
from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer
from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver
from langgraph.graph import END, START, StateGraph
from langgraph.graph.message import add_messages
from langgraph.prebuilt import ToolNode

from masksearch_agent.agent.context import RunContext
from masksearch_agent.agent.prompts import COMPACT_PROMPTS
from masksearch_agent.agent.runnable import MaskSearchAgent
from masksearch_agent.config.agent import AgentSettings
from masksearch_agent.errors import AgentError
from masksearch_agent.records import content_id
from masksearch_agent.traces.recorder import Recorder


@pytest.fixture(params=["memory", "sqlite"])
async def saver(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[BaseCheckpointSaver[Any]]:
    if request.param == "memory":
        yield InMemorySaver()
        return
    async with AsyncSqliteSaver.from_conn_string(str(tmp_path / "checkpoints.sqlite")) as saver:
        yield saver


async def test_a_thread_asks_a_second_question_afresh(saver: BaseCheckpointSaver[Any]):
    agent = make_agent(checkpointer=saver)
    first = await agent.ainvoke({"question": "one: [mask]", "kind": "ramp"}, THREAD)
    second = await agent.ainvoke({"question": "two"}, THREAD)
    assert (first.answer, second.answer) == ("one: [mask]", "two")
    assert len(second.searches) == 1
    assert second.usage.model_calls == 2
    last_calls = agent.model.calls[-2:]
    assert [m.text for m in last_calls[0]] == [COMPACT_PROMPTS.question_system, "two"]
    assert second.trajectory is not None
    assert second.trajectory.turns[0].parent_id is None


async def test_messages_on_a_used_thread_go_on_with_its_conversation(saver: BaseCheckpointSaver[Any]):
    agent = make_agent(checkpointer=saver)
    await agent.ainvoke("one", THREAD)
    second = await agent.ainvoke([HumanMessage("and two?")], THREAD)
    assert second.answer == "and two?"
    assert len(second.searches) == 1
    assert [m.type for m in agent.model.calls[-2]] == ["system", "human", "ai", "human", "ai", "human"]


def test_a_task_of_another_kind_on_a_used_thread_is_told_what_it_is():
    agent = make_agent(checkpointer=InMemorySaver())
    agent.invoke("Who founded Harrow?", THREAD)
    masked = {"messages": [HumanMessage("Harrow: founded by [mask].")], "kind": "ramp"}
    for kind, system in (("ramp", COMPACT_PROMPTS.masks_system), ("qa", COMPACT_PROMPTS.question_system)):
        agent.invoke({**masked, "kind": kind}, THREAD)
        read = [m.text for m in agent.model.calls[-2]]
        assert (read[0], read[-1]) == (system, "Harrow: founded by [mask].")
        assert read[1] == "Who founded Harrow?", "what was said before is known"
    before = agent.model.calls[-1]
    agent.invoke("And when?", THREAD)
    assert [m.text for m in agent.model.calls[-2]][: len(before)] == [m.text for m in before]


async def test_a_conversation_s_later_run_counts_and_names_itself_only(saver: BaseCheckpointSaver[Any]):
    agent = make_agent(checkpointer=saver, model=ScriptedChatModel(script=echo, tokens_per_reply=5))
    first = await agent.ainvoke("one", THREAD)
    second = await agent.ainvoke([HumanMessage("and two?")], THREAD)
    assert first.trajectory is not None
    assert second.trajectory is not None
    assert first.trajectory.id != second.trajectory.id
    assert first.trajectory.task_id == content_id("one")
    read = [sum(len(m.text.split()) for m in call) for call in agent.model.calls]
    assert (first.usage.prompt_tokens, second.usage.prompt_tokens) == (sum(read[:2]), sum(read[2:]))
    assert (first.usage.sampled_tokens, second.usage.sampled_tokens) == (10, 10)


async def test_a_question_after_a_failed_run_starts_afresh(saver: BaseCheckpointSaver[Any]):
    agent = make_agent(checkpointer=saver, model=ScriptedChatModel(script=echo, fail_on=1))
    with pytest.raises(ConnectionError):
        await agent.ainvoke("one", THREAD)
    second = await agent.ainvoke({"question": "two"}, THREAD)
    assert second.answer == "two"
    assert [m.text for m in agent.model.calls[2]] == [COMPACT_PROMPTS.question_system, "two"]


async def test_a_failed_run_goes_on_where_it_stopped(saver: BaseCheckpointSaver[Any]):
    agent = make_agent(checkpointer=saver, model=ScriptedChatModel(script=echo, fail_on=1))
    with pytest.raises(ConnectionError):
        await agent.ainvoke("one", THREAD)
    state = await agent.graph.ainvoke(None, THREAD)
    assert state["answer"] == "one"
    assert len(agent.model.calls) == 3


async def test_an_interrupted_run_waits_before_its_search_and_resumes(saver: BaseCheckpointSaver[Any]):
    recorder = Recorder()
    agent = make_agent(checkpointer=saver, model=ScriptedRecordingModel(script=echo))
    graph = agent.builder.compile(checkpointer=saver, interrupt_before=["search"])
    state = await graph.ainvoke({"question": "one"}, THREAD, context=RunContext(recorder=recorder))
    assert (await graph.aget_state(THREAD)).next == ("search",)
    assert state["transcript"][-1].content == SEARCH
    assert len(agent.model.calls) == 1

    state = await graph.ainvoke(None, THREAD, context=RunContext(recorder=recorder))
    assert (state["answer"], state["stop_reason"]) == ("one", "answered")
    assert [turn.parent_id for turn in recorder.turns] == [None, recorder.turns[0].id]


async def test_an_interrupted_agent_says_how_to_go_on(saver: BaseCheckpointSaver[Any]):
    agent = make_agent(checkpointer=saver)
    await agent.ainvoke("an earlier question on the thread", THREAD)
    with pytest.raises(AgentError, match=r"interrupted.*agent\.invoke\(None"):
        await agent.ainvoke("one", THREAD, interrupt_before=["search"])
    state = await agent.graph.ainvoke(None, THREAD)
    assert state["answer"] == "one"


async def test_a_queued_search_can_be_rewritten_by_a_person():
    agent = make_agent(checkpointer=InMemorySaver())
    graph = agent.builder.compile(checkpointer=InMemorySaver(), interrupt_before=["search"])
    state = await graph.ainvoke({"question": "one"}, THREAD)
    step = state["transcript"][-1]
    edited = step.model_copy(update={"content": "<think>edited</think><search>unknown</search>"})
    await graph.aupdate_state(THREAD, {"transcript": [edited]}, as_node="think")
    state = await graph.ainvoke(None, THREAD)
    assert state["searches"][0]["queries"] == ["unknown"]


def test_state_is_plain_data_for_a_checkpointer(caplog: pytest.LogCaptureFixture):
    agent = make_agent(checkpointer=InMemorySaver(serde=JsonPlusSerializer(allowed_msgpack_modules=None)))
    with caplog.at_level(logging.WARNING):
        agent.invoke("one", THREAD)
        snapshots = list(agent.graph.get_state_history(THREAD))
    assert len(snapshots) >= 6
    assert [record.getMessage() for record in caplog.records] == []
    values = {
        key: value
        for key, value in snapshots[0].values.items()
        if "messages" not in key and key != "transcript"
    }
    assert is_plain(values), values


def test_its_schemas_tell_a_server_what_goes_in_and_comes_out():
    graph = make_agent().graph
    assert set(graph.get_input_jsonschema()["properties"]) == {"question", "kind", "messages"}
    assert set(graph.get_output_jsonschema()["properties"]) >= {"answer", "stop_reason", "searches"}


def is_plain(value: Any) -> bool:
    if isinstance(value, dict):
        return all(isinstance(key, str) and is_plain(item) for key, item in value.items())
    if isinstance(value, list):
        return all(map(is_plain, value))
    return value is None or type(value) in (str, int, float, bool)


class MutationCheckingSaver(InMemorySaver):
    """Fails when a checkpoint's values have changed since they were saved (LangGraph's `memory_assert` idea)."""

    def __init__(self) -> None:
        super().__init__()
        self.saved: list[tuple[dict[str, Any], dict[str, Any]]] = []

    def put(self, config: Any, checkpoint: Any, metadata: Any, new_versions: Any) -> Any:
        for live, copied in self.saved:
            assert live == copied, "a node changed a value that was saved"
        values = dict(checkpoint["channel_values"])
        self.saved.append((values, copy.deepcopy(values)))
        return super().put(config, checkpoint, metadata, new_versions)


def test_no_node_changes_a_saved_state():
    saver = MutationCheckingSaver()
    script = ["malformed", SEARCH, SEARCH, "<think>ok</think><answer>x</answer>"]
    agent = MaskSearchAgent(
        ScriptedRecordingModel(script=script),
        DictRetriever(entries=PASSAGES),
        AgentSettings(max_searches=1),
        COMPACT_PROMPTS,
        saver,
    )
    answer = agent.invoke("q", THREAD)
    assert answer.stop_reason == "forced"
    assert len(saver.saved) >= 10


# --- inside another graph ----------------------------------------------------------------------------------


class ParentState(TypedDict, total=False):
    question: str
    answer: str
    report: str


class ChatState(TypedDict):
    messages: Annotated[list[AnyMessage], add_messages]


@dataclass(frozen=True)
class ParentContext:
    user: str


@pytest.mark.parametrize(
    "context", [None, ParentContext("ann"), {"user": "ann"}], ids=["none", "other", "dict"]
)
async def test_it_works_as_a_node_of_a_parent_graph(context: Any):
    parent = StateGraph(ParentState, context_schema=ParentContext)
    parent.add_node("research", make_agent().graph)
    parent.add_node("report", lambda state: {"report": f"Found: {state['answer']}"})
    parent.add_edge(START, "research")
    parent.add_edge("research", "report")
    parent.add_edge("report", END)
    graph = parent.compile(checkpointer=InMemorySaver())
    for question in ("one", "two"):
        state = graph.invoke({"question": question}, THREAD, context=context)
        assert state["report"] == f"Found: {question}"
        state = await graph.ainvoke({"question": question}, THREAD, context=context)
        assert state["report"] == f"Found: {question}"


def test_a_chat_graph_can_hand_it_the_conversation():
    parent = StateGraph(ChatState)
    parent.add_node("research", make_agent().graph)
    parent.add_edge(START, "research")
    graph = parent.compile(checkpointer=InMemorySaver())
    for question in ("one", "two"):
        state = graph.invoke({"messages": [HumanMessage(question)]}, THREAD)
        assert state["messages"][-1].text == f"{question}"


def test_a_parent_streams_the_subgraph_s_nodes():
    parent = StateGraph(ParentState)
    parent.add_node("research", make_agent().graph)
    parent.add_edge(START, "research")
    nodes = [
        next(iter(update))
        for namespace, update in parent.compile().stream(
            {"question": "q"}, stream_mode="updates", subgraphs=True
        )
        if namespace
    ]
    assert nodes == ["prepare", "think", "search", "think", "finish"]


async def test_it_works_as_a_tool_of_a_parent_agent():
    call = {"type": "tool_call", "id": "1", "name": "research", "args": {"question": "one"}}
    parent = StateGraph(ChatState, context_schema=ParentContext)
    parent.add_node("tools", ToolNode([make_agent().as_tool()]))
    parent.add_edge(START, "tools")
    graph = parent.compile(checkpointer=InMemorySaver())
    ask = {"messages": [AIMessage("", tool_calls=[call])]}
    for state in (
        graph.invoke(ask, THREAD, context=ParentContext("ann")),
        await graph.ainvoke(ask, {"configurable": {"thread_id": "u"}}, context=ParentContext("ann")),
    ):
        message = state["messages"][-1]
        assert message.content == "one"
        assert message.artifact.answer == "one"


def test_a_long_run_stays_within_the_recursion_limit():
    script = [*([SEARCH] * 30), "bad", "bad", "<think>ok</think><answer>x</answer>"]
    agent = MaskSearchAgent(
        ScriptedChatModel(script=script),
        DictRetriever(entries=PASSAGES),
        AgentSettings(max_searches=29, max_repairs=2),
        COMPACT_PROMPTS,
    )
    answer = agent.invoke("q")
    assert (answer.stop_reason, len(answer.searches)) == ("forced", 29)
    assert answer.trajectory is not None
    assert answer.trajectory.format_errors == 2
