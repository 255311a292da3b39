"""What a stream of messages shows of a run: thoughts and the answer as LangChain's content blocks, and no protocol.

`stream_mode="messages"` shows what a chat model says token by token, and the messages that a node returns. Here the
model's text is the protocol's, so a stream is told what the text means (`reasoning` for the thought, `text` for the
answer, nothing of the rest), and it is told nothing of the transcript. What is recorded, traced and kept in the state
is the text as it was sampled. Where nobody streams, nothing is done.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Literal, TypeVar
from uuid import UUID

from langchain_core.callbacks import BaseCallbackHandler, BaseCallbackManager
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, LLMResult
from langchain_core.runnables.config import var_child_runnable_config

# Nothing public tells who streams messages, or keeps one of them back.
from langchain_core.tracers._streaming import _StreamingCallbackHandler
from langgraph.pregel._messages import StreamMessagesHandler

from masksearch_agent.agent.escaping import PROTOCOL_TAGS, restore

__all__ = ("StepReader", "kept_back", "node_callbacks", "said_id", "tell_streams_what_is_said")

_MessageT = TypeVar("_MessageT", bound=BaseMessage)
_Kind = Literal["reasoning", "text"]
_TAG = re.compile(rf"<\s*(/?)\s*({'|'.join(PROTOCOL_TAGS)})\s*>", re.IGNORECASE)
_BEGUN = re.compile(r"<[\s\u2060]*/?[\s\u2060]*[a-z_]*\s*$", re.IGNORECASE)
"""The end of a text that may be the beginning of a tag, or of one that was made harmless."""
_LONGEST_TAG = 40
"""Characters; what is longer is no tag."""
_PLACES: dict[_Kind, int] = {"reasoning": 0, "text": 1}
"""Of the blocks in a message."""


class StepReader:
    """Tells what one reply says while it is being written.

    Args:
        is_tagged: Whether the reply is a step in tags; else all but a thought in think tags is what it says.
    """

    def __init__(self, is_tagged: bool) -> None:
        self._is_tagged = is_tagged
        self._held = ""
        """What may be the beginning of a tag."""
        self._inside = ""
        """Name of the open tag; empty outside of all, `end` behind the step."""
        self._before = ""
        """Text outside of tags, which is a thought where `</think>` follows."""
        self._space = ""
        """Left out at the end of a block."""
        self._is_fresh = True
        """Whether the open block has said nothing so far."""
        self._said: set[_Kind] = set()

    def read(self, text: str) -> list[dict[str, Any]]:
        """Return the content blocks that further text adds."""
        said: list[tuple[_Kind, str]] = []
        self._held += text
        while match := _TAG.search(self._held):
            said += self._say(self._held[: match.start()])
            self._held = self._held[match.end() :]
            if match[2].lower() != "think" and not self._is_tagged:
                said += self._say(match[0])
            else:
                said += self._meet(match[2].lower(), is_closing=bool(match[1]))
        begun = _BEGUN.search(self._held[-_LONGEST_TAG:])
        end = len(self._held) - (len(begun[0]) if begun else 0)
        said += self._say(self._held[:end])
        self._held = self._held[end:]
        return _as_blocks(said)

    def end(self) -> list[dict[str, Any]]:
        """Return what is left to say once the reply has ended: what turned out to begin no tag."""
        held, self._held = self._held, ""
        name = held.strip("</ \u2060").lower()
        return [] if any(tag.startswith(name) for tag in PROTOCOL_TAGS) else _as_blocks(self._say(held))

    def _meet(self, name: str, is_closing: bool) -> Iterator[tuple[_Kind, str]]:
        """Open or close a block; tags that do neither are left out."""
        if self._inside == "end":
            return
        if is_closing and name == self._inside:
            self._open("end" if name in ("search", "answer") else "")
        elif not is_closing and not self._inside:
            self._open(name)
        elif is_closing and name == "think" and not self._inside:
            # The chat template wrote the opening tag.
            thought, self._before = self._before, ""
            self._open("think")
            yield from self._say(thought)
            self._open("")

    def _open(self, name: str) -> None:
        self._inside, self._space, self._is_fresh = name, "", True

    def _say(self, text: str) -> Iterator[tuple[_Kind, str]]:
        """Yield a text without the space around its block, where it is anything that is said."""
        kind: _Kind
        if self._inside == "think":
            kind = "reasoning"
        elif self._inside == "answer" or (not self._inside and not self._is_tagged):
            kind = "text"
        else:
            self._before += "" if self._inside else text
            return
        text = self._space + text
        kept = text.rstrip()
        self._space = text[len(kept) :]
        if self._is_fresh:
            kept = kept.lstrip()
        if kept:
            is_next = self._is_fresh and kind in self._said
            self._is_fresh = False
            self._said.add(kind)
            yield kind, ("\n\n" if is_next else "") + restore(kept)


def _as_blocks(said: Iterable[tuple[_Kind, str]]) -> list[dict[str, Any]]:
    return [{"type": kind, kind: text, "index": _PLACES[kind]} for kind, text in said]


def said_id(reply_id: str | None, beside: Iterable[BaseMessage] = ()) -> str:
    """Return the id of the message that a reply is in streams, which the message that closes a run has too.

    So a client that saw the answer being written takes the closing message for the same one. No message `beside` it has
    the id: a reply that comes from a cache may be that of an earlier run.
    """
    said = f"{reply_id}-said"
    is_free = reply_id and all(message.id != said for message in beside)
    return said if is_free else str(uuid.uuid4())


def kept_back(messages: Sequence[_MessageT]) -> list[_MessageT]:
    """Return messages of the transcript, which no stream of messages is to show."""
    kept = list(messages)
    for handler in _listeners():
        for place, message in enumerate(kept):
            if message.id is None:
                kept[place] = message = message.model_copy(update={"id": str(uuid.uuid4())})
            handler.seen.add(str(message.id))
    return kept


def tell_streams_what_is_said(is_tagged: bool) -> None:
    """Let whoever streams the messages of the node that runs hear what its model says, and not the model's own text.

    Args:
        is_tagged: As for `StepReader`.
    """
    callbacks = node_callbacks()
    if callbacks is None or not _listeners():
        return
    # The manager is this node's own. Handed to the model instead, another one would be merged with it.
    before = {id(listener): _Speaker(listener, is_tagged) for listener in _listeners()}
    callbacks.handlers = [before.get(id(handler), handler) for handler in callbacks.handlers]
    callbacks.inheritable_handlers = [
        before.get(id(handler), handler) for handler in callbacks.inheritable_handlers
    ]


def node_callbacks() -> BaseCallbackManager | None:
    """Return what is called back by the node that runs; None outside of all."""
    callbacks = (var_child_runnable_config.get(None) or {}).get("callbacks")
    return callbacks if isinstance(callbacks, BaseCallbackManager) else None


def _listeners() -> list[StreamMessagesHandler]:
    callbacks = node_callbacks()
    handlers = callbacks.handlers if callbacks is not None else ()
    bare = (handler.stream if isinstance(handler, _Speaker) else handler for handler in handlers)
    return [handler for handler in bare if isinstance(handler, StreamMessagesHandler)]


class _Speaker(BaseCallbackHandler, _StreamingCallbackHandler[Any]):
    """Stands before a stream of messages during a model call."""

    run_inline = True

    def __init__(self, stream: StreamMessagesHandler, is_tagged: bool) -> None:
        self.stream = stream
        self._is_tagged = is_tagged
        self._readers: dict[UUID, StepReader] = {}

    def tap_output_aiter(self, run_id: UUID, output: Any) -> Any:
        return output

    def tap_output_iter(self, run_id: UUID, output: Any) -> Any:
        return output

    def on_chat_model_start(self, *args: Any, run_id: UUID, **kwargs: Any) -> None:
        self._readers[run_id] = StepReader(self._is_tagged)
        self.stream.on_chat_model_start(*args, run_id=run_id, **kwargs)

    def on_llm_new_token(self, token: Any, *, chunk: Any = None, run_id: UUID, **kwargs: Any) -> None:
        if not isinstance(chunk, ChatGenerationChunk):
            return
        is_last = getattr(chunk.message, "chunk_position", None) == "last"
        said = self._said(chunk.message, self._readers[run_id], is_last)
        if said.content or said.tool_call_chunks or is_last:  # type: ignore[attr-defined]
            spoken = ChatGenerationChunk(message=said)  # type: ignore[arg-type]
            self.stream.on_llm_new_token("", chunk=spoken, run_id=run_id, **kwargs)

    def on_llm_end(self, response: LLMResult, *, run_id: UUID, **kwargs: Any) -> None:
        self._readers.pop(run_id, None)
        generations = response.generations[0] if response.generations else []
        said: list[Any] = []
        if generations and isinstance(generations[0], ChatGeneration):
            message = self._said(generations[0].message, StepReader(self._is_tagged), is_last=True)
            # A model that streamed has said it; one that did not says it as a whole, where there is anything to say.
            said = [ChatGeneration(message=message)] if message.content or message.tool_calls else []
        self.stream.on_llm_end(LLMResult(generations=[said]), run_id=run_id, **kwargs)

    def on_llm_error(self, error: BaseException, *, run_id: UUID, **kwargs: Any) -> None:
        self._readers.pop(run_id, None)
        self.stream.on_llm_error(error, run_id=run_id, **kwargs)

    def _said(self, message: BaseMessage, reader: StepReader, is_last: bool) -> AIMessage:
        """Return a message, or a piece of one, as what it says."""
        update: dict[str, Any] = {"id": said_id(message.id)}
        if self._is_tagged or isinstance(message.content, str):
            update["content"] = [*_blocks(message, reader), *(reader.end() if is_last else ())]
            update["additional_kwargs"] = {}  # A thought that stood there is a block now.
            update["response_metadata"] = {**message.response_metadata, "output_version": "v1"}
        return message.model_copy(update=update)  # type: ignore[return-value]


def _blocks(message: BaseMessage, reader: StepReader) -> Iterator[dict[str, Any]]:
    for block in message.content_blocks:
        if block["type"] == "reasoning" and block.get("reasoning"):
            yield {"type": "reasoning", "reasoning": block["reasoning"], "index": _PLACES["reasoning"]}
        elif block["type"] == "text":
            yield from reader.read(block["text"])
        elif block["type"] in ("tool_call", "tool_call_chunk"):
            place = block.get("index")
            yield {**block, "index": len(_PLACES) + (place if isinstance(place, int) else 0)}
