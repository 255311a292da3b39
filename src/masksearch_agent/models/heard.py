"""What a caller hears of a reply while it is sampled.

The tokens come from the sampler's thread. Their text is what `ChatFormat` makes of the whole reply, piece by piece: a
character is said once all of its bytes are sampled, and the pieces make the very text that is recorded.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TypeAlias

from masksearch_agent.errors import ModelError
from masksearch_agent.models.chat_format import ChatFormat

__all__ = ("HeardText", "TokenListener", "hear_in_loop")

TokenListener: TypeAlias = Callable[[Sequence[int]], None]
"""Told the tokens of one request as they are sampled, in the sampler's thread; it must not fail or take long."""

_UNFINISHED = "\ufffd"
"""What a tokenizer of bytes shows for a character of which only some bytes are written."""


class HeardText:
    """The text of a reply so far."""

    def __init__(self, chat_format: ChatFormat) -> None:
        self._format = chat_format
        self._ids: list[int] = []
        self._said = ""

    def add(self, ids: Sequence[int]) -> str:
        """Take further tokens and return what can be said now that could not before."""
        self._ids += ids
        text = self._format.decode_reply(self._ids)
        if text.endswith(_UNFINISHED) or not text.startswith(self._said):
            return ""
        return self._say(text)

    def rest(self, text: str) -> str:
        """Return what of the whole text was not said.

        Raises:
            ModelError: Something else was said.
        """
        if not text.startswith(self._said):
            raise ModelError(
                "the tokenizer's text of a reply does not begin with the text of its first tokens, so it cannot be "
                "streamed; call the model without streaming"
            )
        return self._say(text)

    def _say(self, text: str) -> str:
        new, self._said = text[len(self._said) :], text
        return new


def hear_in_loop(
    loop: asyncio.AbstractEventLoop, heard: asyncio.Queue[Sequence[int] | None]
) -> Callable[[Sequence[int] | None], None]:
    """Return what puts tokens into the queue of an event loop from any thread."""

    def hear(ids: Sequence[int] | None) -> None:
        with suppress(RuntimeError):  # The loop is closed: nobody listens any more.
            loop.call_soon_threadsafe(heard.put_nowait, ids)

    return hear
