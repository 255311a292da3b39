"""What a LangChain developer expects of every Runnable, a test for each expectation."""

from __future__ import annotations

import asyncio
import copy
import pickle
import time
from collections.abc import Callable
from typing import Any

import pytest
from fakes.agents import ANSWER, PASSAGES, SEARCH, THREAD, echo, make_agent
from fakes.chat_models import ScriptedChatModel
from fakes.chat_server import ChatServer
from fakes.retrievers import DictRetriever
from langchain_core.language_models import FakeListChatModel
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, SystemMessage
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.retrievers import BaseRetriever
from langchain_core.runnables import RunnableConfig, RunnableLambda
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import END, START, StateGraph
from langgraph.graph.message import MessagesState
from langgraph.prebuilt import ToolNode
from langgraph.types import Command, interrupt
from pydantic import ConfigDict, ValidationError

from masksearch_agent.agent.prompts import COMPACT_PROMPTS, TOOL_PROMPTS
from masksearch_agent.agent.runnable import MaskSearchAgent
from masksearch_agent.config.agent import AgentSettings
from masksearch_agent.errors import AgentError, MaskSearchError
from masksearch_agent.records import SearchAnswer

# --- streams -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "after", [RunnableLambda(lambda answer: answer.answer), RunnableLambda(str)], ids=["answer", "str"]
)
async def test_a_chain_streams_what_it_returns(after: Any):
    chain = make_agent() | after
    assert chain.invoke("q") == "q"
    assert list(chain.stream("q")) == ["q"]
    assert [chunk async for chunk in chain.astream("q")] == ["q"]
    *_, last = [event async for event in chain.astream_events("q", version="v2")]
    assert last["data"]["output"] == "q"


async def test_a_stream_s_output_type_is_the_answer():
    agent = make_agent()
    assert agent.OutputType is SearchAnswer
    assert [type(chunk) for chunk in agent.stream("q")] == [SearchAnswer]
    assert [type(chunk) async for chunk in agent.astream("q")] == [SearchAnswer]


@pytest.mark.parametrize(
    "option",
    [{"stream_mode": "updates"}, {"output_keys": ["answer"]}, {"version": "v2"}, {"subgraphs": True}],
)
async def test_what_would_make_something_else_of_an_answer_is_the_graph_s_alone(option: dict[str, Any]):
    agent, (name,) = make_agent(), option
    for ask in (
        agent.invoke,
        lambda *a, **k: [*agent.stream(*a, **k)],
        lambda *a, **k: [*agent.stream_answer(*a, **k)],
    ):
        with pytest.raises(AgentError, match=rf"`{name}`.*agent\.graph"):
            ask("q", **option)
    with pytest.raises(AgentError, match=f"`{name}`"):
        await agent.ainvoke("q", **option)
    with pytest.raises(AgentError, match=f"`{name}`"):
        _ = [step async for step in agent.astream_answer("q", **option)]


# --- input -------------------------------------------------------------------------------------------------

INPUTS: dict[str, Any] = {
    "a string": "who?",
    "a prompt value": ChatPromptTemplate.from_messages([("human", "{text}")]).invoke({"text": "who?"}),
    "one message": HumanMessage("who?"),
    "messages": [HumanMessage("who?")],
    "tuples": [("human", "who?")],
    "dicts": [{"role": "user", "content": "who?"}],
    "a question": {"question": "who?"},
    "messages in a state": {"messages": [HumanMessage("who?")], "todos": [], "remaining_steps": 3},
    "tuples in a state": {"messages": [("user", "who?")], "files": {}},
    "a question in a state": {"question": "who?", "user_id": 7},
    "a text in a state": {"messages": "who?"},
    "one dict in a state": {"messages": {"role": "user", "content": "who?"}},
    "one tuple in a state": {"messages": ("user", "who?")},
    "one message in a state": {"messages": HumanMessage("who?")},
}


@pytest.mark.parametrize("input", INPUTS.values(), ids=INPUTS.keys())
async def test_it_takes_what_chat_models_take_and_a_parent_s_state(input: Any):
    agent = make_agent()
    for answer in (agent.invoke(input), await agent.ainvoke(input)):
        assert (answer.answer, answer.stop_reason, len(answer.searches)) == ("who?", "answered", 1)
    assert [message.text for message in agent.model.calls[0] if message.type == "human"] == ["who?"]


def test_a_prompt_leads_to_it():
    chain = (
        ChatPromptTemplate.from_messages([("human", "Who is {name}?")]) | make_agent() | RunnableLambda(str)
    )
    assert chain.invoke({"name": "Ada"}) == "Who is Ada?"


def test_messages_of_the_caller_s_are_left_as_they_are():
    message = HumanMessage("q")
    make_agent().batch([[message], [message]])
    assert message == HumanMessage("q")


async def test_none_goes_on_with_an_interrupted_thread():
    for call in ("invoke", "ainvoke"):
        agent = make_agent(checkpointer=InMemorySaver())
        run: Callable[..., Any] = getattr(agent, call)
        with pytest.raises(AgentError, match=r"interrupted.*agent\.invoke\(None"):
            await _result(run("q", THREAD, interrupt_before=["search"]))
        answer = await _result(run(None, THREAD))
        assert isinstance(answer, SearchAnswer)
        assert (answer.answer, answer.searches) == ("q", (("founder of Harrow",),))
        again = await _result(run(None, THREAD))
        assert again.answer == "q", "a thread that has ended says what it ended with"


async def _result(result: Any) -> Any:
    return await result if asyncio.iscoroutine(result) else result


class AskingRetriever(BaseRetriever):
    """Asks a person before it searches."""

    def _get_relevant_documents(self, query: str, *, run_manager: Any) -> list[Any]:
        answer = interrupt({"may search": query})
        return DictRetriever(entries=PASSAGES).invoke(query) if answer == "yes" else []


async def test_a_command_resumes_an_interrupted_thread():
    for call in ("invoke", "ainvoke"):
        agent = MaskSearchAgent(
            ScriptedChatModel(script=echo), AskingRetriever(), checkpointer=InMemorySaver()
        )
        run: Callable[..., Any] = getattr(agent, call)
        with pytest.raises(AgentError, match="interrupted"):
            await _result(run("q", THREAD))
        answer = await _result(run(Command(resume="yes"), THREAD))
        assert [source.title for source in answer.retrieved] == ["Harrow", "Ada"]


# --- conversations -----------------------------------------------------------------------------------------


async def test_a_follow_up_question_knows_the_conversation():
    agent = make_agent(checkpointer=InMemorySaver())
    agent.invoke("Who founded Harrow?", THREAD)
    second = await agent.ainvoke("And when?", THREAD)
    assert second.answer == "And when?"
    assert [m.text for m in agent.model.calls[-2]] == [
        COMPACT_PROMPTS.question_system,
        "Who founded Harrow?",
        SEARCH,
        agent.model.calls[1][-1].text,
        "<think>ok</think><answer>Who founded Harrow?</answer>",
        "And when?",
    ]
    other: RunnableConfig = {"configurable": {"thread_id": "another"}}
    agent.invoke("And where?", other)
    assert [m.text for m in agent.model.calls[-2]] == [COMPACT_PROMPTS.question_system, "And where?"]


async def test_a_follow_up_question_after_a_failed_run_knows_what_was_asked():
    agent = make_agent(ScriptedChatModel(script=echo, fail_on=3), InMemorySaver())
    agent.invoke("one", THREAD)
    with pytest.raises(ConnectionError):
        agent.invoke("two", THREAD)
    assert agent.invoke("three", THREAD).answer == "three"
    assert [m.text for m in agent.model.calls[4]][1:] == ["one", "one", "two", "three"]


# --- copies ------------------------------------------------------------------------------------------------


def test_it_can_be_copied():
    agent = make_agent(checkpointer=InMemorySaver()).with_config(tags=["mine"])
    changed = copy.deepcopy(agent)
    assert changed is not agent
    assert (changed.model, changed.checkpointer, changed.config) == (
        agent.model,
        agent.checkpointer,
        agent.config,
    )
    assert changed.invoke("q", THREAD).answer == "q"
    assert copy.copy(agent).invoke("q", {"configurable": {"thread_id": "u"}}).answer == "q"


def test_it_can_be_pickled_over_a_model_that_can():
    agent = MaskSearchAgent(
        FakeListChatModel(responses=[SEARCH, ANSWER]),
        DictRetriever(entries=PASSAGES),
        AgentSettings(max_searches=2),
    )
    restored = pickle.loads(pickle.dumps(agent))
    assert restored.settings == agent.settings
    answer = restored.invoke("q")
    assert (answer.answer, [source.title for source in answer.retrieved]) == ("Ada", ["Harrow", "Ada"])


def test_an_agent_with_a_config_is_an_agent():
    seen = []

    class Retriever(BaseRetriever):
        def invoke(self, input: str, config: RunnableConfig | None = None, **kwargs: Any) -> list[Any]:
            seen.append((config or {}).get("configurable", {}).get("user"))
            return []

        def _get_relevant_documents(self, query: str, *, run_manager: Any) -> list[Any]:
            return []

    agent = MaskSearchAgent(ScriptedChatModel(script=echo), Retriever())
    bound = agent.with_config({"configurable": {"user": "ann"}})
    assert str(bound.as_tool().invoke({"question": "q"})).startswith("q")
    assert bound.with_config(tags=["more"]).invoke("q").answer == "q"
    assert agent.invoke("q").answer == "q"
    assert seen == ["ann", "ann", None]


def test_it_can_be_drawn():
    drawn = make_agent().get_graph(xray=True)
    assert {"think", "search", "finish"} <= set(drawn.nodes)
    assert (make_agent() | StrOutputParser()).get_graph().nodes


# --- models by name ----------------------------------------------------------------------------------------


def test_settings_may_be_a_dictionary_and_what_is_none_says_so():
    model = FakeListChatModel(responses=["a"])
    agent = MaskSearchAgent(model, sleepy_search, settings={"max_searches": 1})
    assert agent.settings == AgentSettings(max_searches=1)
    with pytest.raises(ValidationError, match="max_serches"):
        MaskSearchAgent(model, sleepy_search, settings={"max_serches": 1})
    with pytest.raises(ValidationError, match="PromptSet"):
        MaskSearchAgent(model, sleepy_search, prompts="few_shot")


def test_a_model_can_be_named(monkeypatch: pytest.MonkeyPatch):
    pytest.importorskip("langchain")
    pytest.importorskip("langchain_openai")
    monkeypatch.setenv("OPENAI_API_KEY", "none")
    agent = MaskSearchAgent("openai:gpt-5-mini", DictRetriever(entries=PASSAGES))
    assert type(agent.model).__name__ == "ChatOpenAI"
    assert agent.model_version == "gpt-5-mini"
    with pytest.raises(MaskSearchError, match="nobody:nothing"):
        MaskSearchAgent("nobody:nothing", DictRetriever(entries=PASSAGES))


def test_a_model_that_is_named_is_called_as_its_provider_calls_it(monkeypatch: pytest.MonkeyPatch):
    pytest.importorskip("langchain")
    pytest.importorskip("langchain_openai")

    def reply(messages: list[dict[str, str]]) -> str:
        return ANSWER if "<information>" in messages[-1]["content"] else SEARCH

    # Every second call is refused: the client asks again.
    with ChatServer(storm_every=1, storm_length=1, reply=reply) as server:
        monkeypatch.setenv("OPENAI_API_KEY", "none")
        monkeypatch.setenv("OPENAI_BASE_URL", server.url)
        agent = MaskSearchAgent("openai:gpt-4.1-mini", DictRetriever(entries=PASSAGES))
        assert agent.invoke("who?").answer == "Ada"
        assert server.served == {"good": 2, "429": 1}
        # Nobody set a limit, which would cut a reasoning model's thoughts; one that is set is held to as it is.
        assert not {"max_tokens", "max_completion_tokens"} & server.last_request.keys()
        agent.with_limits(max_step_tokens=4096).invoke("who?")
        assert server.last_request["max_completion_tokens"] == 4096


# --- checkpointers -----------------------------------------------------------------------------------------


class AnswerState(MessagesState):
    found: SearchAnswer


def test_an_answer_survives_a_checkpointer_as_artifact_and_as_state():
    agent = make_agent()
    parent = StateGraph(AnswerState)
    parent.add_node("tools", ToolNode([agent.as_tool()]))
    parent.add_node("ask", lambda state: {"found": agent.invoke("q")})
    parent.add_edge(START, "tools")
    parent.add_edge("tools", "ask")
    parent.add_edge("ask", END)
    graph = parent.compile(checkpointer=InMemorySaver())
    call = {"type": "tool_call", "id": "1", "name": "research", "args": {"question": "q"}}
    graph.invoke({"messages": [AIMessage("", tool_calls=[call])]}, THREAD)
    values = graph.get_state(THREAD).values
    answers = [values["found"], values["messages"][-1].artifact]
    for answer in answers:
        assert isinstance(answer, SearchAnswer)
        assert answer.trajectory is not None
        assert (answer.searches, answer.retrieved[0].title) == ((("founder of Harrow",),), "Harrow")
        assert hash(answer), "lists would have no hash"
    assert '"answer":"q"' in values["messages"][-1].model_dump_json()


# --- limits ------------------------------------------------------------------------------------------------


class LimitedModel(ScriptedChatModel):
    """Has a limit of its own, under a name that LangChain's integrations use."""

    model_config = ConfigDict(arbitrary_types_allowed=True)
    max_output_tokens: int | None = None


def test_an_api_model_is_told_how_long_a_step_may_be():
    plain, own = ScriptedChatModel(script=[ANSWER]), LimitedModel(script=[ANSWER], max_output_tokens=20)
    make_agent(plain, max_step_tokens=50).invoke("q")
    assert plain.keywords[0]["max_tokens"] == 50
    make_agent(own, max_step_tokens=50).invoke("q")
    make_agent(own, max_step_tokens=10).invoke("q")
    assert [keywords["max_output_tokens"] for keywords in own.keywords] == [20, 10]


class OllamaLike(ScriptedChatModel):
    """Takes its limit with the model, under Ollama's name for it, and not with a call."""

    model_config = ConfigDict(arbitrary_types_allowed=True)
    num_predict: int | None = None

    def _generate(self, *args: Any, **kwargs: Any) -> Any:
        assert not {"num_predict", "max_tokens"} & set(kwargs)
        LIMITS.append(self.num_predict)
        return super()._generate(*args, **kwargs)


LIMITS: list[int | None] = []


async def test_a_model_whose_limit_is_its_own_is_given_it_for_the_call():
    LIMITS.clear()
    model = OllamaLike(script=[ANSWER])
    make_agent(model, max_step_tokens=50).invoke("q")
    await make_agent(model.model_copy(update={"num_predict": 20}), max_step_tokens=50).ainvoke("q")
    make_agent(model).invoke("q")
    assert LIMITS == [50, 20, None]
    assert model.num_predict is None, "the user's model is left as it is"
    assert model.keywords[0]["stop"] == ["</search>", "</answer>"]


def test_an_api_model_is_told_what_is_left_of_a_run():
    model = ScriptedChatModel(script=[SEARCH, ANSWER], tokens_per_reply=30)
    make_agent(model, max_sampled_tokens=100).invoke("q")
    assert [keywords["max_tokens"] for keywords in model.keywords] == [100, 70]


def test_an_api_model_whose_user_sets_no_limit_is_told_none():
    model = ScriptedChatModel(script=[ANSWER])
    make_agent(model).with_limits(max_searches=1).invoke("q")
    assert "max_tokens" not in model.keywords[0]


def test_the_thoughts_of_an_api_model_end_no_run_whose_user_sets_no_limit():
    model = ScriptedChatModel(script=[SEARCH, SEARCH, ANSWER], tokens_per_reply=5000)
    assert make_agent(model).invoke("q").stop_reason == "answered"
    model = ScriptedChatModel(script=[SEARCH, ANSWER], tokens_per_reply=5000)
    assert make_agent(model).invoke("q", context={"max_sampled_tokens": 4096}).stop_reason == "token_limit"


class SlowModel(ScriptedChatModel):
    """Takes its time, in async code too."""

    seconds: float = 20.0

    def _generate(self, *args: Any, **kwargs: Any) -> Any:
        time.sleep(self.seconds)
        return super()._generate(*args, **kwargs)


def sleepy_search(query: str) -> list[str]:
    time.sleep(20.0)
    return []


async def asleepy_search(query: str) -> list[str]:
    await asyncio.sleep(20.0)
    return []


@pytest.mark.parametrize(
    ("model", "search", "calls"),
    [
        (SlowModel(script=[ANSWER]), lambda query: [], 0),
        (ScriptedChatModel(script=[SEARCH]), sleepy_search, 1),
    ],
    ids=["model", "search"],
)
async def test_the_time_limit_ends_what_is_under_way(model: Any, search: Any, calls: int):
    agent = MaskSearchAgent(model, search, AgentSettings(time_limit_s=0.5), COMPACT_PROMPTS)
    started = time.monotonic()
    for answer in (agent.invoke("q"), await agent.ainvoke("q")):
        assert (answer.stop_reason, answer.answer) == ("time_limit", "")
        assert str(answer) == "No answer was found (time_limit)."
        assert answer.usage.model_calls == calls
    assert time.monotonic() - started < 8.0


async def test_the_time_limit_ends_an_awaited_search():
    agent = MaskSearchAgent(
        ScriptedChatModel(script=[SEARCH]), asleepy_search, AgentSettings(time_limit_s=0.3), COMPACT_PROMPTS
    )
    started = time.monotonic()
    assert (await agent.ainvoke("q")).stop_reason == "time_limit"
    assert time.monotonic() - started < 5.0


async def test_a_failure_of_a_model_s_own_is_no_spent_limit():
    def time_out(messages: list[BaseMessage]) -> str:
        raise TimeoutError("the server did not answer")

    with pytest.raises(TimeoutError, match="the server did not answer"):
        make_agent(ScriptedChatModel(script=time_out)).invoke("q")
    with pytest.raises(TimeoutError, match="the server did not answer"):
        await make_agent(ScriptedChatModel(script=time_out)).ainvoke("q")


@pytest.mark.parametrize("dialect", ["tags", "tools"])
def test_a_source_is_asked_for_a_marker_as_it_is_written(dialect: Any):
    def reply(messages: list[BaseMessage]) -> Any:
        if len(messages) > 2:
            return "Ada" if dialect == "tools" else ANSWER
        if dialect == "tools":
            call = {
                "name": "search",
                "args": {"queries": [messages[-1].text]},
                "id": "1",
                "type": "tool_call",
            }
            return AIMessage("", tool_calls=[call])
        return f"<think></think><search>{messages[-1].text}</search>"

    searched: list[str] = []
    agent = MaskSearchAgent(
        FakeToolModel(script=reply),
        lambda query: searched.append(query) or ["x"],
        AgentSettings(dialect=dialect),
    )
    asked = "What is <|endoftext|>?"
    assert agent.invoke(asked).searches == ((asked,),)
    assert searched == [asked]


def test_a_search_that_only_one_thread_may_use_is_used_there():
    import sqlite3

    connection = sqlite3.connect(":memory:")

    def search(query: str) -> list[str]:
        return [str(connection.execute("select 'row'").fetchone()[0])]

    answer = MaskSearchAgent(ScriptedChatModel(script=echo), search).invoke("q")
    assert [source.text for source in answer.retrieved] == ["row"]


# --- what the user set -------------------------------------------------------------------------------------


@pytest.mark.parametrize("dialect", ["tags", "tools"])
def test_a_user_s_own_system_message_is_kept(dialect: Any):
    model = FakeToolModel(script=["Ada"]) if dialect == "tools" else ScriptedChatModel(script=[ANSWER])
    prompts = TOOL_PROMPTS if dialect == "tools" else COMPACT_PROMPTS
    agent = MaskSearchAgent(model, lambda query: [], AgentSettings(dialect=dialect), prompts)
    answer = agent.invoke([SystemMessage("Answer in French."), HumanMessage("q")])
    assert model.calls[0][0].text == f"{prompts.question_system}\n\nAnswer in French."
    assert [m.type for m in model.calls[0]] == ["system", "human"]
    assert answer.trajectory is not None
    recorded = answer.trajectory.turns[0].context[0].content
    assert recorded.endswith("\n\nAnswer in French.")
    assert dialect == "tags" or "<search>" in recorded, (
        "recorded as a model that speaks the tags would be told"
    )


class FakeToolModel(ScriptedChatModel):
    """Takes tools, and does nothing with them."""

    def bind_tools(self, tools: Any, **kwargs: Any) -> Any:
        return self.bind(**kwargs)


# --- endings -----------------------------------------------------------------------------------------------

REFUSAL = AIMessage("", additional_kwargs={"refusal": "I cannot help with that."})
CALL = AIMessage(
    "", tool_calls=[{"name": "search", "args": {"queries": ["x"]}, "id": "1", "type": "tool_call"}]
)


def ended(**told: Any) -> AIMessage:
    return AIMessage("Harrow was founded in 19", response_metadata=told)


@pytest.mark.parametrize(
    ("dialect", "script", "stop_reason", "calls"),
    [
        ("tags", [REFUSAL], "refused", 1),
        ("tools", [REFUSAL], "refused", 1),
        ("tags", [AIMessage("", response_metadata={"stop_reason": "refusal"})], "refused", 1),
        ("tags", [""], "repairs_exhausted", 3),
        ("tools", [""], "repairs_exhausted", 3),
        ("tags", ["It is Ada."], "repairs_exhausted", 3),
        ("tags", [SEARCH], "repairs_exhausted", 5),
        ("tools", [CALL], "repairs_exhausted", 5),
        ("tools", [ended(stop_reason="refusal")], "refused", 1),
        ("tools", [ended(finish_reason="content_filter")], "refused", 1),
        ("tools", [ended(incomplete_details={"reason": "content_filter"})], "refused", 1),
        ("tools", [ended(finish_reason="length")], "repairs_exhausted", 3),
        ("tools", [ended(stop_reason="max_tokens")], "repairs_exhausted", 3),
        ("tools", [ended(incomplete_details={"reason": "max_output_tokens"})], "repairs_exhausted", 3),
    ],
)
def test_a_run_without_an_answer_says_why(dialect: Any, script: list[Any], stop_reason: str, calls: int):
    model = FakeToolModel(script=script)
    answer = MaskSearchAgent(
        model, DictRetriever(entries=PASSAGES), AgentSettings(dialect=dialect, max_searches=1)
    ).invoke("q")
    assert (answer.answer, answer.stop_reason, len(model.calls)) == ("", stop_reason, calls)
    assert str(answer) == f"No answer was found ({stop_reason})."
    if stop_reason == "refused" and script == [REFUSAL]:
        assert answer.reasoning == "I cannot help with that."


def test_a_model_that_takes_no_tools_is_refused_in_a_line():
    retrying = FakeListChatModel(responses=["x"]).with_retry()
    with pytest.raises(AgentError, match="has no native tool calling"):
        MaskSearchAgent(retrying, lambda query: [], AgentSettings(dialect="tools"))
