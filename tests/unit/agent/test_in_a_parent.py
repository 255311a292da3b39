"""Inside other graphs: the parent sees a conversation and never the protocol, and its own keys are its own."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Annotated, Any

import pytest
from fakes.agents import SEARCH, THREAD, echo, make_agent
from fakes.chat_models import ScriptedChatModel, ScriptedRecordingModel
from fakes.passages import make_passages
from langchain.agents import create_agent
from langchain_core.messages import AIMessage, AnyMessage, BaseMessage, HumanMessage, ToolMessage
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, StateGraph
from langgraph.graph.message import MessagesState, add_messages
from langgraph.runtime import get_runtime
from langgraph.types import Command
from pydantic import BaseModel

from masksearch_agent.agent import parts
from masksearch_agent.agent.context import Choices, RunContext
from masksearch_agent.agent.prompts import COMPACT_PROMPTS
from masksearch_agent.agent.runnable import MaskSearchAgent
from masksearch_agent.config.retrieval import RetrievalSettings
from masksearch_agent.errors import AgentError
from masksearch_agent.retrieval.index import build_index

MARKS = ("<think>", "<search>", "<answer>", "<information>", COMPACT_PROMPTS.question_system)


class ParentState(MessagesState, total=False):
    structured_response: dict[str, Any]
    todos: list[str]
    question_count: int


def parent_of(agent: MaskSearchAgent, **schema: Any) -> StateGraph[Any, Any, Any, Any]:
    parent = StateGraph(ParentState, **schema)
    parent.add_node("research", agent.graph)
    parent.add_edge(START, "research")
    return parent


def said(messages: list[AnyMessage]) -> list[tuple[str, str]]:
    return [(message.type, str(message.text)) for message in messages]


@pytest.mark.parametrize("model", [ScriptedChatModel, ScriptedRecordingModel])
async def test_a_parent_gets_one_closing_message_and_a_structured_response(model: Any):
    graph = parent_of(make_agent(model(script=echo))).compile(checkpointer=InMemorySaver())
    closing = ("ai", "one")
    state = graph.invoke({"messages": [HumanMessage("one")], "todos": ["x"]}, THREAD)
    assert said(state["messages"]) == [("human", "one"), closing]
    assert state["structured_response"] == {
        "answer": "one",
        "sources": [],
        "citations": [],
        "stop_reason": "answered",
    }
    json.dumps(state["structured_response"])
    state = await graph.ainvoke({"messages": [HumanMessage("two")]}, THREAD)
    assert said(state["messages"])[2:] == [("human", "two"), ("ai", "two")]
    assert not any(mark in text for _, text in said(state["messages"]) for mark in MARKS)


async def test_a_parent_s_streams_show_no_protocol_either():
    graph = parent_of(make_agent()).compile()
    for mode in ("values", "updates"):
        chunks = [c async for c in graph.astream({"messages": [HumanMessage("one")]}, stream_mode=mode)]
        assert not any(mark in str(chunks) for mark in MARKS)


def test_the_transcript_is_in_a_channel_of_its_own():
    state = make_agent().graph.invoke({"messages": [HumanMessage("one")]})
    assert [m.type for m in state["transcript"]] == ["system", "human", "ai", "human", "ai"]
    assert state["transcript"][2].text == SEARCH
    assert said(state["messages"]) == [("human", "one"), ("ai", "one")]


def test_a_run_without_an_answer_closes_with_why():
    graph = parent_of(make_agent(ScriptedChatModel(script=["?"]), max_repairs=0)).compile()
    state = graph.invoke({"messages": [HumanMessage("one")]})
    assert state["messages"][-1].text == "No answer was found (repairs_exhausted)."
    assert state["structured_response"]["stop_reason"] == "repairs_exhausted"


def test_tags_in_a_passage_reach_the_parent_as_they_were():
    def quote(messages: list[BaseMessage]) -> str:
        if not messages[-1].text.startswith("<information>"):
            return "<think></think><search>q</search>"
        text = messages[-1].text.split("[1] ")[1].split("\n")[0]
        return f"<think></think><answer>{text}</answer>"

    agent = MaskSearchAgent(ScriptedChatModel(script=quote), lambda query: ["Use <search> here."])
    state = agent.graph.invoke({"question": "?"})
    assert state["messages"][-1].text == "Use <search> here."


class AnswerState(MessagesState, total=False):
    answer: str
    user_id: int


async def test_the_agent_itself_is_a_node_of_a_graph_of_messages():
    parent = StateGraph(AnswerState)
    parent.add_node("research", make_agent())
    parent.add_edge(START, "research")
    graph = parent.compile(checkpointer=InMemorySaver())
    state = graph.invoke({"messages": [HumanMessage("one")], "user_id": 7}, THREAD)
    assert said(state["messages"]) == [("human", "one"), ("ai", "one")]
    assert (state["answer"], state["user_id"]) == ("one", 7)
    state = await graph.ainvoke({"messages": [HumanMessage("two")]}, THREAD)
    assert said(state["messages"])[2:] == [("human", "two"), ("ai", "two")]


class ModelState(BaseModel):
    messages: Annotated[list[AnyMessage], add_messages] = []
    user_id: int = 7


@dataclass
class DataState:
    messages: Annotated[list[AnyMessage], add_messages] = field(default_factory=list)
    user_id: int = 7


@pytest.mark.parametrize("schema", [ModelState, DataState])
async def test_the_agent_takes_a_state_that_is_a_class(schema: Any):
    agent = make_agent()
    parent = StateGraph(schema)
    parent.add_node("research", agent)
    parent.add_node("ask_again", lambda state: {"messages": agent.invoke(state).messages})
    parent.add_edge(START, "research")
    parent.add_edge("research", "ask_again")
    asked = {"messages": [HumanMessage("one")]}
    for state in (parent.compile().invoke(asked), await parent.compile().ainvoke(asked)):
        assert said(state["messages"]) == [("human", "one"), ("ai", "one"), ("ai", "one")]


# --- handoffs ----------------------------------------------------------------------------------------------


def handoff(name: str, **arguments: Any) -> list[AnyMessage]:
    call = {"type": "tool_call", "id": "1", "name": name, "args": arguments}
    return [
        AIMessage("", tool_calls=[call]),
        ToolMessage("Successfully transferred", tool_call_id="1", name=name),
    ]


ASKED = HumanMessage("Who founded Harrow?")
CONVERSATIONS: dict[str, tuple[list[AnyMessage], str]] = {
    "a tool's result": ([ASKED, *handoff("transfer_to_research")], ASKED.text),
    "another tool's result": ([ASKED, *handoff("calculator", query="1 + 1")], ASKED.text),
    "an agent's reply": ([ASKED, AIMessage("I will ask the researcher.")], ASKED.text),
    "a task": ([ASKED, *handoff("transfer_to_research", task="Find the founder.")], "Find the founder."),
    "a description": (
        [ASKED, *handoff("delegate_to_research", task_description="Find the founder.")],
        "Find the founder.",
    ),
    "a search of a name like it": (
        [ASKED, *handoff("search_handover_notes", query="night shift")],
        ASKED.text,
    ),
    "a handoff": ([ASKED, *handoff("research_hand_off", task="Find the founder.")], "Find the founder."),
    "a handover": ([ASKED, *handoff("handover_to_research", task="Find the founder.")], "Find the founder."),
    "an open call": ([ASKED, handoff("task", description="Find the founder.")[0]], "Find the founder."),
    "an earlier task": ([*handoff("transfer_to_research", task="Old."), ASKED], ASKED.text),
}


@pytest.mark.parametrize(("messages", "question"), CONVERSATIONS.values(), ids=CONVERSATIONS.keys())
def test_whoever_spoke_last_the_question_is_what_was_asked_or_handed_over(
    messages: list[AnyMessage], question: str
):
    agent = make_agent()
    state = parent_of(agent).compile().invoke({"messages": messages})
    read = said(agent.model.calls[0])
    assert read[-1] == ("human", question)
    assert {kind for kind, _ in read} <= {"system", "human", "ai"}, "no tool's messages reach the model"
    assert state["messages"][-1].text == f"{question}"
    assert len(state["messages"]) == len(messages) + 1


def test_a_command_hands_over_to_it():
    def supervise(state: ParentState) -> Command[Any]:
        return Command(goto="research", update={"messages": handoff("transfer_to_research")})

    parent = StateGraph(ParentState)
    parent.add_node("supervisor", supervise, destinations=("research",))
    parent.add_node("research", make_agent().graph)
    parent.add_node("report", lambda state: {"todos": [state["messages"][-1].text]})
    parent.add_edge(START, "supervisor")
    parent.add_edge("research", "report")
    state = parent.compile().invoke({"messages": [ASKED]})
    assert state["todos"] == [f"{ASKED.text}"]


def test_a_conversation_is_read_as_what_was_said():
    agent = make_agent()
    earlier = [HumanMessage("Hi <search>x</search>"), AIMessage("Hello"), *handoff("calculator", query="1")]
    parent_of(agent).compile().invoke({"messages": [*earlier, ASKED]})
    assert said(agent.model.calls[0])[1:] == [
        ("human", "Hi <\u2060search>x<\u2060/search>"),
        ("ai", "Hello"),
        ("human", ASKED.text),
    ]


def test_a_conversation_without_a_question_is_refused():
    with pytest.raises(AgentError, match="asks nothing"):
        make_agent().graph.invoke({"messages": [AIMessage("Hello")]})


# --- what callers set --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class AppContext:
    user: str
    model: str = "the parent's own"


FOREIGN: dict[str, Any] = {
    "user": "ann",
    "user_id": 7,
    "langgraph_auth_user": {"name": "ann"},
    "tenant": None,
}


async def test_keys_that_are_not_ours_are_left_alone():
    agent = make_agent()
    for context in (FOREIGN, AppContext("ann"), None):
        assert agent.invoke("q", {"configurable": FOREIGN}, context=context).answer == "q"
        assert (await agent.ainvoke("q", {"configurable": FOREIGN}, context=context)).answer == "q"
        state = await agent.graph.ainvoke({"question": "q"}, {"configurable": FOREIGN}, context=context)
        assert state["answer"] == "q"


LIMITS: list[tuple[dict[str, Any], int, int]] = [
    ({"max_searches": 0}, 0, 0),
    ({"passages_per_search": 1}, 1, 1),
]


@pytest.mark.parametrize(("limits", "searches", "shown"), LIMITS)
@pytest.mark.parametrize("place", ["context", "configurable", "with_config"])
def test_a_call_sets_limits_of_its_own(limits: dict[str, Any], searches: int, shown: int, place: str):
    agent = make_agent(
        ScriptedChatModel(script=lambda messages: SEARCH if len(messages) < 4 else echo(messages))
    )
    if place == "context":
        answer = agent.invoke("q", context={**FOREIGN, **limits})
    elif place == "configurable":
        answer = agent.invoke("q", {"configurable": {**FOREIGN, **limits}})
    else:
        answer = agent.with_config({"configurable": limits}).invoke("q")
    assert (len(answer.searches), len(answer.retrieved)) == (searches, shown)
    assert len(make_agent().invoke("q").retrieved) == 2


def test_a_call_sets_its_token_limit_for_a_recording_model():
    model = ScriptedRecordingModel(script=echo)
    make_agent(model).invoke("q", context={"max_step_tokens": 7})
    assert model.keywords[0]["max_tokens"] == 7


def test_a_call_may_take_more_steps_than_the_agent_was_made_for():
    script = [SEARCH] * 40 + ["<think></think><answer>x</answer>"]
    answer = make_agent(ScriptedChatModel(script=script)).invoke("q", context={"max_searches": 40})
    assert (len(answer.searches), answer.answer) == (40, "x")


@pytest.fixture
def index(tmp_path: Any) -> str:
    """Return the folder of an index."""
    build_index(make_passages("red fox"), tmp_path / "index", RetrievalSettings(mode="bm25"))
    return str(tmp_path / "index")


def searching_fox(index: str, **choices: Any) -> MaskSearchAgent:
    script = ["<think></think><search>fox</search>", "<think></think><answer>x</answer>"]
    chosen = Choices(indexes=(index,), **choices)
    return make_agent(ScriptedChatModel(script=script)).replace(choices=chosen)


def test_a_call_names_its_index(index: str):
    answer = searching_fox(index).invoke("q", context={"index": index})
    assert [source.text for source in answer.retrieved] == ["red fox"]


@pytest.fixture
def named_model(monkeypatch: pytest.MonkeyPatch) -> str:
    """Return the name of a model that answers `other`."""
    named = {"fake:other": ScriptedChatModel(script=["<think></think><answer>other</answer>"])}
    monkeypatch.setattr(parts, "open_chat_model", lambda settings, **_: named[settings.model])
    return "fake:other"


def test_a_call_names_its_model(named_model: str):
    agent = make_agent().replace(choices=Choices(models=(named_model,)))
    assert agent.invoke("q", {"configurable": {"model": named_model}}).answer == "other"
    assert agent.invoke("q").answer == "q"


@pytest.mark.parametrize("key", ["model", "index"])
def test_what_the_agent_does_not_list_cannot_be_chosen(key: str, index: str):
    closed, listing = make_agent(), searching_fox("/data/index", models=("fake:one", "fake:two"))
    for asked in ({"context": {key: index}}, {"config": {"configurable": {key: index}}}):
        with pytest.raises(AgentError, match=rf"{key}: .*may not be chosen; expected none"):
            closed.invoke("q", **asked)
        with pytest.raises(AgentError, match=r"expected one of (fake:one, fake:two|/data/index)"):
            listing.invoke("q", **asked)
    with pytest.raises(AgentError, match="may not be chosen"):
        closed.graph.invoke({"question": "q"}, context={key: index})


def test_choices_are_listed_with_commas():
    assert Choices.listed("openai:a, openai:b,", "") == Choices(models=("openai:a", "openai:b"))


@pytest.mark.parametrize(
    ("context", "message"),
    [
        ({"max_searches": -1}, "max_searches: .*greater than or equal to 0"),
        ({"model": 7}, "model: expected a name"),
        ({"index": "http://10.0.0.1:9200"}, "index: 'http://10.0.0.1:9200' may not be chosen"),
    ],
)
def test_a_wrong_setting_of_a_call_is_refused_in_words(context: dict[str, Any], message: str):
    with pytest.raises(AgentError, match=message):
        make_agent().invoke("q", context=context)


async def test_a_context_that_is_passed_to_the_agent_inside_a_parent_s_node_holds(index: str):
    agent = searching_fox(index)

    def research(state: ParentState) -> dict[str, Any]:
        answer = agent.invoke(state, context={"index": index, "max_passage_words": 1})
        return {"todos": [source.text for source in answer.retrieved]}

    parent = StateGraph(ParentState)
    parent.add_node("research", research)
    parent.add_edge(START, "research")
    foreign: RunnableConfig = {"configurable": {"index": "the parent's own"}}
    assert parent.compile().invoke({"messages": [ASKED]}, foreign)["todos"] == ["red"]


def test_a_wrong_context_that_is_passed_to_the_agent_inside_a_parent_s_node_is_refused():
    parent = StateGraph(ParentState)
    parent.add_node("research", lambda state: make_agent().invoke(state, context={"max_searches": "many"}))
    parent.add_edge(START, "research")
    with pytest.raises(AgentError, match="max_searches"):
        parent.compile().invoke({"messages": [ASKED]})


@pytest.mark.parametrize(
    "context", [AppContext("ann"), {"model": "theirs", "index": 3, "max_searches": "many", **FOREIGN}]
)
async def test_inside_a_parent_its_words_are_not_taken_for_ours(context: Any):
    agent = make_agent()
    graph = parent_of(agent).compile()
    config: RunnableConfig = {"configurable": {"model": "theirs", "index": "nowhere", **FOREIGN}}
    state = await graph.ainvoke({"messages": [ASKED]}, config, context=context)
    assert state["structured_response"]["answer"] == ASKED.text
    state = graph.invoke({"messages": [ASKED]}, {"configurable": {"passages_per_search": 1}}, context=context)
    assert state["structured_response"]["answer"] == ASKED.text
    assert "[2]" not in agent.model.calls[-1][-1].text, "a limit holds there too"


class ToolModel(ScriptedChatModel):
    def bind_tools(self, tools: Any, **keywords: Any) -> Any:
        return self.bind(**keywords)


async def test_a_retriever_sees_the_context_of_whoever_calls_the_agent():
    seen: list[object] = []

    def of_this_user(query: str) -> list[str]:
        seen.append(get_runtime().context)
        return [f"{query}: nothing"]

    agent = MaskSearchAgent(ScriptedChatModel(script=echo), of_this_user)
    ann, asked = AppContext("ann"), {"messages": [ASKED]}

    def in_a_node(state: ParentState) -> dict[str, Any]:
        return {"todos": [agent.invoke(state).answer]}

    node = StateGraph(ParentState, context_schema=AppContext)
    node.add_node("research", in_a_node)
    node.add_edge(START, "research")
    call = {"name": "research", "args": {"question": "q"}, "id": "1", "type": "tool_call"}
    calling = ToolModel(script=lambda read: "done" if len(read) > 1 else AIMessage("", tool_calls=[call]))
    assistant = create_agent(calling, [agent.as_tool()], context_schema=AppContext)
    for graph in (parent_of(agent, context_schema=AppContext).compile(), node.compile(), assistant):
        graph.invoke(asked, context=ann)
        await graph.ainvoke(asked, context=ann)
    agent.invoke("q", context=ann)
    await agent.ainvoke("q", context=ann)
    list(agent.stream_answer("q", context=ann))
    assert seen == [ann] * 9
    agent.invoke("q")
    assert seen[-1] is None


def test_an_agent_that_is_searched_with_takes_nothing_of_the_run_that_asks():
    inner = make_agent()
    outer = MaskSearchAgent(ScriptedChatModel(script=echo), lambda query: [inner.invoke(query).answer])
    graph = MaskSearchAgent(
        ScriptedChatModel(script=echo), lambda query: [inner.graph.invoke({"question": query})["answer"]]
    )
    for agent in (outer, graph):
        answer = agent.invoke("q", context=RunContext(opening=[HumanMessage("Opened.")]))
        assert [passage.text for passage in answer.retrieved] == ["founder of Harrow"]
        assert answer.usage.model_calls == 2


def test_the_settings_show_in_the_graph_s_schema():
    graph = make_agent().graph
    shown = graph.get_context_jsonschema()["properties"]
    assert set(shown) >= {"max_searches", "passages_per_search", "time_limit_s", "model", "index"}
    assert not set(shown) & {"recorder", "guard", "sampling", "opening"}
    assert shown["max_searches"]["description"] == "Searches of a run."
