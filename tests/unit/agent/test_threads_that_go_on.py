"""What a run leaves on a thread, and what the next one makes of it."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest
from fakes.chat_models import ScriptedChatModel
from fakes.retrievers import DictRetriever
from langchain_core.messages import (
    AIMessage,
    AnyMessage,
    BaseMessage,
    HumanMessage,
    SystemMessage,
    ToolMessage,
)
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, StateGraph
from langgraph.graph.message import MessagesState
from langgraph.types import Command, interrupt

from masksearch_agent.agent import parts
from masksearch_agent.agent.context import Choices
from masksearch_agent.agent.escaping import neutralise
from masksearch_agent.agent.prompts import FULL_PROMPTS
from masksearch_agent.agent.runnable import MaskSearchAgent
from masksearch_agent.config.agent import AgentSettings
from masksearch_agent.errors import AgentError

PASSAGES = {"founder of Harrow": ["Harrow: Ada founded Harrow."]}
THREAD: RunnableConfig = {"configurable": {"thread_id": "t"}}
ANSWER = "<think>a</think><answer>x</answer>"
SEARCH = "<think>a</think><search>founder of Harrow</search>"


class ToolModel(ScriptedChatModel):
    def bind_tools(self, tools: Any, **keywords: Any) -> Any:
        return self.bind(**keywords)


def call(name: str, number: int = 1, **arguments: Any) -> AIMessage:
    made = {"name": name, "args": arguments, "id": str(number), "type": "tool_call"}
    return AIMessage("", tool_calls=[made])


def make_agent(model: Any, **options: Any) -> MaskSearchAgent:
    return MaskSearchAgent(model, DictRetriever(entries=PASSAGES), AgentSettings(), **options)


def test_after_a_run_that_stopped_within_a_step_the_conversation_is_one_that_models_take() -> None:
    model = ToolModel(script=[call("search", queries=["x"]), AIMessage("Ada")], tokens_per_reply=50)
    settings = AgentSettings(dialect="tools", max_sampled_tokens=40)
    agent = MaskSearchAgent(model, DictRetriever(entries=PASSAGES), settings, checkpointer=InMemorySaver())
    assert agent.invoke("one", THREAD).stop_reason == "token_limit"
    agent.invoke("two", THREAD)
    shown = model.calls[-1]
    answered = {message.tool_call_id for message in shown if isinstance(message, ToolMessage)}
    made = {made["id"] for message in shown if isinstance(message, AIMessage) for made in message.tool_calls}
    assert made == answered
    assert shown[-1].text == "two"


@pytest.mark.parametrize("reason", [{"finish_reason": "length"}, {"stop_reason": "max_tokens"}])
def test_a_reply_that_a_limit_cut_is_no_answer(reason: dict[str, str]) -> None:
    cut = AIMessage("<think>a</think><answer>Ada was born in 18", response_metadata=reason)
    assert make_agent(ScriptedChatModel(script=[cut])).invoke("q").answer == ""


@pytest.mark.parametrize("asked", [{"question": "Who <s>?"}, "Who <s>?"])
def test_what_a_run_without_an_answer_was_asked_is_read_by_the_next(asked: Any) -> None:
    model = ScriptedChatModel(script=["?", ANSWER])
    agent = MaskSearchAgent(
        model, lambda query: [], AgentSettings(max_repairs=0), checkpointer=InMemorySaver()
    )
    agent.invoke(asked, THREAD)
    agent.invoke("Try again.", THREAD)
    assert [message.text for message in model.calls[-1]][1:] == [
        neutralise("Who <s>?"),
        "No answer was found (repairs_exhausted).",
        "Try again.",
    ]


def test_a_second_handoff_to_a_subgraph_that_remembers_is_answered() -> None:
    model = ScriptedChatModel(script=[ANSWER])
    research = make_agent(model).builder.compile(checkpointer=True)
    handed: list[str] = []

    def supervise(state: MessagesState) -> dict[str, list[AnyMessage]]:
        handed.append(f"task {len(handed) + 1}")
        number = len(handed)
        transfer = call("transfer_to_research", number, task=handed[-1])
        return {"messages": [transfer, ToolMessage("ok", tool_call_id=str(number))]}

    parent = StateGraph(MessagesState)
    parent.add_node("supervisor", supervise)
    parent.add_node("research", research)
    parent.add_edge(START, "supervisor")
    parent.add_edge("supervisor", "research")
    parent.add_conditional_edges(
        "research", lambda _: "supervisor" if len(handed) < 2 else "__end__", ["supervisor", "__end__"]
    )
    parent.compile(checkpointer=InMemorySaver()).invoke({"messages": [HumanMessage("Who?")]}, THREAD)
    assert [asked[-1].text for asked in model.calls] == ["task 1", "task 2"]


def test_a_tool_that_hands_nothing_over_leaves_the_question_alone() -> None:
    model = ScriptedChatModel(script=[ANSWER])
    paid = call("transfer_money", description="rent")
    make_agent(model).invoke([HumanMessage("Who?"), paid, ToolMessage("ok", tool_call_id="1")])
    assert model.calls[-1][-1].text == "Who?"


def test_a_system_message_that_comes_with_every_turn_stands_once() -> None:
    model = ScriptedChatModel(script=[ANSWER])
    agent = make_agent(model, checkpointer=InMemorySaver())
    for question in "abc":
        agent.invoke([SystemMessage("Answer in French."), HumanMessage(question)], THREAD)
    assert model.calls[-1][0].text.count("Answer in French.") == 1


def test_whoever_asks_reads_the_same_words() -> None:
    told = f"<think>a</think><answer>Use {neutralise('<search>')} here.</answer>"
    agent = make_agent(ScriptedChatModel(script=[told]))
    said = agent.graph.invoke({"messages": [HumanMessage("q")]})["messages"][-1].text
    assert agent.invoke("q").text == said == "Use <search> here."


async def test_a_model_that_a_caller_chose_is_opened_beside_the_event_loop(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def open_slowly(model: Any) -> Any:
        if isinstance(model, str):
            time.sleep(0.3)
            return ScriptedChatModel(script=[ANSWER])
        return model

    monkeypatch.setattr(parts, "open_model", open_slowly)
    agent = make_agent(ScriptedChatModel(script=[ANSWER]), choices=Choices(models=("some:model",)))
    asked = asyncio.create_task(agent.ainvoke("q", context={"model": "some:model"}))
    longest_s, last_s = 0.0, time.perf_counter()
    while not asked.done():
        await asyncio.sleep(0.01)
        now_s = time.perf_counter()
        longest_s, last_s = max(longest_s, now_s - last_s), now_s
    assert (await asked).answer == "x"
    assert longest_s < 0.25


@pytest.mark.parametrize("is_async", [False, True])
async def test_time_in_which_a_person_is_waited_for_is_none_of_the_run_s(is_async: bool) -> None:
    def approved(query: str) -> list[str]:
        return [f"{interrupt(query)} Ada founded Harrow."]

    def reply(messages: list[BaseMessage]) -> str:
        time.sleep(0.01)
        return (
            ANSWER if messages[-1].text.startswith("<information>") else "<think>a</think><search>b</search>"
        )

    settings = AgentSettings(time_limit_s=0.5)
    agent = MaskSearchAgent(ScriptedChatModel(script=reply), approved, settings, checkpointer=InMemorySaver())
    pauses: list[Any] = ["q", None, Command(resume="Yes.")]
    options: list[Any] = [{"interrupt_before": ["search"]}, {}]
    for given, option in zip(pauses, options, strict=False):
        with pytest.raises(AgentError, match="interrupted"):
            await agent.ainvoke(given, THREAD, **option) if is_async else agent.invoke(
                given, THREAD, **option
            )
        await asyncio.sleep(0.5)
    answer = await agent.ainvoke(pauses[2], THREAD) if is_async else agent.invoke(pauses[2], THREAD)
    assert (answer.answer, answer.stop_reason) == ("x", "answered")
    assert [passage.text for passage in answer.retrieved] == ["Yes. Ada founded Harrow."]


def test_time_that_a_run_worked_before_it_was_interrupted_counts() -> None:
    def reply(messages: list[BaseMessage]) -> str:
        time.sleep(0.3)
        return "<think>a</think><search>b</search>"

    settings = AgentSettings(time_limit_s=0.5)
    agent = MaskSearchAgent(
        ScriptedChatModel(script=reply), lambda query: [], settings, checkpointer=InMemorySaver()
    )
    with pytest.raises(AgentError, match="interrupted"):
        agent.invoke("q", THREAD, interrupt_before=["search"])
    started_s = time.monotonic()
    assert agent.invoke(None, THREAD).stop_reason == "time_limit"
    assert time.monotonic() - started_s < 0.29, "0.2 seconds were left"


@pytest.mark.parametrize("queries", ["[" * 20_000, '{"queries":' + "[" * 20_000])
def test_brackets_without_end_are_malformed_and_no_more(queries: str) -> None:
    model = ToolModel(script=[call("search", queries=queries), AIMessage(queries), AIMessage("Ada")])
    settings = AgentSettings(dialect="tools", max_repairs=3)
    assert MaskSearchAgent(model, DictRetriever(entries=PASSAGES), settings).invoke("q").stop_reason


def tools_reply(messages: list[BaseMessage]) -> AIMessage:
    return AIMessage("Ada") if messages[-1].type == "tool" else call("search", queries=["founder of Harrow"])


def tags_reply(messages: list[BaseMessage]) -> str:
    is_read = "<information>" in messages[-1].text
    return "<think>b</think><answer>Ada</answer>" if is_read else SEARCH


@pytest.mark.parametrize("dialects", [("tags", "tools"), ("tools", "tags")])
def test_a_thread_that_an_agent_of_another_dialect_began_goes_on_in_this_one(dialects: Any) -> None:
    saver = InMemorySaver()

    def reply(messages: list[BaseMessage]) -> Any:
        # As models do: in the form that the system prompt asks for.
        return tags_reply(messages) if "<search>" in messages[0].text else tools_reply(messages)

    for question, dialect in zip(("Who founded Harrow?", "Who, again?"), dialects, strict=True):
        model = ToolModel(script=reply)
        settings = AgentSettings(dialect=dialect)
        agent = MaskSearchAgent(model, DictRetriever(entries=PASSAGES), settings, checkpointer=saver)
        answer = agent.invoke(question, THREAD)
        assert (answer.answer, answer.stop_reason) == ("Ada", "answered")
    said = [(message.type, message.text) for message in model.calls[0][1:]]
    assert said == [("human", "Who founded Harrow?"), ("ai", "Ada"), ("human", "Who, again?")]


def test_a_thread_goes_on_under_the_prompts_that_the_agent_has_now() -> None:
    saver = InMemorySaver()
    make_agent(ScriptedChatModel(script=[ANSWER]), checkpointer=saver).invoke("one", THREAD)
    prompts = FULL_PROMPTS.model_copy(update={"question_system": "Answer in verse."})
    model = ScriptedChatModel(script=[ANSWER])
    make_agent(model, checkpointer=saver, prompts=prompts).invoke("two", THREAD)
    assert [message.text for message in model.calls[0]] == ["Answer in verse.", "one", "x", "two"]


@pytest.mark.parametrize("dialect", ["tags", "tools"])
def test_half_a_surrogate_pair_in_a_conversation_costs_a_character(dialect: Any) -> None:
    model = ToolModel(script=[AIMessage("Ada") if dialect == "tools" else ANSWER])
    settings = AgentSettings(dialect=dialect)
    agent = MaskSearchAgent(model, lambda query: [], settings, checkpointer=InMemorySaver())
    cut = "cut \ud83d"
    agent.invoke([SystemMessage(cut), HumanMessage(cut), AIMessage(cut), HumanMessage(cut)], THREAD)
    agent.invoke({"question": cut}, THREAD)
    agent.invoke(cut, THREAD)
    for message in [message for messages in model.calls for message in messages]:
        message.text.encode()
    assert [message.text for message in model.calls[0][1:]] == ["cut ?"] * 3
    # What was asked is read once, though the thread holds it as it came.
    assert [message.text for message in model.calls[-1][1:] if message.type == "human"] == ["cut ?"] * 2
