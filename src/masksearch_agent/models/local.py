"""LangChain chat models that record exactly what was sampled, and the one over a local transformers model.

They send the ids that earlier turns stored, followed by the ids of the new messages only; nothing that was
sampled is ever decoded and encoded again. Called without a recorder they are ordinary chat models.
"""

from __future__ import annotations

import asyncio
from abc import abstractmethod
from concurrent.futures import Future
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

from langchain_core.callbacks import AsyncCallbackManagerForLLMRun, CallbackManagerForLLMRun
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.messages.ai import UsageMetadata
from langchain_core.outputs import ChatGeneration, ChatResult
from pydantic import ConfigDict, PrivateAttr

from masksearch_agent.errors import MissingExtraError, ModelError
from masksearch_agent.models.chat_format import ChatFormat
from masksearch_agent.models.completion import Completion
from masksearch_agent.records import Sampling, Turn
from masksearch_agent.traces.messages import to_messages
from masksearch_agent.traces.recorder import CallRecording, new_turn_id

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from masksearch_agent.models.engine import BatchingEngine

__all__ = ("LocalChatModel", "RecordingChatModel", "load_checkpoint", "load_tokenizer")


class RecordingChatModel(BaseChatModel):
    """A chat model that sends and receives token ids; a subclass says where they are sampled.

    Args:
        tokenizer: The model's tokenizer, with a chat template that only appends (`ChatFormat` checks it).
        temperature: 0 is greedy.
        max_tokens: Limit on sampled tokens of a call.
        model_version: Recorded with every turn; a trainer raises it whenever it changes the weights.
    """

    model_config = ConfigDict(arbitrary_types_allowed=True, protected_namespaces=())

    tokenizer: Any
    temperature: float = 0.0
    top_p: float = 1.0
    max_tokens: int = 256
    model_version: str = "local"
    is_recording_model: bool = True
    cache: bool | None = False
    """A reply that came from LangChain's cache would be a turn that nobody sampled."""

    _format: ChatFormat = PrivateAttr()

    def model_post_init(self, context: Any) -> None:
        """Check the chat template."""
        super().model_post_init(context)
        self._format = ChatFormat(self.tokenizer)

    @property
    def chat_format(self) -> ChatFormat:
        """How messages become tokens."""
        return self._format

    @abstractmethod
    def _submit(self, prompt_ids: list[int], sampling: Sampling) -> Future[Completion]:
        """Start sampling after a prompt; cancelling the future stops it."""

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
        return call.finish(self._submit(call.prompt_ids, call.sampling).result())

    async def _agenerate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        call = _Call(self, messages, stop, kwargs)
        return call.finish(await asyncio.wrap_future(self._submit(call.prompt_ids, call.sampling)))


class LocalChatModel(RecordingChatModel):
    """Chat with a transformers model on this machine; concurrent calls are sampled together.

    Args:
        model: A causal language model.
        max_batch_size: Calls sampled together at most.
        **settings: Those of `RecordingChatModel`.
    """

    model: Any
    max_batch_size: int = 128

    _engine: BatchingEngine = PrivateAttr()

    def model_post_init(self, context: Any) -> None:
        """Check the chat template and make the batching engine."""
        from masksearch_agent.models.engine import BatchingEngine

        super().model_post_init(context)
        self._engine = BatchingEngine(
            self.model, self.tokenizer, self._format.end_of_turn_id, max_batch_size=self.max_batch_size
        )

    @classmethod
    def from_pretrained(cls, path: str | Path, **settings: Any) -> LocalChatModel:
        """Load a checkpoint folder or hub id; `settings` are the constructor's other arguments."""
        model, tokenizer = load_checkpoint(path)
        settings.setdefault("model_version", str(path))
        return cls(model=model, tokenizer=tokenizer, **settings)

    @property
    def _llm_type(self) -> str:
        return "masksearch-local"

    def _submit(self, prompt_ids: list[int], sampling: Sampling) -> Future[Completion]:
        return self._engine.submit(prompt_ids, sampling)

    def close(self) -> None:
        """Stop the sampling thread once its queue is empty."""
        self._engine.close()


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
        conversation = to_messages(messages)
        self.parent_id: str | None = None
        known = 0
        if self.recording is not None:
            self.parent_id, known = self.recording.recorder.split_known(
                self.recording.parent_id, conversation
            )
        self.context = tuple(conversation[known:])
        self.prefix_ids: list[int] = []
        is_closed = False
        if self.recording is not None and self.parent_id is not None:
            self.prefix_ids = self.recording.recorder.ids(self.parent_id)
            is_closed = self.prefix_ids[-1] == owner.chat_format.end_of_turn_id
        self.context_ids = owner.chat_format.encode_context(
            self.context, is_first=self.parent_id is None, is_closed=is_closed
        )
        self.prompt_ids = [*self.prefix_ids, *self.context_ids]
        self.sampling = self._effective_sampling(stop, kwargs)

    def _effective_sampling(self, stop: list[str] | None, kwargs: dict[str, Any]) -> Sampling:
        owner = self.owner
        base = self.recording.sampling if self.recording is not None else None
        temperature = base.temperature if base is not None else owner.temperature
        top_p = base.top_p if base is not None else owner.top_p
        max_tokens = base.max_tokens if base is not None else owner.max_tokens
        return Sampling(
            temperature=float(kwargs.get("temperature", temperature)),
            top_p=float(kwargs.get("top_p", top_p)),
            max_tokens=int(kwargs.get("max_tokens", max_tokens)),
            stop=tuple(stop or ()),
            seed=kwargs.get("seed", base.seed if base is not None else None),
        )

    def finish(self, completion: Completion) -> ChatResult:
        """Record the turn and wrap the reply as a LangChain result."""
        text = self.owner.chat_format.decode_reply(completion.ids)
        metadata: dict[str, Any] = {
            "model_name": self.owner.model_version,
            "finish_reason": completion.finish_reason,
        }
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
                model_version=self.owner.model_version,
                sampling=self.sampling,
            )
            self.recording.recorder.add(turn)
            metadata["turn_id"] = turn.id
        prompt, sampled = len(self.prompt_ids), len(completion.ids)
        message = AIMessage(
            content=text,
            response_metadata=metadata,
            usage_metadata=UsageMetadata(
                input_tokens=prompt, output_tokens=sampled, total_tokens=prompt + sampled
            ),
        )
        return ChatResult(generations=[ChatGeneration(message=message)])


def load_checkpoint(
    path: str | Path, dtype: Literal["auto", "float32"] = "auto"
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Load a causal language model and its tokenizer from a folder or a hub id.

    Args:
        path: The folder or hub id.
        dtype: What the weights are held in; `auto` is what they were saved in.

    Raises:
        MissingExtraError: transformers or torch is not installed.
        ModelError: The checkpoint cannot be loaded.
    """
    tokenizer = load_tokenizer(path)
    from transformers import AutoModelForCausalLM

    try:
        model = AutoModelForCausalLM.from_pretrained(str(path), dtype=dtype)
    except (OSError, ValueError) as failure:
        raise ModelError(f"cannot load a causal language model from {str(path)!r}: {failure}") from failure
    return model.eval(), tokenizer


def load_tokenizer(path: str | Path) -> PreTrainedTokenizerBase:
    """Load the tokenizer of a checkpoint folder or hub id.

    Raises:
        MissingExtraError: transformers is not installed.
        ModelError: The tokenizer cannot be loaded.
    """
    try:
        from transformers import AutoTokenizer
    except ImportError as failure:
        raise MissingExtraError("transformers", "train") from failure
    if isinstance(path, Path) and not path.is_dir():
        raise ModelError(f"no checkpoint folder at {path}")
    try:
        return AutoTokenizer.from_pretrained(str(path))
    except (OSError, ValueError) as failure:
        raise ModelError(f"cannot load the tokenizer of {str(path)!r}: {failure}") from failure
