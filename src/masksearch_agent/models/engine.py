"""Continuous batching for a local transformers model: token ids in, sampled ids and log-probabilities out.

One worker thread owns the model while it samples. A request joins the batch between two tokens and leaves it at its
own end-of-turn token, stop string or token limit; its place is free at once. Log-probabilities are those of the
unscaled distribution, whatever the sampling temperature, because that is what a trainer recomputes. What was read and
sampled is kept for prompts that begin with it (`prefixes`), until the model computes something else.
"""

from __future__ import annotations

import atexit
import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from typing import TYPE_CHECKING, Literal

from masksearch_agent.models.answer_spans import AnswerSpans
from masksearch_agent.models.arrivals import Exchange, Message, Request
from masksearch_agent.models.batch import Batch, Row
from masksearch_agent.models.heard import TokenListener
from masksearch_agent.models.lockstep import Lockstep, Party, current_party
from masksearch_agent.models.prefixes import ModelMark, PrefixStore
from masksearch_agent.models.recording import Completion, fit_context
from masksearch_agent.models.sampling import require_usable
from masksearch_agent.models.slots import attention_windows
from masksearch_agent.records import Sampling

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

__all__ = ("BatchingEngine",)

_STOP_TAIL_TOKENS = 12
"""Tokens looked back for a stop string; longer than any stop string of the protocol is in tokens."""

_KEPT_BYTES = 1 << 30
"""Keys and values that are kept between requests, by default: some 46,000 tokens of SmolLM2-135M in bfloat16."""

_KEPT_IDLE_S = 30.0
"""They are kept no longer than that while nothing is asked."""


class BatchingEngine:
    """Samples from one model for many callers at once.

    Args:
        model: A causal language model, each of whose layers attends to all or to a sliding window; the engine reads
            its weights as they are at each token, so do not change them while requests are open, but in `exchange`.
        end_of_turn_id: The token that ends an assistant turn.
        max_batch_size: Requests sampled together at most; memory grows with it.
        linger_s: How long an idle engine waits for another request before it starts, in seconds.
        kept_bytes: Keys and values that are kept for prompts to come, at most, and one sequence more while it is
                added; 0 reads every prompt as a whole, None keeps a gigabyte.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        end_of_turn_id: int,
        max_batch_size: int = 128,
        linger_s: float = 0.004,
        kept_bytes: int | None = None,
    ) -> None:
        self.model = model
        self.windows = attention_windows(model)
        """By type of layer."""
        self.tokenizer = tokenizer
        self.end_of_turn_id = end_of_turn_id
        self.max_batch_size = max_batch_size
        self.linger_s = linger_s
        self.requests: queue.SimpleQueue[Message] = queue.SimpleQueue()
        """Those that no batch has taken yet."""
        self.lockstep: Lockstep[Request] | None = None
        """Of those who are sampled reproducibly now."""
        self.prefixes = PrefixStore(_KEPT_BYTES if kept_bytes is None else kept_bytes)
        self.prompt_tokens_read = 0
        """Since the engine was made; those whose keys and values were at hand do not count, nor does padding."""
        self._mark: ModelMark | None = None
        self._closing_ids: dict[str, frozenset[int]] = {}
        self._lock = threading.Lock()
        self._lockstep_lock = threading.Lock()
        self._worker: threading.Thread | None = None

    def submit(
        self,
        prompt_ids: Sequence[int],
        sampling: Sampling,
        answers: AnswerSpans | None = None,
        hear: TokenListener | None = None,
        version: Callable[[], str] = str,
    ) -> Future[Completion]:
        """Queue a request; `answers` says what may stand in `<answer>`, None that anything may.

        What listens is told each token once it is sampled. `version` is asked what the weights are called when the
        request joins the batch.

        Raises:
            ModelError: The prompt is empty or leaves no room in the model's context, or the settings cannot be sampled
                with. Checked here, because what fails in the batch fails for all that are in it.
        """
        require_usable(sampling)
        limit = getattr(self.model.config, "max_position_embeddings", None)
        sampling = fit_context(prompt_ids, sampling, limit, "model")
        request = Request(tuple(prompt_ids), sampling, Future(), answers, current_party(), hear, version)
        with self._lock:
            self._start()
            self.requests.put(request)
        return request.future

    def _start(self) -> None:
        if self._worker is None:
            self._worker = threading.Thread(target=self._serve, name="masksearch-engine", daemon=True)
            self._worker.start()
            # A thread that the interpreter's end finds inside torch would abort the process.
            atexit.register(self.close)

    @contextmanager
    def in_lockstep(self, count: int) -> Iterator[list[Party]]:
        """Sample for so many callers reproducibly (`lockstep`): each works inside the context of its party.

        Others may ask too, but what is sampled beside them then depends on when they do. Callers of a second such
        context wait until the first one ends. Nothing is kept from before it.
        """
        if not count:
            yield []
            return
        with self._lockstep_lock:
            lockstep = Lockstep[Request]()
            parties = [Party(number, lockstep, self.requests.put) for number in range(count)]
            lockstep.awaited = dict.fromkeys(parties, 0)
            with self._lock:
                self._start()
                self.forget()
                self.lockstep = lockstep
            try:
                yield parties
            finally:
                for party in parties:
                    party.leave()
                # Until the model is in its own mode again.
                lockstep.is_over.wait()

    @contextmanager
    def exchange(self) -> Iterator[None]:
        """Sample nothing inside the context, in which the weights may change.

        Requests in the batch are finished before it begins; the others join after it, and read their prompts anew.
        """
        exchange = Exchange()
        with self._lock:
            self._start()
            self.requests.put(exchange)
        try:
            exchange.may_begin.wait()
            yield
        finally:  # Also where Ctrl-C ends the waiting: the worker would wait for ever otherwise, and `close` for it.
            exchange.is_over.set()

    def close(self) -> None:
        """Finish what is queued and stop the worker; a later `submit` starts it again."""
        with self._lock:
            # The lock is held until the worker is gone: a new one would share its queue, and take its end mark.
            if self._worker is not None:
                self.requests.put(None)
                self._worker.join()
                self._worker = None
                if self.lockstep is not None:
                    self.lockstep.end()
                    self.lockstep = None
                atexit.unregister(self.close)
            self.forget()

    def forget(self) -> None:
        """Let go of all keys and values that are kept, and their memory; no request may be open."""
        kept, self.prefixes = self.prefixes, PrefixStore(self.prefixes.limit_bytes)
        kept.clear()

    def drop_stale_prefixes(self) -> None:
        """Forget what is kept if the model no longer computes what it did."""
        if not self.prefixes.limit_bytes:
            return
        mark = ModelMark(self.model)
        if mark != self._mark:
            self.forget()
            self._mark = mark

    def _serve(self) -> None:
        while (first := self._next_request()) is not None:
            is_closing = Batch(self, first).run()
            if is_closing:
                return

    def _next_request(self) -> Message:
        """Wait for a request. Where none comes for long, others need the memory more: a trainer, say."""
        try:
            return self.requests.get(timeout=_KEPT_IDLE_S)
        except queue.Empty:
            self.forget()
            return self.requests.get()

    def is_finished(self, row: Row) -> Literal["stop", "length"] | None:
        """Say why a row ends after its last token; None if it goes on."""
        sampling = row.request.sampling
        if row.ids[-1] == self.end_of_turn_id or self._ends_with_stop(row.ids, sampling.stop):
            return "stop"
        return "length" if len(row.ids) >= sampling.max_tokens else None

    def _ends_with_stop(self, ids: Sequence[int], stop: tuple[str, ...]) -> bool:
        """Whether the last token completes a stop string, alone or with text after it in the same token.

        No earlier token can have completed one: this is asked after every token.
        """
        if not stop or ids[-1] not in self._closing(stop):
            return False
        text = self.tokenizer.decode(list(ids[-_STOP_TAIL_TOKENS:]), clean_up_tokenization_spaces=False)
        return any(word in text for word in stop)

    def _closing(self, stop: tuple[str, ...]) -> frozenset[int]:
        """Return the ids of all tokens that hold the last character of a stop string: only those are decoded."""
        key = "".join(sorted({word[-1] for word in stop}))
        if key not in self._closing_ids:
            texts = self.tokenizer.batch_decode([[i] for i in range(len(self.tokenizer))])
            found = (i for i, text in enumerate(texts) if any(character in text for character in key))
            self._closing_ids[key] = frozenset(found)
        return self._closing_ids[key]
