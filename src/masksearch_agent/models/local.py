"""A recording chat model over a transformers model on this machine."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, PrivateAttr

from masksearch_agent.environment import computes_bfloat16
from masksearch_agent.errors import ModelError, needs_extra
from masksearch_agent.models.answer_spans import AnswerSpans
from masksearch_agent.models.heard import TokenListener
from masksearch_agent.models.recording import Completion, RecordingChatModel
from masksearch_agent.plugins import BASE_MODELS
from masksearch_agent.records import Sampling

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from masksearch_agent.models.engine import BatchingEngine

__all__ = ("LocalChatModel", "load_checkpoint", "load_tokenizer", "require_checkpoint")


class LocalChatModel(RecordingChatModel):
    """Chat with a transformers model on this machine; concurrent calls are sampled together."""

    model: Any = Field(repr=False)
    """A causal language model."""
    max_batch_size: int = 128
    """Calls sampled together at most."""
    kept_bytes: int | None = None
    """Keys and values kept for calls that go on from earlier ones, at most; 0 reads every conversation as a whole, None
    keeps as much as the engine does by default."""
    is_reproducible: bool | None = None
    """Whether rollouts sample the same to the last bit in every run (`lockstep`). None: on a CPU, where they search an
    index."""
    can_hold_answers: bool = True

    _engine: BatchingEngine = PrivateAttr()

    def model_post_init(self, context: Any) -> None:
        """Check the chat template and make the batching engine."""
        from masksearch_agent.models.engine import BatchingEngine

        super().model_post_init(context)
        self._engine = BatchingEngine(
            self.model,
            self.tokenizer,
            self._format.end_of_turn_id,
            max_batch_size=self.max_batch_size,
            kept_bytes=self.kept_bytes,
        )

    @classmethod
    def from_pretrained(cls, path: str | Path, device: str | None = None, **settings: Any) -> LocalChatModel:
        """Load a checkpoint folder or hub id onto a device; None: this process's GPU, where there is one.

        `settings` are the constructor's other arguments.
        """
        model, tokenizer = load_checkpoint(path)
        model.to(device or _default_device())
        settings.setdefault("model_version", str(path))
        return cls(model=model, tokenizer=tokenizer, **settings)

    @property
    def _llm_type(self) -> str:
        return "masksearch-local"

    def _submit(
        self,
        prompt_ids: list[int],
        sampling: Sampling,
        answers: AnswerSpans | None = None,
        hear: TokenListener | None = None,
    ) -> Future[Completion]:
        return self._engine.submit(prompt_ids, sampling, answers, hear, lambda: self.model_version)

    def exchange(self) -> AbstractContextManager[None]:
        """Return a context in which nothing is sampled; see `RecordingChatModel`."""
        return self._engine.exchange()

    @contextmanager
    def rollouts(
        self, count: int, is_search_known: bool = True
    ) -> Iterator[Sequence[AbstractContextManager[Any]]]:
        """Return a context for each of several rollouts to work in, reproducibly where that is wanted.

        Args:
            is_search_known: Whether they search passages that are known, which takes no time worth the name; else all
                would wait for each search, and find another thing each time.
        """
        is_default = self.model.device.type == "cpu" and is_search_known
        try:
            if is_default if self.is_reproducible is None else self.is_reproducible:
                with self._engine.in_lockstep(count) as parties:
                    yield parties
            else:
                yield [nullcontext()] * count
        finally:
            # A trainer is next, which needs the memory and changes the weights.
            self._engine.forget()

    def close(self) -> None:
        """Stop the sampling thread once its queue is empty."""
        self._engine.close()


def _default_device() -> str:
    import torch

    # torchrun and accelerate start one process for each GPU of a machine.
    return f"cuda:{os.environ.get('LOCAL_RANK', '0')}" if torch.cuda.is_available() else "cpu"


def load_checkpoint(
    path: str | Path, dtype: Literal["auto", "float32"] = "auto"
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Load a causal language model and its tokenizer.

    Args:
        path: A folder, a hub id, or the name of a registered base model (`plugins.BASE_MODELS`).
        dtype: What the weights are held in; `auto` is what they were saved in, or float32 on a CPU that is slower in
            bfloat16 (`environment.computes_bfloat16`).

    Raises:
        MissingExtraError: transformers or torch is not installed.
        ModelError: The checkpoint cannot be loaded.
    """
    if str(path) in BASE_MODELS.names():
        path = BASE_MODELS.get(str(path))()
    tokenizer = load_tokenizer(path)
    from transformers import AutoModelForCausalLM

    try:
        model = AutoModelForCausalLM.from_pretrained(
            str(path), dtype=dtype if computes_bfloat16() else "float32"
        )
    except (OSError, ValueError) as failure:
        raise ModelError(f"cannot load a causal language model from {str(path)!r}: {failure}") from failure
    return model.eval(), tokenizer


def require_checkpoint(path: str | Path) -> None:
    """See whether a model can be there, without loading anything: what is no hub id has to be a folder.

    Raises:
        ModelError: It is no folder.
    """
    is_hub_id = isinstance(path, str) and path.count("/") < 2 and not path.startswith((".", "/", "~"))
    if not is_hub_id and not Path(path).is_dir():
        raise ModelError(
            f"no checkpoint folder at {path}; name another one or a model of the hub. `python "
            f"training/prepare_model.py --out {path}` makes the small models of this repository's recipes"
        )


def load_tokenizer(path: str | Path) -> PreTrainedTokenizerBase:
    """Load the tokenizer of a checkpoint folder or hub id; raises as `load_checkpoint` does."""
    require_checkpoint(path)
    with needs_extra("train"):
        from transformers import AutoTokenizer
    try:
        return AutoTokenizer.from_pretrained(str(path))
    except (OSError, ValueError) as failure:
        raise ModelError(f"cannot load the tokenizer of {str(path)!r}: {failure}") from failure
