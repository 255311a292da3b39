"""Chat models that say what a test wrote down."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage
from langchain_core.messages.tool import tool_call_chunk
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from pydantic import ConfigDict, PrivateAttr

from masksearch_agent.records import Message, Sampling, Turn
from masksearch_agent.traces.messages import to_messages
from masksearch_agent.traces.recorder import CallRecording, new_turn_id

Script = Sequence[Any] | Callable[[list[BaseMessage]], Any]


class ScriptedChatModel(BaseChatModel):
    """Replies from a script: strings or `AIMessage`s in order (the last one repeats), or a function.

    `fail_on` is the number, from 0, of the call that raises `ConnectionError`.
    """

    model_config = ConfigDict(arbitrary_types_allowed=True)

    script: Any
    tokens_per_reply: int | None = None
    fail_on: int | None = None
    is_cutting_stop: bool = False
    """Leaves the stop string out of the reply, as APIs do."""

    _calls: list[list[BaseMessage]] = PrivateAttr(default_factory=list)
    _keywords: list[dict[str, Any]] = PrivateAttr(default_factory=list)
    _lock: threading.Lock = PrivateAttr(default_factory=threading.Lock)

    @property
    def calls(self) -> list[list[BaseMessage]]:
        """The messages of every call."""
        return self._calls

    @property
    def keywords(self) -> list[dict[str, Any]]:
        """The keywords of every call, `stop` included."""
        return self._keywords

    @property
    def _llm_type(self) -> str:
        return "scripted"

    def _generate(
        self, messages: list[BaseMessage], stop: Any = None, run_manager: Any = None, **kwargs: Any
    ) -> ChatResult:
        with self._lock:
            number = len(self._calls)
            self._calls.append(list(messages))
            self._keywords.append({**kwargs, "stop": stop})
        if number == self.fail_on:
            raise ConnectionError("the model server is gone")
        reply = (
            self.script(messages) if callable(self.script) else self.script[min(number, len(self.script) - 1)]
        )
        message = reply.model_copy() if isinstance(reply, AIMessage) else AIMessage(reply)
        if self.is_cutting_stop and isinstance(message.content, str):
            for word in stop or ():
                message.content = message.content.removesuffix(word)
        if self.tokens_per_reply is not None:
            read = sum(len(str(m.text).split()) for m in messages)
            message.usage_metadata = {
                "input_tokens": read,
                "output_tokens": self.tokens_per_reply,
                "total_tokens": read + self.tokens_per_reply,
            }
        return ChatResult(generations=[ChatGeneration(message=message)])


@dataclass(frozen=True)
class Reply:
    """A scripted turn with its tokens; ids that are not given are the characters' code points.

    `max_tokens` cuts given ids and not the text beside them; stop strings end a reply of code points only.
    """

    text: str
    context_ids: tuple[int, ...] | None = None
    sampled_ids: tuple[int, ...] | None = None
    logprobs: tuple[float, ...] | None = None


END_OF_TURN = 3
_ROLE_IDS = {"system": 4, "user": 5, "assistant": 6, "tool": 7}


def code_point_ids(messages: Sequence[Message]) -> tuple[int, ...]:
    """Return a context as ids: a role, its text, an end-of-turn each, and the assistant's role at the end."""
    ids = [i for m in messages for i in (_ROLE_IDS[m.role], *map(ord, m.content), END_OF_TURN)]
    return (*ids, _ROLE_IDS["assistant"])


class ScriptedRecordingModel(ScriptedChatModel):
    """A recording model (`traces.recorder.RecordingModel`) whose script holds `Reply`s or strings.

    Without a recorder, a conversation is not tokenised and costs nothing to read.
    """

    model_version: str = "scripted-1"
    temperature: float = 0.7
    is_recording_model: bool = True
    cache: bool | None = False

    _sent: list[tuple[int, ...]] = PrivateAttr(default_factory=list)

    @property
    def sent(self) -> list[tuple[int, ...]]:
        """The ids that each call read."""
        return self._sent

    @property
    def model_name(self) -> str:
        """What tracers show."""
        return self.model_version

    async def _agenerate(
        self, messages: list[BaseMessage], stop: Any = None, run_manager: Any = None, **kwargs: Any
    ) -> ChatResult:
        await asyncio.sleep(0)
        return self._generate(messages, stop, run_manager, **kwargs)

    def _generate(
        self, messages: list[BaseMessage], stop: Any = None, run_manager: Any = None, **kwargs: Any
    ) -> ChatResult:
        conversation = to_messages(messages)
        recording: CallRecording | None = kwargs.get("recording")
        with self._lock:
            number = len(self._calls)
            self._calls.append(list(messages))
            self._keywords.append({**kwargs, "stop": stop})
        if number == self.fail_on:
            raise ConnectionError("the model server is gone")
        reply = (
            self.script(messages) if callable(self.script) else self.script[min(number, len(self.script) - 1)]
        )
        if not isinstance(reply, Reply):
            reply = Reply(reply)
        sampling = (recording.sampling if recording is not None else None) or Sampling(
            temperature=kwargs.get("temperature", self.temperature),
            top_p=kwargs.get("top_p", 1.0),
            max_tokens=kwargs.get("max_tokens", 256),
            stop=tuple(stop or ()),
            seed=kwargs.get("seed"),
        )
        text, sampled, finish_reason = _sample(reply, sampling)
        message = AIMessage(
            text, response_metadata={"model_name": self.model_version, "finish_reason": finish_reason}
        )
        read = 0
        if recording is not None:
            recorder = recording.recorder
            parent, known = recorder.split_known(recording.parent_id, conversation)
            if parent is not None and not all(turn.is_tokenised for turn in recorder.path(parent)):
                parent, known = None, 0
            context = tuple(conversation[known:])
            context_ids = reply.context_ids or code_point_ids(context)
            prefix = recorder.ids(parent) if parent is not None else []
            with self._lock:
                self._sent.append((*prefix, *context_ids))
            read = len(prefix) + len(context_ids)
            turn = Turn(
                id=new_turn_id(),
                parent_id=parent,
                role=recording.role,
                context=context,
                text=text,
                context_ids=context_ids,
                sampled_ids=sampled,
                logprobs=(reply.logprobs or (-0.5,) * len(sampled))[: len(sampled)],
                finish_reason=finish_reason,
                model_version=self.model_version,
                sampling=sampling,
                forked_from=recording.parent_id if parent is None else None,
            )
            recorder.add(turn)
            message.response_metadata["turn_id"] = turn.id
        message.usage_metadata = {
            "input_tokens": read,
            "output_tokens": len(sampled),
            "total_tokens": read + len(sampled),
        }
        return ChatResult(generations=[ChatGeneration(message=message)])


def _sample(reply: Reply, sampling: Sampling) -> tuple[str, tuple[int, ...], Literal["stop", "length"]]:
    """Return what of a reply a model would sample under its limits: the text, its ids, and why it ended."""
    text, ids = reply.text, reply.sampled_ids
    if ids is None:
        ends = [text.index(word) + len(word) for word in sampling.stop if word in text]
        text = text[: min(ends)] if ends else text
        ids = (*map(ord, text), *(() if ends else (END_OF_TURN,)))
    if len(ids) <= sampling.max_tokens:
        return text, ids, "stop"
    is_given = reply.sampled_ids is not None
    return (text if is_given else text[: sampling.max_tokens]), ids[: sampling.max_tokens], "length"


class StreamingChatModel(ScriptedChatModel):
    """A scripted model that streams a few characters at a time, as API models do.

    A reply may be a message with `reasoning_content`, which is streamed before the text.
    """

    piece: int = 3

    def _stream(
        self, messages: list[BaseMessage], stop: Any = None, run_manager: Any = None, **kwargs: Any
    ) -> Iterator[ChatGenerationChunk]:
        message = self._generate(messages, stop, None, **kwargs).generations[0].message
        thought, text = message.additional_kwargs.get("reasoning_content", ""), str(message.text)
        for start in range(0, len(thought), self.piece):
            piece = {"reasoning_content": thought[start : start + self.piece]}
            yield ChatGenerationChunk(message=AIMessageChunk("", additional_kwargs=piece))
        for start in range(0, len(text), self.piece):
            yield ChatGenerationChunk(message=AIMessageChunk(text[start : start + self.piece]))
        calls = [
            tool_call_chunk(name=call["name"], args=json.dumps(call["args"]), id=call["id"], index=n)
            for n, call in enumerate(message.tool_calls)  # type: ignore[attr-defined]
        ]
        if calls:
            yield ChatGenerationChunk(message=AIMessageChunk("", tool_call_chunks=calls))
