"""What LangChain chat models that record exactly what was sampled have in common.

They send the ids that earlier turns stored, followed by the ids of the new messages only; nothing that was
sampled is ever decoded and encoded again. Called without a recorder they are ordinary chat models. A call that streams
samples and records what one that does not would.
"""

from __future__ import annotations

import asyncio
import dataclasses
import queue
from abc import abstractmethod
from collections.abc import AsyncIterator, Iterator, Sequence
from concurrent.futures import Future
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Literal, cast

from langchain_core.callbacks import AsyncCallbackManagerForLLMRun, CallbackManagerForLLMRun
from langchain_core.language_models import BaseChatModel, LangSmithParams
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage
from langchain_core.messages.ai import UsageMetadata
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from pydantic import ConfigDict, Field, PrivateAttr

from masksearch_agent.errors import ModelError
from masksearch_agent.models.answer_spans import AnswerSpans
from masksearch_agent.models.chat_format import ChatFormat
from masksearch_agent.models.heard import HeardText, TokenListener, hear_in_loop
from masksearch_agent.records import Message, Sampling, Turn
from masksearch_agent.traces.messages import to_messages
from masksearch_agent.traces.recorder import CallRecording, new_turn_id

__all__ = ("Completion", "RecordingChatModel", "fit_context")


@dataclass(frozen=True, slots=True)
class Completion:
    """What was sampled for one request, wherever that was done."""

    ids: tuple[int, ...]
    """Everything that was sampled, the end-of-turn token and the tokens of a stop string included."""
    logprobs: tuple[float, ...]
    """Natural-log probability of each id under the unscaled (temperature 1) distribution."""
    finish_reason: Literal["stop", "length"]
    """`stop` at the end-of-turn token or a stop string, `length` at the token limit."""
    is_constrained: bool = False
    """Whether some of it was held to given answers, and so not sampled from the distribution of `logprobs`."""
    model_version: str = ""
    """Of the weights that all of it was sampled from; empty where nobody said."""


def fit_context(
    prompt_ids: Sequence[int], sampling: Sampling, limit: int | None, reader: str, advice: str = ""
) -> Sampling:
    """Return settings under which prompt and reply keep within what a model or server reads; None: any length.

    Raises:
        ModelError: The prompt is empty or leaves no room.
    """
    if not prompt_ids:
        raise ModelError("the prompt has no tokens")
    room = sampling.max_tokens if limit is None else limit - len(prompt_ids)
    if room < 1:
        raise ModelError(
            f"the prompt has {len(prompt_ids)} tokens but the {reader} reads at most {limit}; lower the agent's "
            f"`max_searches` or `passages_per_search`{advice}"
        )
    return dataclasses.replace(sampling, max_tokens=min(sampling.max_tokens, room))


class RecordingChatModel(BaseChatModel):
    """A chat model that sends and receives token ids; a subclass says where they are sampled.

    Args:
        tokenizer: The model's tokenizer, with a chat template that only appends (`ChatFormat` checks it).
        temperature: 0 is greedy.
        max_tokens: Limit on sampled tokens of a call.
        stop: What ends a reply, for calls that do not say it themselves; stop strings are kept in the reply.
        model_version: Recorded with every turn; a trainer raises it whenever it changes the weights, inside `exchange`
            where calls may be under way.
        allow_rewriting_template: Take a chat template that rewrites earlier turns (drops their reasoning, say). A call
            whose conversation is no longer what was sent then starts a sequence of its own, which is counted as a fork.
    """

    model_config = ConfigDict(arbitrary_types_allowed=True, protected_namespaces=())

    tokenizer: Any = Field(repr=False)
    temperature: float = 0.0
    top_p: float = 1.0
    max_tokens: int = 256
    stop: list[str] | None = None
    model_version: str = "local"
    allow_rewriting_template: bool = False
    is_recording_model: bool = True
    can_hold_answers: bool = False
    """Whether the answer of a call can be held to the spans of texts (the keyword `answers`, `AnswerSpans`)."""
    cache: bool | None = False
    """A reply that came from LangChain's cache would be a turn that nobody sampled."""

    _format: ChatFormat = PrivateAttr()

    def model_post_init(self, context: Any) -> None:
        """Check the chat template."""
        super().model_post_init(context)
        self._format = ChatFormat(self.tokenizer, self.allow_rewriting_template)

    @property
    def chat_format(self) -> ChatFormat:
        """How messages become tokens."""
        return self._format

    def _get_ls_params(self, stop: list[str] | None = None, **kwargs: Any) -> LangSmithParams:
        """Return what tracers show of a call."""
        params = super()._get_ls_params(stop=stop or self.stop, **kwargs)
        params.setdefault("ls_model_name", self.model_version)
        return params

    def _get_invocation_params(self, stop: list[str] | None = None, **kwargs: Any) -> dict[str, Any]:
        """Return what tracers are told of a call: nothing that holds tokens or texts of a run."""
        told = {key: value for key, value in kwargs.items() if key not in ("recording", "answers")}
        return super()._get_invocation_params(stop, **told)

    @abstractmethod
    def _submit(
        self,
        prompt_ids: list[int],
        sampling: Sampling,
        answers: AnswerSpans | None = None,
        hear: TokenListener | None = None,
    ) -> Future[Completion]:
        """Start sampling after a prompt; cancelling the future stops it.

        Only a model that `can_hold_answers` is given `answers`. What listens has heard every token before the future is
        done. The completion's version is the `model_version` at the time when its first token is sampled.
        """

    @abstractmethod
    def exchange(self) -> AbstractContextManager[None]:
        """Return a context in which nothing is sampled, for changes of the weights and of `model_version`.

        Replies under way are finished before it begins, and calls that come meanwhile wait, so each reply is sampled
        from one version. What was computed with the old weights is not used afterwards.
        """

    @abstractmethod
    def close(self) -> None:
        """Stop the sampling thread; the model stays usable."""

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        call = _Call(self, messages, stop, kwargs)
        return call.finish(self._submit(call.prompt_ids, call.sampling, call.answers).result())

    async def _agenerate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        call = _Call(self, messages, stop, kwargs)
        submitted = self._submit(call.prompt_ids, call.sampling, call.answers)
        return call.finish(await asyncio.wrap_future(submitted))

    def _stream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> Iterator[ChatGenerationChunk]:
        call, text = _Call(self, messages, stop, kwargs), HeardText(self.chat_format)
        heard: queue.SimpleQueue[Sequence[int] | None] = queue.SimpleQueue()
        submitted = self._submit(call.prompt_ids, call.sampling, call.answers, heard.put)
        submitted.add_done_callback(lambda _: heard.put(None))
        try:
            while (ids := heard.get()) is not None:
                if said := text.add(ids):
                    yield ChatGenerationChunk(message=AIMessageChunk(content=said))
            yield call.last_chunk(submitted.result(), text)
        finally:
            submitted.cancel()

    async def _astream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> AsyncIterator[ChatGenerationChunk]:
        call, text = _Call(self, messages, stop, kwargs), HeardText(self.chat_format)
        heard: asyncio.Queue[Sequence[int] | None] = asyncio.Queue()
        hear = hear_in_loop(asyncio.get_running_loop(), heard)
        submitted = self._submit(call.prompt_ids, call.sampling, call.answers, hear)
        submitted.add_done_callback(lambda _: hear(None))
        try:
            while (ids := await heard.get()) is not None:
                if said := text.add(ids):
                    yield ChatGenerationChunk(message=AIMessageChunk(content=said))
            yield call.last_chunk(submitted.result(), text)
        finally:
            submitted.cancel()

    async def acomplete(self, text: str, sampling: Sampling, role: str) -> Turn:
        """Go on with a plain text, without the chat template; other calls are sampled together with it.

        Args:
            text: Tokenised as the tokenizer does it by itself, with the token that begins a text where it has one.
            sampling: Effective settings; the model's own play no part.
            role: Of the turn. Nothing is trained on a turn of another role than the policy's.

        Returns:
            The call as a turn of its own; its text is without special tokens.

        Raises:
            ModelError: The text leaves no room in the model's context.
        """
        prompt_ids = list(self.tokenizer(text)["input_ids"])
        completion = await asyncio.wrap_future(self._submit(prompt_ids, sampling))
        options = {"skip_special_tokens": True, "clean_up_tokenization_spaces": False}
        return Turn(
            id=new_turn_id(),
            parent_id=None,
            role=role,
            context=(Message("user", text),),
            text=str(self.tokenizer.decode(list(completion.ids), **options)),
            context_ids=tuple(prompt_ids),
            sampled_ids=completion.ids,
            logprobs=completion.logprobs,
            finish_reason=completion.finish_reason,
            model_version=completion.model_version,
            sampling=sampling,
        )


class _Call:
    """One call: what is sent, and what is recorded of it."""

    def __init__(
        self,
        owner: RecordingChatModel,
        messages: list[BaseMessage],
        stop: list[str] | None,
        kwargs: dict[str, Any],
    ) -> None:
        self.owner = owner
        self.recording = cast(CallRecording | None, kwargs.get("recording"))
        self.answers = cast(AnswerSpans | None, kwargs.get("answers"))
        if self.answers is not None and not owner.can_hold_answers:
            raise ModelError(
                f"{type(owner).__name__} cannot hold answers to given texts; use `LocalChatModel`, or leave `answers` "
                f"out"
            )
        conversation = to_messages(messages)
        self.parent_id: str | None = None
        known, prefix_ids = 0, list[int]()
        added: list[int] | None = None
        if self.recording is not None:
            recorder = self.recording.recorder
            self.parent_id, known = recorder.split_known(self.recording.parent_id, conversation)
            # Turns of a model that gave no tokens can only be read as text.
            if self.parent_id is not None and all(t.is_tokenised for t in recorder.path(self.parent_id)):
                prefix_ids = recorder.ids(self.parent_id)
                added = owner.chat_format.encode_added(prefix_ids, conversation, known)
        if added is None:
            self.parent_id, known, prefix_ids = None, 0, []
            added = owner.chat_format.encode_context(conversation, is_first=True, is_closed=False)
        self.context = tuple(conversation[known:])
        self.context_ids = added
        self.prompt_ids = [*prefix_ids, *added]
        self.sampling = self._effective_sampling(stop, kwargs)

    def _effective_sampling(self, stop: list[str] | None, kwargs: dict[str, Any]) -> Sampling:
        """Return the settings of the recording, else of the model, with what the call itself says over them."""
        base = self.recording.sampling if self.recording is not None else None
        chosen = base if base is not None else self.owner
        return Sampling(
            temperature=float(kwargs.get("temperature", chosen.temperature)),
            top_p=float(kwargs.get("top_p", chosen.top_p)),
            max_tokens=int(kwargs.get("max_tokens", chosen.max_tokens)),
            stop=tuple((chosen.stop if stop is None else stop) or ()),
            seed=kwargs.get("seed", base.seed if base is not None else None),
        )

    def finish(self, completion: Completion) -> ChatResult:
        """Record the turn and wrap the reply as a LangChain result."""
        return ChatResult(generations=[ChatGeneration(message=self._record(completion))])

    def last_chunk(self, completion: Completion, said: HeardText) -> ChatGenerationChunk:
        """Record the turn and return what ends its stream."""
        reply = self._record(completion)
        message = AIMessageChunk(
            content=said.rest(str(reply.text)),
            response_metadata=reply.response_metadata,
            usage_metadata=reply.usage_metadata,
            chunk_position="last",
        )
        return ChatGenerationChunk(message=message)

    def _record(self, completion: Completion) -> AIMessage:
        text = self.owner.chat_format.decode_reply(completion.ids)
        metadata = {"model_name": completion.model_version, "finish_reason": completion.finish_reason}
        if self.recording is not None:
            turn = Turn(
                id=new_turn_id(),
                parent_id=self.parent_id,
                role=self.recording.role,
                context=self.context,
                text=text,
                context_ids=tuple(self.context_ids),
                sampled_ids=completion.ids,
                logprobs=completion.logprobs,
                finish_reason=completion.finish_reason,
                model_version=completion.model_version,
                sampling=self.sampling,
                forked_from=self.recording.parent_id if self.parent_id is None else None,
                is_constrained=completion.is_constrained,
            )
            self.recording.recorder.add(turn)
            metadata["turn_id"] = turn.id
        prompt, sampled = len(self.prompt_ids), len(completion.ids)
        usage = UsageMetadata(input_tokens=prompt, output_tokens=sampled, total_tokens=prompt + sampled)
        return AIMessage(content=text, response_metadata=metadata, usage_metadata=usage)
