"""The turns of a model that gives no tokens: what it said, recorded as text."""

from __future__ import annotations

from collections.abc import Sequence

from langchain_core.messages import AIMessage, AnyMessage

from masksearch_agent.agent.dialects import Dialect
from masksearch_agent.records import Turn
from masksearch_agent.traces.recorder import Recorder, new_turn_id
from masksearch_agent.traces.rows import POLICY_ROLE

__all__ = ("last_turn_id", "record_text", "without_turn_ids")


def record_text(
    dialect: Dialect, transcript: Sequence[AnyMessage], reply: AIMessage, recorder: Recorder
) -> AIMessage:
    """Record a reply to a transcript, and return it with the id of its turn."""
    before = last_turn_id(transcript)
    conversation = dialect.record(transcript)
    parent_id, known = recorder.split_known(before, conversation)
    turn = Turn(
        id=new_turn_id(),
        parent_id=parent_id,
        role=POLICY_ROLE,
        context=tuple(conversation[known:]),
        text=dialect.record([reply])[0].content,
        model_version=str(reply.response_metadata.get("model_name", "")),
        forked_from=before if parent_id is None else None,
    )
    recorder.add(turn)
    return reply.model_copy(update={"response_metadata": {**reply.response_metadata, "turn_id": turn.id}})


def last_turn_id(messages: Sequence[AnyMessage]) -> str | None:
    """Return the turn of the last reply; None where there is none."""
    for message in reversed(messages):
        if isinstance(message, AIMessage):
            return message.response_metadata.get("turn_id")
    return None


def without_turn_ids(messages: Sequence[AnyMessage]) -> list[AnyMessage]:
    """Return messages without the ids of their turns, which differ in every run: a cache of LangChain's knows a call by
    all that its messages hold."""
    return [_without_turn_id(message) if isinstance(message, AIMessage) else message for message in messages]


def _without_turn_id(reply: AIMessage) -> AIMessage:
    kept = {key: value for key, value in reply.response_metadata.items() if key != "turn_id"}
    return reply.model_copy(update={"response_metadata": kept})
