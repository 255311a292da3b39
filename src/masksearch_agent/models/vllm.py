"""A recording chat model over a vLLM server: what `LocalChatModel` is for weights in this process."""

from __future__ import annotations

from concurrent.futures import Future
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from pydantic import PrivateAttr

from masksearch_agent.models.answer_spans import AnswerSpans
from masksearch_agent.models.heard import TokenListener
from masksearch_agent.models.local import load_tokenizer
from masksearch_agent.models.recording import Completion, RecordingChatModel, fit_context
from masksearch_agent.models.vllm_client import VLLMClient
from masksearch_agent.records import Sampling

__all__ = ("VLLMChatModel",)


class VLLMChatModel(RecordingChatModel):
    """Chat with a model that vLLM serves; ids are sent and received, and recorded as a local model's are.

    The server must give log-probabilities of the unscaled distribution, which is vLLM's default
    (`--logprobs-mode raw_logprobs`). The settings are those of `RecordingChatModel` and of `VLLMClient`.

    Raises:
        ServingError: No vLLM server answers.
    """

    base_url: str
    model_version: str = ""
    """Empty takes the name under which the server serves the model."""
    max_concurrent_requests: int = 64
    timeout_s: float = 600.0
    transport: Any = None

    _client: VLLMClient = PrivateAttr()
    _served_name: str = PrivateAttr()
    _context_tokens: int = PrivateAttr()

    def model_post_init(self, context: Any) -> None:
        """Check the chat template and ask the server what it serves."""
        super().model_post_init(context)
        self._client = VLLMClient(self.base_url, self.max_concurrent_requests, self.timeout_s, self.transport)
        self._served_name, self._context_tokens = self._client.served_model()
        self.model_version = self.model_version or self._served_name

    @classmethod
    def from_pretrained(cls, path: str | Path, base_url: str, **settings: Any) -> VLLMChatModel:
        """Take the tokenizer of a checkpoint folder or hub id, and the model from a server."""
        return cls(tokenizer=load_tokenizer(path), base_url=base_url, **settings)

    @property
    def client(self) -> VLLMClient:
        """The connection, over which a trainer exchanges the server's weights."""
        return self._client

    @property
    def served_name(self) -> str:
        """Name under which the server serves the model."""
        return self._served_name

    @property
    def _llm_type(self) -> str:
        return "masksearch-vllm"

    def _submit(
        self,
        prompt_ids: list[int],
        sampling: Sampling,
        answers: AnswerSpans | None = None,
        hear: TokenListener | None = None,
    ) -> Future[Completion]:
        advice = ", or serve with a larger `max_model_tokens`"
        sampling = fit_context(prompt_ids, sampling, self._context_tokens, "server", advice)
        end_of_turn_id = self.chat_format.end_of_turn_id
        return self._client.submit(
            self._served_name, prompt_ids, sampling, end_of_turn_id, hear, lambda: self.model_version
        )

    def exchange(self) -> AbstractContextManager[None]:
        """Return a context in which nothing is sampled; see `RecordingChatModel`."""
        return self._client.exchange()

    def close(self) -> None:
        """Close the connections; a later call opens them again."""
        self._client.close()
