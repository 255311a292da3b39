"""Answers in a form of the application's own."""

from __future__ import annotations

import copy
import json
import pickle
import time
from typing import Any

import pytest
from fakes.agents import ANSWER, SEARCH, THREAD
from fakes.chat_models import ScriptedChatModel, ScriptedRecordingModel
from fakes.retrievers import DictRetriever
from langchain_core.messages import AIMessage, HumanMessage
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, StateGraph
from langgraph.graph.message import MessagesState
from pydantic import BaseModel

from masksearch_agent.agent.prompts import COMPACT_PROMPTS
from masksearch_agent.agent.runnable import MaskSearchAgent
from masksearch_agent.config.agent import AgentSettings
from masksearch_agent.errors import AgentError, ReplyError
from masksearch_agent.records import SearchAnswer

PASSAGES = {"founder of Harrow": ["Harrow: Ada founded Harrow in 1901."]}


class Founder(BaseModel):
    """Who founded a company."""

    name: str
    year: int | None = None


class FormModel(ScriptedChatModel):
    """Calls the tool that it is made to call, as `with_structured_output` has it."""

    def bind_tools(self, tools: Any, **kwargs: Any) -> Any:
        return self.bind(tools=[tool.__name__ for tool in tools])


def filled(**arguments: Any) -> AIMessage:
    call = {"name": "Founder", "args": arguments, "id": "1", "type": "tool_call"}
    usage = {"input_tokens": 1, "output_tokens": 3, "total_tokens": 4}
    return AIMessage("", tool_calls=[call], usage_metadata=usage)  # type: ignore[arg-type]


def make_agent(*script: Any, **parts: Any) -> MaskSearchAgent:
    model = FormModel(script=list(script), tokens_per_reply=None)
    settings = parts.pop("settings", AgentSettings())
    parts = {"response_format": Founder, **parts}
    return MaskSearchAgent(model, DictRetriever(entries=PASSAGES), settings, COMPACT_PROMPTS, **parts)


async def test_an_answer_holds_the_form_of_the_application():
    for is_async in (False, True):
        agent = make_agent(SEARCH, ANSWER, filled(name="Ada", year=1901))
        answer = await agent.ainvoke("Who?") if is_async else agent.invoke("Who?")
        assert answer.structured == Founder(name="Ada", year=1901)
        assert (answer.answer, answer.stop_reason, len(agent.model.calls)) == ("Ada", "answered", 3)
        asked = agent.model.calls[-1][-1].text
        for part in ("Question: Who?", "Harrow: Ada founded Harrow in 1901.", "Answer: Ada"):
            assert part in asked
        assert answer.trajectory is not None
        assert len(answer.trajectory.turns) == 2, "it is no step"


def test_a_form_is_filled_in_with_what_was_found_earlier_in_the_conversation_too():
    agent = make_agent(
        SEARCH, ANSWER, filled(name="Ada"), ANSWER, filled(name="Ada"), checkpointer=InMemorySaver()
    )
    agent.invoke("Who?", THREAD)
    assert agent.invoke("Who again?", THREAD).searches == ()
    asked = agent.model.calls[-1][-1].text
    assert asked.startswith("Question: Who again?")
    assert "Harrow: Ada founded Harrow in 1901." in asked


def test_a_form_that_does_not_fit_is_asked_for_again():
    agent = make_agent(SEARCH, ANSWER, filled(year="long ago"), filled(name="Ada"))
    assert agent.invoke("Who?").structured == Founder(name="Ada")
    assert "did not fit" in agent.model.calls[-1][-1].text
    assert "year" in agent.model.calls[-1][-1].text
    with pytest.raises(ReplyError, match="not given as Founder"):
        make_agent(SEARCH, ANSWER, filled(year=1)).invoke("Who?")


async def test_what_a_run_cost_holds_what_its_form_did_each_time_it_was_asked_for():
    agent = make_agent(
        SEARCH, ANSWER, filled(year="long ago"), filled(name="Ada"), checkpointer=InMemorySaver()
    )
    cost = agent.invoke("Who?", THREAD).usage
    assert (cost.model_calls, cost.prompt_tokens) == (4, 2), "each form read one token, the steps do not say"
    agent.model.script = [SEARCH, ANSWER, filled(name="Ada")]
    agent.model.calls.clear()
    cost = (await agent.ainvoke({"question": "Who?"}, THREAD)).usage
    assert (cost.model_calls, cost.prompt_tokens) == (3, 1)
    # Without an answer nothing is asked for, and what the thread's last run cost is none of this one's.
    agent.model.script = ["?"]
    cost = agent.with_limits(max_repairs=0).invoke({"question": "Who?"}, THREAD).usage
    assert (cost.model_calls, cost.prompt_tokens) == (1, 0)


def test_without_an_answer_or_a_form_there_is_nothing_in_it():
    agent = make_agent("?", settings=AgentSettings(max_repairs=0))
    answer = agent.invoke("Who?")
    assert (answer.structured, answer.stop_reason) == (None, "repairs_exhausted")
    assert len(agent.model.calls) == 1
    plain = make_agent(SEARCH, ANSWER, response_format=None).invoke("Who?")
    assert (plain.structured, plain.answer) == (None, "Ada")


class SlowForm(FormModel):
    def _generate(self, messages: Any, *args: Any, **kwargs: Any) -> Any:
        if "tools" in kwargs:
            time.sleep(20)
        return super()._generate(messages, *args, **kwargs)


async def test_the_time_limit_holds_for_the_form_too():
    settings = AgentSettings(time_limit_s=1.0)
    model = SlowForm(script=["<think></think><answer>Ada</answer>"])
    agent = MaskSearchAgent(model, lambda q: [], settings, COMPACT_PROMPTS, response_format=Founder)
    for answer in (agent.invoke("Who?"), await agent.ainvoke("Who?")):
        assert (answer.answer, answer.structured) == ("Ada", None)


def test_a_parent_is_handed_the_form():
    parent = StateGraph(ParentState)
    parent.add_node("research", make_agent(SEARCH, ANSWER, filled(name="Ada")).graph)
    parent.add_edge(START, "research")
    graph = parent.compile(checkpointer=InMemorySaver())
    state = graph.invoke({"messages": [HumanMessage("Who?")]}, THREAD)
    assert state["structured_response"] == {"name": "Ada", "year": None}
    assert [message.text.split()[0] for message in state["messages"]] == ["Who?", "Ada"]
    json.dumps(state["structured_response"])


class ParentState(MessagesState, total=False):
    structured_response: dict[str, Any]


def test_a_run_that_is_interrupted_before_the_form_holds_none_yet():
    agent = make_agent(SEARCH, ANSWER, filled(name="Ada"), checkpointer=InMemorySaver())
    before = agent.invoke("Who?", THREAD, interrupt_before=["structure"])
    assert (before.answer, before.structured) == ("Ada", None)
    assert agent.invoke(None, THREAD).structured == Founder(name="Ada")


def test_no_stream_of_messages_shows_the_form_being_filled_in():
    graph = make_agent(SEARCH, ANSWER, filled(name="Ada")).graph
    nodes = {meta["langgraph_node"] for _, meta in graph.stream({"question": "q"}, stream_mode="messages")}
    assert nodes == {"think"}


def test_copies_ask_for_the_form_too():
    agent = make_agent(SEARCH, ANSWER, filled(name="Ada"))
    assert copy.deepcopy(agent).response_format is Founder
    assert agent.with_limits(max_searches=1).invoke("Who?").structured == Founder(name="Ada")
    answer = make_agent(SEARCH, ANSWER, filled(name="Ada")).invoke("Who?")
    assert isinstance(hash(answer), int)
    assert pickle.loads(pickle.dumps(answer)) == answer
    assert isinstance(answer, SearchAnswer)


@pytest.mark.parametrize(
    ("model", "form", "message"),
    [
        (ScriptedRecordingModel(script=[]), Founder, "ScriptedRecordingModel samples the steps"),
        (ScriptedChatModel(script=[]), Founder, "ScriptedChatModel gives no structured output"),
        (FormModel(script=[]), {"type": "object"}, "expected a class derived from pydantic's BaseModel"),
    ],
)
def test_what_cannot_fill_in_a_form_is_refused_in_words(model: Any, form: Any, message: str):
    with pytest.raises(AgentError, match=message):
        MaskSearchAgent(model, lambda q: [], response_format=form)
