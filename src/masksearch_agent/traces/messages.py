"""LangChain messages as the plain messages that traces store."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from langchain_core.messages import AIMessage, BaseMessage

from masksearch_agent.errors import ModelError
from masksearch_agent.records import Message

__all__ = ("to_messages",)

_ROLES: dict[str, Literal["system", "user", "assistant", "tool"]] = {
    "system": "system",
    "human": "user",
    "ai": "assistant",
    "tool": "tool",
}


def to_messages(messages: Sequence[BaseMessage]) -> list[Message]:
    """Return LangChain messages as trace messages.

    Raises:
        ModelError: A message has a role or content that a text model cannot read.
    """
    converted = []
    for message in messages:
        # A chunk of a streamed reply is a reply too, though its type has another name.
        role = "assistant" if isinstance(message, AIMessage) else _ROLES.get(message.type)
        if role is None:
            raise ModelError(
                f"cannot send a message of type {message.type!r}; expected one of {sorted(_ROLES)}"
            )
        if role != "assistant" and not _is_text(message):
            raise ModelError(
                f"cannot send a {role} message with parts that are not text; pass its content as a string"
            )
        # The text of a reply leaves out what some models return beside it: reasoning blocks, tool calls.
        converted.append(Message(role, str(message.text)))
    return converted


def _is_text(message: BaseMessage) -> bool:
    parts = [message.content] if isinstance(message.content, str) else message.content
    return all(isinstance(part, str) or part.get("type") == "text" for part in parts)
