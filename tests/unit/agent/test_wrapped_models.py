"""What an application puts around its chat model stays there, and what is no chat model is refused."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest
from fakes.agents import ANSWER, PASSAGES, SEARCH
from fakes.chat_models import ScriptedChatModel
from fakes.retrievers import DictRetriever
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.language_models import FakeListLLM
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.runnables import Runnable
from pydantic import BaseModel

from masksearch_agent.agent.runnable import MaskSearchAgent
from masksearch_agent.agent.wrapped_models import bare_model
from masksearch_agent.config.agent import AgentSettings
from masksearch_agent.errors import AgentError

CALL = {"type": "tool_call", "id": "1", "name": "search", "args": {"queries": ["founder of Harrow"]}}
STEPS = {"tags": [SEARCH, ANSWER], "tools": [AIMessage("", tool_calls=[CALL]), "Ada"]}


class Founder(BaseModel):
    name: str


class ToolModel(ScriptedChatModel):
    """Takes tools as integrations do, which bind them."""

    model_name: str = "tool-model"
    num_predict: int | None = None

    def bind_tools(self, tools: Sequence[Any], **kwargs: Any) -> Runnable[Any, AIMessage]:
        return self.bind(tools=[str(tool) for tool in tools], **kwargs)


class Heard(BaseCallbackHandler):
    def __init__(self) -> None:
        self.tags: list[list[str]] = []

    def on_chat_model_start(self, *_: Any, tags: Any = None, **__: Any) -> None:
        self.tags.append(tags)


def ask(model: Any, dialect: Any, **limits: Any) -> str:
    settings = AgentSettings(dialect=dialect, **limits)
    return MaskSearchAgent(model, DictRetriever(entries=PASSAGES), settings).invoke("who?").answer


@pytest.mark.parametrize("dialect", ["tags", "tools"])
@pytest.mark.parametrize(
    "wrap",
    [
        lambda model, heard: model.bind(seed=7).with_config(tags=["mine"], callbacks=[heard]),
        lambda model, heard: model.bind(seed=7).with_retry().with_config(tags=["mine"], callbacks=[heard]),
    ],
    ids=["bound", "retrying"],
)
def test_keywords_and_callbacks_that_are_bound_to_a_model_reach_it(
    wrap: Callable[[Any, Any], Any], dialect: str
):
    model, heard = ToolModel(script=STEPS[dialect]), Heard()
    assert ask(wrap(model, heard), dialect) == "Ada"
    assert [sent["seed"] for sent in model.keywords] == [7, 7]
    assert [tags[-1] for tags in heard.tags] == ["mine", "mine"]


@pytest.mark.parametrize("dialect", ["tags", "tools"])
def test_a_model_that_tries_again_tries_again(dialect: str):
    steps = STEPS[dialect]
    model = ToolModel(script=[None, *steps], fail_on=0)
    assert ask(model.with_retry(wait_exponential_jitter=False), dialect) == "Ada"
    assert len(model.calls) == 3


def test_the_agent_s_tool_takes_the_place_of_tools_that_are_bound():
    model = ToolModel(script=STEPS["tools"])
    assert ask(model.bind_tools(["another"], tool_choice="another", seed=7), "tools") == "Ada"
    assert all("'name': 'search'" in sent["tools"][0] and len(sent["tools"]) == 1 for sent in model.keywords)
    assert [(sent["seed"], "tool_choice" in sent) for sent in model.keywords] == [(7, False)] * 2


def test_a_model_s_own_limit_is_found_under_what_is_around_it():
    limits: list[int | None] = []

    class Limited(ToolModel):
        def _generate(self, messages: list[BaseMessage], *args: Any, **kwargs: Any) -> Any:
            limits.append(self.num_predict)
            assert "num_predict" not in kwargs, "it takes it with the model"
            return super()._generate(messages, *args, **kwargs)

    model = Limited(script=lambda said: STEPS["tags"]["<information>" in said[-1].text])
    assert ask(model.bind(seed=7).with_retry(), "tags", max_step_tokens=50) == "Ada"
    assert limits == [50, 50]


def test_a_form_is_asked_for_again_by_a_model_that_tries_again():
    def reply(said: list[BaseMessage]) -> Any:
        if "in the form" in said[0].text:
            return AIMessage("", tool_calls=[{"name": "Founder", "args": {"name": "Ada"}, "id": "1"}])
        return STEPS["tags"]["<information>" in said[-1].text]

    model = ToolModel(script=reply, fail_on=2)
    wrapped: Any = model.with_retry(wait_exponential_jitter=False).bind(seed=7)
    agent = MaskSearchAgent(wrapped, DictRetriever(entries=PASSAGES), response_format=Founder)
    assert agent.invoke("who?").structured == Founder(name="Ada")
    assert len(model.calls) == 4


def test_what_is_around_a_model_does_not_hide_who_it_is():
    model = ToolModel(script=[])
    agent = MaskSearchAgent(model.with_retry(), DictRetriever(entries=PASSAGES))
    assert agent.model_version == "tool-model"
    assert bare_model(agent.model) is model


@pytest.mark.parametrize(
    ("model", "what"),
    [
        (None, "a NoneType"),
        ("", "empty"),
        (ScriptedChatModel, "the class ScriptedChatModel"),
        (lambda messages: "hi", "a function"),
        (FakeListLLM(responses=["hi"]), "a FakeListLLM"),
    ],
)
def test_what_is_no_chat_model_is_refused(model: Any, what: str):
    with pytest.raises(AgentError, match=rf"`model` is {what}; expected a chat model, or the name of one"):
        MaskSearchAgent(model, DictRetriever(entries=PASSAGES))
