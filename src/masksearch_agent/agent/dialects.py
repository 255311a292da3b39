"""The two ways in which a model takes a step: tags in its text, or native tool calls.

Both speak about the same steps, so one graph runs both, and a run in either leaves the same kind of trajectory: the
steps of a tool-calling model are recorded as the tags dialect would have written them, and can train a model that
speaks it. So are the thoughts of a reasoning model, which its provider keeps apart from its text.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from functools import lru_cache
from typing import Any, TypeAlias

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import (
    AIMessage,
    AnyMessage,
    BaseMessage,
    HumanMessage,
    SystemMessage,
    ToolMessage,
)
from langchain_core.runnables import Runnable

from masksearch_agent.agent.endings import is_cut, is_refusal
from masksearch_agent.agent.escaping import neutralise, restore
from masksearch_agent.agent.marks import numbers_go_on, without_marks
from masksearch_agent.agent.prompts import CITE, FULL_PROMPTS, PromptSet
from masksearch_agent.agent.protocol import (
    STOP_STRINGS,
    AnswerStep,
    FormatError,
    SearchStep,
    Step,
    clean_text,
    parse_step,
    render_step,
)
from masksearch_agent.agent.thoughts import split_thought
from masksearch_agent.agent.wrapped_models import bare_model, changed_within
from masksearch_agent.config.agent import AgentSettings
from masksearch_agent.errors import AgentError
from masksearch_agent.records import Message
from masksearch_agent.traces.messages import to_messages
from masksearch_agent.traces.recorder import RecordingModel

__all__ = ("Dialect", "TagsDialect", "ToolsDialect", "choose_dialect")

_CALL_FORM = "a call of `search` with `queries`, a list of strings, or the answer as text"
_CALL_MARKS = re.compile(r"```(?:json)?|<\u2060?/?tool_call>")
_TOOL_KEYWORDS = ("tools", "tool_choice")
"""Of what an application bound to its model; the agent's own tool takes the place of others."""
_SEE_FIRST_RESULT = "The results stand with the first call."
_read_text = lru_cache(maxsize=2048)(parse_step)
"""What follows a step, the node that does it and the end of the run all ask what the step is: it is parsed for the
first of them and kept for the others, with those of as many other runs at once."""


class TagsDialect:
    """Steps are text with tags (see `protocol`): what trainable models speak.

    Args:
        is_strict: Read the text alone, as rewards do; else what a model thought natively is its step's thought.
        is_stopped: Give the model stop strings. Many reasoning models refuse them, and they would cut a thought that
            names a tag.
        cites: Whether `[n]` in an answer cites; what is recorded then leaves it out.
    """

    def __init__(
        self, max_queries: int, is_strict: bool = False, is_stopped: bool = True, cites: bool = False
    ) -> None:
        self.max_queries = max_queries
        self.cites = cites
        self.is_strict = is_strict
        self.is_stopped = is_stopped

    def caller(self, model: BaseChatModel) -> Runnable[Any, AIMessage]:
        """Return the model, stopped behind its step where it takes stop strings."""
        return model.bind(stop=list(STOP_STRINGS)) if self.is_stopped else model

    def ended(self, reply: AIMessage) -> AIMessage:
        """Return a reply that ends behind its step, whatever the model or its provider did there."""
        return reply if self.is_strict else _end_behind_step(reply, self.is_stopped)

    def read(self, reply: AnyMessage) -> Step | FormatError:
        """Parse the text; the step, or what is wrong with it."""
        step = _read_text(str(reply.text), self.max_queries)
        if self.is_strict or not isinstance(step, FormatError):
            return step
        thought, text = split_thought(reply)
        if not thought:
            return step
        taken = _read_text(f"<think></think>{text}", self.max_queries)
        return taken if isinstance(taken, FormatError) else replace(taken, think=thought)

    def answer_with(self, reply: AnyMessage, text: str) -> list[AnyMessage]:
        """Return what the environment says after a reply: one user message."""
        return [HumanMessage(text)]

    def record(self, messages: Sequence[BaseMessage]) -> list[Message]:
        """Return a conversation as traces store it: as it is, but for native thoughts and what is cited."""
        recorded = to_messages(messages)
        for place, message in enumerate(messages if not self.is_strict else ()):
            written = recorded[place].content
            if isinstance(message, SystemMessage):
                recorded[place] = Message("system", written.replace(CITE, "", 1))
            step = self.read(message) if isinstance(message, AIMessage) else None
            if isinstance(step, SearchStep | AnswerStep):
                step = _uncited(step) if self.cites else step
                if step != _read_text(written, self.max_queries):
                    recorded[place] = Message("assistant", render_step(step))
        return recorded


class ToolsDialect:
    """Steps are calls of a `search` tool, and a reply without a call is the answer: what API models speak.

    Raises:
        AgentError: The prompts hold worked examples, which are written in tags.
    """

    def __init__(self, max_queries: int, prompts: PromptSet, cites: bool = False) -> None:
        if prompts.has_examples:
            raise AgentError(
                "the prompts hold worked examples in tags, which a model that calls tools would imitate; use prompts "
                "without examples, or the `tags` dialect (`AgentSettings(dialect='tags')`)"
            )
        self.max_queries = max_queries
        self.cites = cites
        self._recorded_system = {
            prompts.question_system: FULL_PROMPTS.question_system,
            prompts.masks_system: FULL_PROMPTS.masks_system,
        }

    def caller(self, model: BaseChatModel) -> Runnable[Any, AIMessage]:
        """Return the model with the tool bound to it.

        Raises:
            AgentError: The model takes no tools, or records tokens of its text, in which tool calls do not show.
        """
        hint = "use the `tags` dialect (`AgentSettings(dialect='tags')`)"
        if isinstance(model, RecordingModel):
            raise AgentError(f"a model that records its tokens does not call tools here; {hint}")
        tools = [_search_schema(self.max_queries)]
        try:
            return changed_within(model, lambda bare: bare.bind_tools(tools), _TOOL_KEYWORDS)
        except (NotImplementedError, AttributeError) as failure:
            name = type(bare_model(model)).__name__
            raise AgentError(f"{name} has no native tool calling; {hint}") from failure

    def ended(self, reply: AIMessage) -> AIMessage:
        """Return a reply as it is: a call ends it."""
        return reply

    def read(self, reply: AnyMessage) -> Step | FormatError:
        """Read the tool calls; text beside them is thought, as is what the model thought natively. Never raises."""
        thought, text = split_thought(reply)
        if text.startswith("<think>"):  # Never closed: nothing was said yet.
            thought, text = f"{thought}\n\n{text.removeprefix('<think>')}", ""
        # Of a marker that the model read, and repeats, the joiner is there already.
        thought, text = neutralise(thought).strip(), neutralise(restore(text)).strip()
        if getattr(reply, "invalid_tool_calls", None):
            return FormatError("malformed_call", "the arguments of a tool call are not JSON", _CALL_FORM)
        calls = getattr(reply, "tool_calls", None) or []
        if not calls and _is_written_call(text):
            return FormatError("malformed_call", "a tool call is written as text", _CALL_FORM)
        if not calls and is_refusal(reply):
            return FormatError("refusal", "the reply is a refusal", _CALL_FORM)
        if not calls and is_cut(reply):
            return FormatError(
                "cut_off", "the reply was cut off before its end", f"{_CALL_FORM}, in fewer words"
            )
        if not calls:
            empty = FormatError("empty_step", "the reply is empty", _CALL_FORM)
            return AnswerStep(thought, text) if text else empty
        if any(call["name"] != "search" for call in calls):
            return FormatError("unknown_tool", "the reply calls a tool that does not exist", _CALL_FORM)
        asked: list[Any] = []
        for call in calls:
            queries = _listed(call["args"].get("queries"))
            asked += queries if isinstance(queries, list) else [queries]
        if not all(isinstance(query, str) for query in asked):
            return FormatError("malformed_call", "`queries` is not a list of strings", _CALL_FORM)
        queries = tuple(clean_text(restore(query)) for query in asked)
        if not queries or not all(queries):
            return FormatError("empty_query", "a query is empty", _CALL_FORM)
        if len(queries) > self.max_queries:
            detail = f"the search has {len(queries)} queries"
            return FormatError("too_many_queries", detail, f"at most {self.max_queries} queries")
        return SearchStep("\n\n".join(filter(None, (thought, text))), queries)

    def answer_with(self, reply: AnyMessage, text: str) -> list[AnyMessage]:
        """Return a result for every call, as the APIs ask for; without a call, a user message."""
        calls = [*getattr(reply, "tool_calls", []), *getattr(reply, "invalid_tool_calls", [])]
        if not calls:
            return [HumanMessage(text)]
        texts = [text] + [_SEE_FIRST_RESULT] * (len(calls) - 1)
        return [
            ToolMessage(said, tool_call_id=str(call["id"])) for said, call in zip(texts, calls, strict=True)
        ]

    def _in_tags(self, prompt: str) -> str:
        """Return a system prompt as the tags dialect has it; what a user added to ours stays behind it."""
        for ours, theirs in self._recorded_system.items():
            if prompt == ours or prompt.startswith(f"{ours}\n\n"):
                return theirs + prompt[len(ours) :]
        return prompt

    def record(self, messages: Sequence[BaseMessage]) -> list[Message]:
        """Return steps as tags, results as user messages, and our own system prompt as that of the tags dialect."""
        recorded: list[Message] = []
        was_tool = False
        for message in messages:
            text = str(message.text)
            if isinstance(message, SystemMessage):
                recorded.append(Message("system", self._in_tags(text)))
            elif isinstance(message, AIMessage):
                step = self.read(message)
                if not isinstance(step, FormatError):
                    text = render_step(_uncited(step) if self.cites else step)
                recorded.append(Message("assistant", text))
            elif not isinstance(message, ToolMessage):
                recorded += to_messages([message])
            elif not was_tool:
                recorded.append(Message("user", text))
            was_tool = isinstance(message, ToolMessage)
        return recorded


Dialect: TypeAlias = TagsDialect | ToolsDialect
"""How steps are asked for, read, replied to and recorded."""


def choose_dialect(settings: AgentSettings, prompts: PromptSet, model: BaseChatModel) -> Dialect:
    """Return the dialect that the settings name; strict for a model whose tokens are recorded."""
    is_recording = isinstance(model, RecordingModel)
    cites = numbers_go_on(settings, is_recording)
    if settings.dialect == "tools":
        return ToolsDialect(settings.max_queries, prompts, cites)
    profile: Any = getattr(bare_model(model), "profile", None) or {}
    return TagsDialect(settings.max_queries, is_recording, not profile.get("reasoning_output"), cites)


def _uncited(step: Step) -> Step:
    return replace(step, answer=without_marks(step.answer)) if isinstance(step, AnswerStep) else step


def _end_behind_step(reply: AIMessage, is_stopped: bool) -> AIMessage:
    """Put back the closing tag that an API left out because it was the stop string; cut what follows it where the model
    was not stopped."""
    if is_cut(reply):
        return reply  # It is not the tag that is missing.
    before, mark, said = str(reply.text).rpartition("</think>")
    ends = [said.index(closing) + len(closing) for closing in STOP_STRINGS if closing in said]
    open_tags = [closing for closing in STOP_STRINGS if closing.replace("/", "") in said]
    if ends and not is_stopped:
        ended = said[: min(ends)]
    elif open_tags and open_tags[0] not in said:
        ended = said + open_tags[0]
    else:
        return reply
    text = before + mark + ended
    if isinstance(reply.content, str):
        return reply.model_copy(update={"content": text})
    others = [block for block in reply.content if isinstance(block, dict) and block.get("type") != "text"]
    return reply.model_copy(update={"content": [*others, {"type": "text", "text": text}]})


def _listed(queries: object) -> object:
    """Return the list that some models write as JSON into a string; anything else as it is."""
    if isinstance(queries, str) and queries.lstrip().startswith("["):
        with suppress(ValueError, RecursionError):
            return json.loads(queries)
    return queries


def _is_written_call(text: str) -> bool:
    """Whether a text is a tool call that was to be one: JSON with a name and arguments, or with queries."""
    inner = _CALL_MARKS.sub("", text).strip()
    if not inner.startswith("{"):
        return False
    try:
        call = json.loads(inner)
    except (ValueError, RecursionError):
        return False
    return "queries" in call or ("name" in call and bool(call.keys() & {"arguments", "parameters", "args"}))


def _search_schema(max_queries: int) -> dict[str, Any]:
    return {
        "type": "function",
        "function": {
            "name": "search",
            "description": "Search the document collection. Returns numbered passages.",
            "parameters": {
                "type": "object",
                "properties": {
                    "queries": {
                        "type": "array",
                        "items": {"type": "string"},
                        "minItems": 1,
                        "maxItems": max_queries,
                        "description": "What to search for, one query each.",
                    }
                },
                "required": ["queries"],
            },
        },
    }
