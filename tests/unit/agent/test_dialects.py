from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from fakes.chat_models import ScriptedChatModel, ScriptedRecordingModel
from fakes.passages import ListBackend, make_passages
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage, ToolMessage
from langchain_core.runnables import Runnable

from masksearch_agent.agent.dialects import ToolsDialect
from masksearch_agent.agent.prompts import CITE, FULL_PROMPTS, TOOL_PROMPTS
from masksearch_agent.agent.protocol import AnswerStep, FormatError, SearchStep, parse_step
from masksearch_agent.agent.runnable import MaskSearchAgent
from masksearch_agent.config.agent import AgentSettings
from masksearch_agent.errors import AgentError
from masksearch_agent.models.chat_format import ChatFormat
from masksearch_agent.records import Message
from masksearch_agent.traces.rows import make_rows

SEARCH = ListBackend(
    {"founder": make_passages("Ada founded it."), "seat": make_passages("It sits in Port Aldin.")}
)
DIALECT = ToolsDialect(max_queries=2, prompts=TOOL_PROMPTS)


class ToolCallingModel(ScriptedChatModel):
    """A scripted model that takes tools, as API models do."""

    def bind_tools(self, tools: Sequence[Any], **kwargs: Any) -> Runnable[Any, Any]:
        return self.bind(tools=list(tools), **kwargs)


def call(*queries: Any, name: str = "search", id_: str = "1", text: str = "") -> AIMessage:
    arguments = {"queries": list(queries)}
    return AIMessage(text, tool_calls=[{"name": name, "args": arguments, "id": id_, "type": "tool_call"}])


def make_agent(*script: AIMessage | str, **limits: Any) -> tuple[MaskSearchAgent, ToolCallingModel]:
    model = ToolCallingModel(script=list(script))
    return MaskSearchAgent(model, SEARCH, AgentSettings(dialect="tools", **limits)), model


def test_an_agent_of_tool_calls_searches_and_answers() -> None:
    agent, model = make_agent(call("founder", text="I need the founder."), "Ada")
    answer = agent.invoke("Who founded it?")
    assert (answer.answer, answer.stop_reason, answer.searches) == ("Ada", "answered", (("founder",),))
    assert [passage.text for passage in answer.retrieved] == ["Ada founded it."]
    [bound] = model.keywords[0]["tools"]
    assert bound["function"]["name"] == "search"
    assert model.keywords[0]["stop"] is None
    system, _, _, result = model.calls[1]
    assert system.content == TOOL_PROMPTS.question_system + CITE
    assert isinstance(result, ToolMessage)
    assert result.tool_call_id == "1"
    assert "Ada founded it." in str(result.content)


def test_its_trajectory_is_one_of_the_tags_dialect_and_can_be_trained_on(tiny_tokenizer: Any) -> None:
    agent, _ = make_agent(call("founder", text="I need the founder."), "Ada")
    trajectory = agent.invoke("Who founded it?").trajectory
    assert trajectory is not None
    first, second = trajectory.turns
    assert first.context[0] == Message("system", FULL_PROMPTS.question_system)
    assert first.text == "<think> I need the founder.</think><search> founder</search>"
    assert second.parent_id == first.id
    assert [message.role for message in second.context] == ["user"]
    assert second.context[0].content.startswith("<information>")
    assert second.text == "<think></think><answer> Ada</answer>"
    for turn in trajectory.turns:
        assert not isinstance(parse_step(turn.text, 3), FormatError)
    [row] = make_rows(trajectory, ChatFormat(tiny_tokenizer))
    trained = [token for token, trains in zip(row.input_ids, row.trainable, strict=True) if trains]
    said = tiny_tokenizer.decode([token for token in trained if token != tiny_tokenizer.eos_token_id])
    assert said == first.text + second.text


def test_several_calls_at_once_are_one_search_and_each_gets_a_result() -> None:
    both = AIMessage("", tool_calls=[*call("founder").tool_calls, *call("seat", id_="2").tool_calls])
    agent, model = make_agent(both, "Ada")
    answer = agent.invoke("Who?")
    assert answer.searches == (("founder", "seat"),)
    assert len(answer.trajectory.turns) == 2  # type: ignore[union-attr]
    results = [message for message in model.calls[1] if isinstance(message, ToolMessage)]
    assert [result.tool_call_id for result in results] == ["1", "2"]


@pytest.mark.parametrize(
    ("reply", "kind"),
    [
        (call("x", name="browse"), "unknown_tool"),
        (call("x", 3), "malformed_call"),
        (AIMessage("", tool_calls=[{"name": "search", "args": {}, "id": "1", "type": "tool_call"}]), "malformed_call"),
        (
            AIMessage("", invalid_tool_calls=[
                {"name": "search", "args": "{", "id": "1", "error": "cut", "type": "invalid_tool_call"}
            ]),
            "malformed_call",
        ),
        (call("x", " "), "empty_query"),
        (call(), "empty_query"),
        (call("a", "b", "c"), "too_many_queries"),
        (AIMessage("  "), "empty_step"),
    ],
)  # fmt: skip
def test_a_malformed_call_is_named_and_repaired(reply: AIMessage, kind: str) -> None:
    error = DIALECT.read(reply)
    assert isinstance(error, FormatError)
    assert error.kind == kind

    agent, model = make_agent(reply, "Ada", max_queries=2)
    answer = agent.invoke("Who?")
    assert (answer.answer, answer.trajectory.format_errors) == ("Ada", 1)  # type: ignore[union-attr]
    said = model.calls[1][-1]
    assert error.message in str(said.content)
    assert isinstance(said, ToolMessage if reply.tool_calls or reply.invalid_tool_calls else HumanMessage)


def test_a_spent_budget_is_answered_in_the_call_s_own_result() -> None:
    agent, model = make_agent(call("founder"), call("seat", id_="2"), "Ada", max_searches=1)
    assert agent.invoke("Who?").stop_reason == "forced"
    last = model.calls[2][-1]
    assert isinstance(last, ToolMessage)
    assert (last.content, last.tool_call_id) == (TOOL_PROMPTS.force_answer, "2")


def test_tags_in_what_the_model_says_forge_nothing() -> None:
    step = DIALECT.read(call("<search>x</search>", text="</think><answer>no</answer>"))
    assert isinstance(step, SearchStep)
    answer = DIALECT.read(AIMessage("a</answer>\nb"))
    assert isinstance(answer, AnswerStep)
    for recorded in DIALECT.record([call("x", text="</think><answer>no"), AIMessage("a</answer>")]):
        assert not isinstance(parse_step(recorded.content, 2), FormatError)


def test_a_system_prompt_of_the_user_stays_as_it_is() -> None:
    assert DIALECT.record([SystemMessage("Be brief.")]) == [Message("system", "Be brief.")]


def test_models_that_call_no_tools_are_refused() -> None:
    settings = AgentSettings(dialect="tools")
    with pytest.raises(
        AgentError, match="ScriptedChatModel has no native tool calling; use the `tags` dialect"
    ):
        MaskSearchAgent(ScriptedChatModel(script=["x"]), SEARCH, settings)
    with pytest.raises(AgentError, match="records its tokens"):
        MaskSearchAgent(ScriptedRecordingModel(script=["x"]), SEARCH, settings)
