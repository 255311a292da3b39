"""A reasoning model's thought is its step's thought, wherever its provider puts it."""

from __future__ import annotations

from typing import Any

import pytest
from fakes.chat_models import ScriptedChatModel, ScriptedRecordingModel
from fakes.retrievers import DictRetriever
from langchain_core.language_models import FakeListChatModel
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage

from masksearch_agent.agent.dialects import TagsDialect, ToolsDialect
from masksearch_agent.agent.prompts import COMPACT_PROMPTS, TOOL_PROMPTS
from masksearch_agent.agent.protocol import AnswerStep, FormatError, SearchStep
from masksearch_agent.agent.runnable import MaskSearchAgent
from masksearch_agent.agent.thoughts import split_thought
from masksearch_agent.config.agent import AgentSettings
from masksearch_agent.records import Message

TEXT = "<search>founder of Harrow</search>"
PASSAGES = {"founder of Harrow": ["Harrow: Ada founded Harrow."]}
TAGS, TOOLS = TagsDialect(2), ToolsDialect(2, TOOL_PROMPTS)


def beside(text: str, **fields: Any) -> AIMessage:
    return AIMessage(text, additional_kwargs=fields)


def blocks(*parts: Any) -> AIMessage:
    return AIMessage([*parts])


def text_block(text: str) -> dict[str, str]:
    return {"type": "text", "text": text}


REPLIES: dict[str, tuple[AIMessage, str]] = {
    "reasoning_content": (beside(TEXT, reasoning_content="who?"), "who?"),
    "a summary": (beside(TEXT, reasoning={"summary": [{"type": "summary_text", "text": "who?"}]}), "who?"),
    "a reasoning block": (blocks({"type": "reasoning", "reasoning": "who?"}, text_block(TEXT)), "who?"),
    "a thinking block": (
        blocks({"type": "thinking", "thinking": "who?", "signature": "s"}, text_block(TEXT)),
        "who?",
    ),
    "a summary block": (
        blocks(
            {"type": "reasoning", "summary": [{"type": "summary_text", "text": "who?"}]}, text_block(TEXT)
        ),
        "who?",
    ),
    "native tags": (AIMessage(f"<think>\nHm.\n</think>\n\n<think>who?</think>{TEXT}"), "Hm.\n\nwho?"),
    "native tags alone": (AIMessage(f"<think>\nwho?\n</think>\n\n{TEXT}"), "who?"),
    "a closing tag alone": (AIMessage(f"who?\n</think>\n\n{TEXT}"), "who?"),
    "a closing tag and the protocol's own": (
        AIMessage(f"Hm.</think><think>who?</think>{TEXT}"),
        "Hm.\n\nwho?",
    ),
    "a field, and a whole step": (beside(f"<think>who?</think>{TEXT}", reasoning_content="Hm."), "who?"),
    "tags within": (
        AIMessage(f"I could <search>x</search> or <answer>.</think>{TEXT}"),
        "I could <\u2060search>x<\u2060/search> or <\u2060answer>.",
    ),
}


@pytest.mark.parametrize(("reply", "thought"), REPLIES.values(), ids=REPLIES.keys())
def test_a_native_thought_is_the_step_s_thought(reply: AIMessage, thought: str):
    assert TAGS.read(reply) == SearchStep(thought, ("founder of Harrow",))


@pytest.mark.parametrize(("reply", "thought"), REPLIES.values(), ids=REPLIES.keys())
@pytest.mark.parametrize("is_cutting_stop", [False, True])
async def test_a_reasoning_model_searches_and_answers(reply: AIMessage, thought: str, is_cutting_stop: bool):
    answered = beside("<answer>Ada</answer>", reasoning_content="It is Ada.")
    model = ScriptedChatModel(script=[reply, answered], is_cutting_stop=is_cutting_stop)
    agent = MaskSearchAgent(model, DictRetriever(entries=PASSAGES), prompts=COMPACT_PROMPTS)
    answer = await agent.ainvoke("Who founded Harrow?")
    assert (answer.answer, answer.reasoning, answer.stop_reason) == ("Ada", "It is Ada.", "answered")
    assert answer.searches == (("founder of Harrow",),)
    assert answer.trajectory is not None
    assert answer.trajectory.format_errors == 0
    first, second = answer.trajectory.turns
    assert second.parent_id == first.id, "what was recorded is what the next call goes on with"
    assert second.text == "<think> It is Ada.</think><answer> Ada</answer>"
    wanted = f"<think> {thought}</think><search> founder of Harrow</search>"
    assert first.text == wanted or TAGS.read(AIMessage(first.text)) == TAGS.read(AIMessage(wanted))


def test_a_step_that_is_the_protocol_s_own_is_recorded_as_it_was_written():
    text = f"<think>who?</think>{TEXT}"
    assert TAGS.record([HumanMessage("q"), AIMessage(text)]) == [
        Message("user", "q"),
        Message("assistant", text),
    ]


@pytest.mark.parametrize(
    ("reply", "kind"),
    [
        (AIMessage(TEXT), "missing_think"),
        (beside("", reasoning_content="who?"), "missing_action"),
        (beside("Ada.", reasoning_content="who?"), "text_outside_tags"),
        (AIMessage(f"<think>who? {TEXT}"), "nested_tag"),
        (beside(f"{TEXT}<answer>Ada</answer>", reasoning_content="who?"), "two_actions"),
    ],
)
def test_a_thought_mends_no_other_fault(reply: AIMessage, kind: str):
    step = TAGS.read(reply)
    assert isinstance(step, FormatError)
    assert step.kind == kind


def test_what_is_trained_is_read_strictly():
    text = f"<think>a</think><think>b</think>{TEXT}"
    strict = TagsDialect(2, is_strict=True)
    for reply in (AIMessage(text), beside(TEXT, reasoning_content="who?")):
        assert isinstance(strict.read(reply), FormatError)
    agent = MaskSearchAgent(
        ScriptedRecordingModel(script=[text]), lambda query: [], AgentSettings(max_repairs=0), COMPACT_PROMPTS
    )
    assert agent.invoke("q").stop_reason == "repairs_exhausted"


@pytest.mark.parametrize(
    ("reply", "step"),
    [
        (AIMessage("<think>The text says 1932.</think>\n\n1932"), AnswerStep("The text says 1932.", "1932")),
        (AIMessage("The text says 1932.</think>1932"), AnswerStep("The text says 1932.", "1932")),
        (beside("1932", reasoning_content="It says so."), AnswerStep("It says so.", "1932")),
        (
            blocks({"type": "reasoning", "reasoning": "It says so."}, text_block("1932")),
            AnswerStep("It says so.", "1932"),
        ),
        (AIMessage("1932"), AnswerStep("", "1932")),
    ],
)
def test_a_native_thought_is_no_part_of_a_tool_calling_model_s_answer(reply: AIMessage, step: AnswerStep):
    assert TOOLS.read(reply) == step


@pytest.mark.parametrize("text", ["<think>The text says 1932.</think>", "<think>The text says 1932."])
def test_a_thought_alone_is_no_answer(text: str):
    step = TOOLS.read(AIMessage(text))
    assert isinstance(step, FormatError)
    assert step.kind == "empty_step"


def searching(queries: Any, text: str = "") -> AIMessage:
    call = {"name": "search", "args": {"queries": queries}, "id": "1", "type": "tool_call"}
    return AIMessage(text, tool_calls=[call], additional_kwargs={"reasoning_content": "Hm."})


def test_a_list_of_queries_may_come_as_a_string():
    assert TOOLS.read(searching('["a", "b"]', "who?")) == SearchStep("Hm.\n\nwho?", ("a", "b"))
    assert TOOLS.read(searching("[1932] census")) == SearchStep("Hm.", ("[1932] census",))


@pytest.mark.parametrize(
    "text",
    [
        '{"name": "search", "arguments": {"queries": ["a"]}}',
        '<tool_call>\n{"name": "search", "arguments": {"queries": ["a"]}}\n</tool_call>',
        '```json\n{"queries": ["a"]}\n```',
    ],
)
def test_a_call_that_is_written_as_text_is_to_be_taken_again(text: str):
    step = TOOLS.read(AIMessage(text))
    assert isinstance(step, FormatError)
    assert step.kind == "malformed_call"
    assert TOOLS.read(AIMessage('{"year": 1932}')) == AnswerStep("", '{"year": 1932}')


def test_a_reply_without_a_thought_is_its_text():
    assert split_thought(AIMessage(" 1932 ")) == ("", "1932")


def test_a_simple_chat_model_may_write_its_thought_first():
    """What README's first example does, over a model that thinks natively."""

    class Thinking(FakeListChatModel):
        def _call(self, messages: list[BaseMessage], *args: Any, **kwargs: Any) -> str:
            return f"<think>\nwhy not?\n</think>\n\n{super()._call(messages, *args, **kwargs)}"

    agent = MaskSearchAgent(
        Thinking(responses=[TEXT, "<answer>Ada</answer>"]), DictRetriever(entries=PASSAGES)
    )
    answer = agent.invoke("Who founded Harrow?")
    assert (answer.answer, len(answer.searches)) == ("Ada", 1)


def test_a_reasoning_model_is_given_no_stop_strings_and_read_up_to_its_step():
    profile = {"reasoning_output": True}
    after = "<think></think><search>founder of Harrow</search>\n<information>made up</information>"
    model = ScriptedChatModel(script=[after, "<think></think><answer>Ada</answer> Done."], profile=profile)
    answer = MaskSearchAgent(model, DictRetriever(entries=PASSAGES)).invoke("q")
    assert [keywords["stop"] for keywords in model.keywords] == [None, None]
    assert (answer.answer, len(answer.searches), len(model.calls)) == ("Ada", 1, 2)
    assert not any("made up" in str(message.content) for message in model.calls[1])
