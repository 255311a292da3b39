"""What a reasoning model thought, wherever its provider put it, apart from what it said."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from langchain_core.messages import BaseMessage

from masksearch_agent.agent.escaping import neutralise

__all__ = ("split_thought",)

_OPENING, _CLOSING = "<think>", "</think>"
_THOUGHT = re.compile(f"{_OPENING}(.*?){_CLOSING}", re.DOTALL)


def split_thought(reply: BaseMessage) -> tuple[str, str]:
    """Return a reply's thought and the text after it; tags in the thought are made harmless.

    A thought stands in a field or a block beside the text, or before it between think tags, the first of which may be
    missing, because the chat template wrote it. A model that thinks natively may add the protocol's own thought; they
    are one, as paragraphs.
    """
    thoughts, text = list(dict.fromkeys(_beside(reply))), str(reply.text).strip()
    while True:
        match = _THOUGHT.match(text)
        end = text.find(_CLOSING)
        if match is not None:
            thoughts.append(match[1])
            text = text[match.end() :].lstrip()
        elif end >= 0 and _OPENING not in text[:end]:
            thoughts.append(text[:end])
            text = text[end + len(_CLOSING) :].lstrip()
        else:
            return neutralise("\n\n".join(filter(None, map(str.strip, thoughts)))), text


def _beside(reply: BaseMessage) -> Iterator[str]:
    """Yield what integrations hold beside the text: `reasoning_content`, and blocks of several names."""
    for key in ("reasoning_content", "reasoning"):
        yield from _texts(reply.additional_kwargs.get(key))
    for block in reply.content if isinstance(reply.content, list) else ():
        if isinstance(block, dict) and block.get("type") in ("reasoning", "thinking", "reasoning_content"):
            yield from _texts(block)


def _texts(thought: Any) -> Iterator[str]:
    if isinstance(thought, str):
        yield thought
    elif isinstance(thought, list):
        for part in thought:
            yield from _texts(part)
    elif isinstance(thought, dict):
        for key in ("reasoning", "thinking", "reasoning_content", "summary", "text"):
            yield from _texts(thought.get(key))
