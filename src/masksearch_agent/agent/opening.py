"""How a run opens: the system prompt, worked examples, the question and, where it was searched for, what was found.

What is asked is a question, or a conversation of the application's own, of which the model reads what was said and not
what tools were called. A conversation goes on with the transcript of the thread's last run, where that was finished.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from langchain_core.messages import AIMessage, AnyMessage, BaseMessage, HumanMessage, SystemMessage

from masksearch_agent.agent.closing import said_before
from masksearch_agent.agent.escaping import neutralise, restore
from masksearch_agent.agent.prompts import PromptSet
from masksearch_agent.agent.protocol import render_information
from masksearch_agent.errors import AgentError
from masksearch_agent.records import MASK, Passage
from masksearch_agent.text.cleaning import encodable

__all__ = ("open_conversation", "opening_messages", "opening_query", "opening_text", "require_question")

_HANDOFF = re.compile(
    r"^transfer_(back_)?to_|hand_?(off|over)(_to_|$)|^delegate_(task_|work_)?to_|^assign_(task_)?to_|^task$",
    re.IGNORECASE,
)
"""Names of tools with which one agent hands over to another."""
_UNREAD = ("image", "audio", "video", "file", "text-plain")
"""Blocks of a message that are no words of whoever wrote it."""
_TASK_ARGUMENTS = (
    "question",
    "query",
    "task",
    "task_description",
    "description",
    "instructions",
    "message",
    "input",
)


def opening_messages(
    question: str, kind: str, prompts: PromptSet, search_first: bool = False
) -> list[AnyMessage]:
    """Return the messages that open a run, worked examples included; outside text in the question is made harmless.

    Args:
        search_first: Whether the runs of the examples begin with the results of a search (`AgentSettings`), as this one
            will when they are added to its question.
    """
    examples = prompts.examples_for(kind)
    shown = [message for example in examples for message in example.messages(search_first)]
    return [SystemMessage(prompts.system_for(kind)), *shown, HumanMessage(_harmless(question))]


def require_question(question: object) -> str:
    """Return a question that asks something.

    Raises:
        AgentError: It does not.
    """
    if isinstance(question, str) and question.strip():
        return question
    raise AgentError(
        'the input asks nothing; pass a question string, {"question": …} or messages with a question of a human'
    )


def open_conversation(
    messages: Sequence[AnyMessage],
    earlier: Mapping[str, Any],
    prompts: PromptSet,
    kind: str | None,
    search_first: bool,
) -> tuple[list[AnyMessage], bool]:
    """Return what the model reads of a conversation, its question last, and whether that goes on with the transcript.

    Args:
        messages: The conversation. Its system messages follow our own prompt.
        earlier: State of the thread's last run; `closing_id` names the message that closed it.
        kind: Of the task; None for a question or, where the conversation goes on, for what the run before was. A task
            of another kind than that starts a transcript of its own, and so does one whose thread was begun with other
            prompts than these, by an agent of another dialect say.

    Raises:
        AgentError: The conversation holds no question.
    """
    ids = [message.id for message in messages]
    closing_id = earlier.get("closing_id")
    # A run without an answer may have stopped within a step: its transcript is nothing that a model can go on with.
    goes_on = earlier.get("stop_reason") in ("answered", "forced") and bool(closing_id) and closing_id in ids
    new = messages[ids.index(closing_id) + 1 :] if goes_on else messages
    is_other = not any(_opened_as(each, earlier, prompts) for each in ([kind] if kind else ["qa", "ramp"]))
    goes_on = goes_on and not is_other and all(message.type != "system" for message in new)
    new = new if goes_on else _with_question(messages, earlier)
    place = max((n for n, message in enumerate(new) if message.type == "human"), default=-1)
    # A handoff may say nothing itself, and come long after what a human asked.
    question = require_question(_handed_over(new[place + 1 :]) or _asked_last(messages))
    said = [_as_said(message) for n, message in enumerate(new) if n != place and _is_said(message)]
    if goes_on:
        return [*said, HumanMessage(_harmless(question))], True
    system, *examples, asked = opening_messages(question, kind or "qa", prompts, search_first)
    # Once each: an application may say the same at every turn.
    wanted = dict.fromkeys(str(message.text) for message in messages if message.type == "system")
    system = SystemMessage("\n\n".join([str(system.content), *map(_harmless, wanted)]))
    return [system, *examples, *said, asked], False


def _with_question(messages: Sequence[AnyMessage], earlier: Mapping[str, Any]) -> Sequence[AnyMessage]:
    """Return a conversation in which what the thread's last run was asked stands before its reply, where it was asked
    by `question`, which no message holds."""
    closing_id, asked = earlier.get("closing_id"), restore(earlier.get("asked", ""))
    ids = [message.id for message in messages]
    # A run that broke off was asked something else than the one that closed.
    if not earlier.get("stop_reason") or not closing_id or closing_id not in ids:
        return messages
    before, after = messages[: ids.index(closing_id)], messages[ids.index(closing_id) :]
    is_said = any(message.type == "human" and encodable(str(message.text)) == asked for message in before)
    return messages if is_said else [*before, HumanMessage(asked), *after]


def _opened_as(kind: str, earlier: Mapping[str, Any], prompts: PromptSet) -> bool:
    """Whether the transcript of a thread's last run opens with the prompt for a kind of task."""
    first: Sequence[AnyMessage] = (earlier.get("transcript") or [])[:1]
    ours = prompts.system_for(kind)
    return any(str(message.text) == ours or str(message.text).startswith(f"{ours}\n\n") for message in first)


def opening_text(question: str, shown: Sequence[Passage], numbers: Sequence[int] | None = None) -> str:
    """Return what opens a run whose question was searched for first: what is asked, and what was found."""
    return f"{question}\n{render_information(shown, numbers)}"


def opening_query(question: str) -> str:
    """Return what the opening search asks: the question as it came, and of a masked passage all but the masks."""
    return restore(question).replace(MASK, " ")


def _harmless(text: str) -> str:
    # Half a surrogate pair, which applications cut off the end of a text, no API takes and no tokenizer.
    return neutralise(encodable(text))


def _is_said(message: BaseMessage) -> bool:
    # A reply that calls tools says who does what in the application; neither it nor the results are said to anybody.
    is_reply = isinstance(message, AIMessage) and not message.tool_calls
    return (message.type == "human" or is_reply) and bool(str(message.text).strip())


def _asked_last(messages: Sequence[BaseMessage]) -> str:
    """Return what a human asked last, in words.

    Raises:
        AgentError: More than words was asked, and the answer would be one to another question.
    """
    asked = next((message for message in reversed(messages) if message.type == "human"), None)
    if asked is None or not str(asked.text).strip():
        return ""
    unread = [block["type"] for block in asked.content_blocks if block["type"] in _UNREAD]
    if unread:
        raise AgentError(
            f"the question holds what the agent does not read ({', '.join(dict.fromkeys(unread))}); ask in text, and "
            f"say in it what that shows"
        )
    return str(asked.text)


def _as_said(message: BaseMessage) -> AnyMessage:
    if isinstance(message, AIMessage):
        return AIMessage(_harmless(said_before(message)))
    return HumanMessage(_harmless(str(message.text)))


def _handed_over(messages: Sequence[BaseMessage]) -> str:
    """Return the task that an agent handed over after the last question; empty where none did, or it says nothing."""
    for message in reversed(messages):
        for call in reversed(message.tool_calls if isinstance(message, AIMessage) else []):
            if _HANDOFF.search(call["name"]):
                tasks = [call["args"].get(name) for name in _TASK_ARGUMENTS]
                return next((task for task in tasks if isinstance(task, str) and task.strip()), "")
    return ""
