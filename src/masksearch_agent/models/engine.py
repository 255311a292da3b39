"""Continuous batching for a local transformers model: token ids in, sampled ids and log-probabilities out.

One worker thread owns the model while it samples. A request joins the batch between two tokens and leaves it at its
own end-of-turn token, stop string or token limit; its place is free at once. Log-probabilities are those of the
unscaled distribution, whatever the sampling temperature, because that is what a trainer recomputes.
"""

from __future__ import annotations

import atexit
import queue
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

import torch

from masksearch_agent.models.answer_spans import AnswerSpans
from masksearch_agent.models.held_answers import HeldAnswer
from masksearch_agent.models.recording import Completion, fit_context
from masksearch_agent.models.sampling import RowSampler, pick_tokens, require_usable
from masksearch_agent.models.slots import SlotCache, require_full_attention
from masksearch_agent.records import Sampling

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

__all__ = ("BatchingEngine",)

_STOP_TAIL_TOKENS = 12
"""Tokens looked back for a stop string; longer than any stop string of the protocol is in tokens."""

_PROMPT_TOKENS_PER_PASS = 8192
"""Prompt tokens, padding included, that one forward pass reads at most: what bounds its memory."""


@dataclass(frozen=True, slots=True)
class _Request:
    prompt_ids: tuple[int, ...]
    sampling: Sampling
    future: Future[Completion]
    answers: AnswerSpans | None


@dataclass(slots=True)
class _Row:
    """A request that is being sampled."""

    request: _Request
    start: int
    """First column of its slot; those before it are padding."""
    end: int
    """Columns of its slot that are written."""
    sampler: RowSampler
    held: HeldAnswer | None
    """What holds its answer to the texts that were shown; None where it is free."""
    ids: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    finish_reason: Literal["stop", "length"] | None = None


class BatchingEngine:
    """Samples from one model for many callers at once.

    Args:
        model: A causal language model with full attention in every layer; the engine reads its weights as they are
            at each token, so do not change them while requests are open.
        end_of_turn_id: The token that ends an assistant turn.
        max_batch_size: Requests sampled together at most; memory grows with it.
        linger_s: How long an idle engine waits for another request before it starts, in seconds.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        end_of_turn_id: int,
        max_batch_size: int = 128,
        linger_s: float = 0.004,
    ) -> None:
        require_full_attention(model)
        self.model = model
        self.tokenizer = tokenizer
        self.end_of_turn_id = end_of_turn_id
        self.max_batch_size = max_batch_size
        self.linger_s = linger_s
        self._queue: queue.SimpleQueue[_Request | None] = queue.SimpleQueue()
        self._closing_ids: dict[str, frozenset[int]] = {}
        self._lock = threading.Lock()
        self._worker: threading.Thread | None = None

    def submit(
        self, prompt_ids: Sequence[int], sampling: Sampling, answers: AnswerSpans | None = None
    ) -> Future[Completion]:
        """Queue a request; `answers` says what may stand in `<answer>`, None that anything may.

        Raises:
            ModelError: The prompt is empty or leaves no room in the model's context, or the settings cannot be sampled
                with. Checked here, because what fails in the batch fails for all that are in it.
        """
        require_usable(sampling)
        limit = getattr(self.model.config, "max_position_embeddings", None)
        sampling = fit_context(prompt_ids, sampling, limit, "model")
        request = _Request(tuple(prompt_ids), sampling, Future(), answers)
        with self._lock:
            if self._worker is None:
                self._worker = threading.Thread(target=self._serve, name="masksearch-engine", daemon=True)
                self._worker.start()
                # A thread that the interpreter's end finds inside torch would abort the process.
                atexit.register(self.close)
            self._queue.put(request)
        return request.future

    def close(self) -> None:
        """Finish what is queued and stop the worker; a later `submit` starts it again."""
        with self._lock:
            # The lock is held until the worker is gone: a new one would share its queue, and take its end mark.
            if self._worker is not None:
                self._queue.put(None)
                self._worker.join()
                self._worker = None
                atexit.unregister(self.close)

    def _serve(self) -> None:
        while (first := self._queue.get()) is not None:
            is_closing = _Batch(self, first).run()
            if is_closing:
                return

    def is_finished(self, row: _Row) -> Literal["stop", "length"] | None:
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


class _Batch:
    """The rows being sampled, from the moment an idle engine gets a request until it is idle again."""

    def __init__(self, engine: BatchingEngine, first: _Request) -> None:
        self.engine = engine
        self.model = engine.model
        self.waiting = deque([first])
        self.rows: list[_Row] = []
        """Row `i` lives in slot `i` of the cache."""
        self.cache = SlotCache(self.model.config.num_hidden_layers)
        self.is_closing = False

    def run(self) -> bool:
        """Sample until nothing is waiting, and return whether the engine is to stop.

        A failure of the model goes to every open request, and only to those.
        """
        self._collect(self.engine.linger_s)
        finished: list[_Row] = []
        try:
            with _evaluation_mode(self.model), torch.inference_mode():
                while self.waiting or self.rows:
                    finished = self._step()
                    self._collect(0.0)
                    if self.waiting or self.rows:
                        _resolve(finished)
        # Whatever goes wrong in the model belongs to the callers, and the worker must go on for others.
        except Exception as failure:  # noqa: BLE001
            for request in [*(row.request for row in self.rows), *self.waiting]:
                if request.future.set_running_or_notify_cancel():
                    request.future.set_exception(failure)
            return self.is_closing
        # The last ones are told when the model is in its own mode again, because a trainer may be next.
        _resolve(finished)
        return self.is_closing

    def _collect(self, linger_s: float) -> None:
        """Take what has arrived; wait up to `linger_s` for each further request while there is room."""
        while len(self.waiting) < self.engine.max_batch_size:
            try:
                request = self.engine._queue.get(block=linger_s > 0, timeout=linger_s)
            except queue.Empty:
                return
            if request is None:
                self.is_closing = True
                return
            self.waiting.append(request)

    def _step(self) -> list[_Row]:
        """Sample one token for every row, new ones included, and return the rows that are finished."""
        self._free([row for row in self.rows if row.request.future.cancelled()])
        known, fresh = list(self.rows), self._admit()
        self.rows += fresh
        if not self.rows:
            return []
        logits = []
        if known:
            logits.append(self._read_tokens(known))
        if fresh:
            logits.append(self._read_prompts(fresh, first_slot=len(known)))
        read = torch.cat(logits)
        tokens, logprobs = pick_tokens(read, [row.sampler for row in self.rows])
        self._hold_answers(read, tokens, logprobs)
        for row, token, logprob in zip(self.rows, tokens, logprobs, strict=True):
            row.ids.append(token)
            row.logprobs.append(logprob)
            row.finish_reason = self.engine.is_finished(row)
        finished = [row for row in self.rows if row.finish_reason is not None]
        self._free(finished)
        return finished

    def _hold_answers(self, logits: torch.Tensor, tokens: list[int], logprobs: list[float]) -> None:
        """Exchange what was sampled where the answer of a row is held; logits `(B, V)` are those it was sampled from.

        The log-probability stays that of the free distribution.
        """
        for place, row in enumerate(self.rows):
            if row.held is None:
                continue
            chosen = row.held.choose(row.ids, tokens[place], logits[place], row.sampler)
            if chosen != tokens[place]:
                tokens[place] = chosen
                logprobs[place] = float(torch.log_softmax(logits[place].float(), dim=-1)[chosen])

    def _admit(self) -> list[_Row]:
        """Return the requests that join now: as many as there is room for in the batch and in one pass."""
        fresh: list[_Request] = []
        longest = 0
        while self.waiting and len(self.rows) + len(fresh) < self.engine.max_batch_size:
            longest = max(longest, len(self.waiting[0].prompt_ids))
            if fresh and longest * (len(fresh) + 1) > _PROMPT_TOKENS_PER_PASS:
                break
            request = self.waiting.popleft()
            if not request.future.cancelled():
                fresh.append(request)
        width = max((len(request.prompt_ids) for request in fresh), default=0)
        starts = [width - len(request.prompt_ids) for request in fresh]
        return [
            _Row(one, start, width, RowSampler(one.sampling), self._held(one))
            for one, start in zip(fresh, starts, strict=True)
        ]

    def _held(self, request: _Request) -> HeldAnswer | None:
        if request.answers is None:
            return None
        return HeldAnswer(request.answers, self.engine.tokenizer, self.engine.end_of_turn_id)

    def _read_prompts(self, fresh: list[_Row], first_slot: int) -> torch.Tensor:
        """Read the prompts of new rows and return the logits after each, `(B, V)`."""
        width = fresh[0].end
        device = self.model.device
        padding = self.engine.tokenizer.pad_token_id
        ids = [[padding] * row.start + list(row.request.prompt_ids) for row in fresh]
        starts = torch.tensor([row.start for row in fresh], device=device)
        columns = torch.arange(width, device=device)
        is_seen = (columns <= columns[:, None]) & (columns >= starts[:, None, None])
        # A row of padding attends to itself: a softmax over nothing is NaN.
        is_seen |= columns == columns[:, None]
        self.cache.reserve(first_slot + len(fresh), width)
        self.cache.expect_prompts(first_slot)
        positions = (columns - starts[:, None]).clamp(min=0)
        return self._forward(torch.tensor(ids, device=device), positions, is_seen[:, None])

    def _read_tokens(self, known: list[_Row]) -> torch.Tensor:
        """Read the last token of each row and return the logits after it, `(B, V)`."""
        device = self.model.device
        positions = torch.tensor([row.end for row in known], device=device)
        starts = torch.tensor([row.start for row in known], device=device)
        width = max(row.end for row in known) + 1
        columns = torch.arange(width, device=device)
        is_seen = (columns <= positions[:, None]) & (columns >= starts[:, None])
        self.cache.reserve(len(known), width)
        self.cache.expect_tokens(positions, width)
        for row in known:
            row.end += 1
        last_ids = torch.tensor([[row.ids[-1]] for row in known], device=device)
        return self._forward(last_ids, (positions - starts)[:, None], is_seen[:, None, None])

    def _forward(self, ids: torch.Tensor, positions: torch.Tensor, is_seen: torch.Tensor) -> torch.Tensor:
        mask = is_seen
        if self.model.config._attn_implementation == "eager":
            low = torch.finfo(self.model.dtype).min
            mask = torch.zeros_like(is_seen, dtype=self.model.dtype).masked_fill(~is_seen, low)
        output = self.model(
            input_ids=ids,
            attention_mask=mask,
            position_ids=positions,
            past_key_values=self.cache,
            use_cache=True,
            logits_to_keep=1,
        )
        logits: torch.Tensor = output.logits[:, -1]
        return logits

    def _free(self, gone: Sequence[_Row]) -> None:
        """Take rows out; the last row moves into the slot of each, so the slots in use stay the first ones."""
        for row in gone:
            slot = next(index for index, other in enumerate(self.rows) if other is row)
            last = self.rows.pop()
            if last is not row:
                self.cache.move(len(self.rows), slot, last.end)
                self.rows[slot] = last


def _resolve(rows: Sequence[_Row]) -> None:
    for row in rows:
        future = row.request.future
        if row.finish_reason is not None and future.set_running_or_notify_cancel():
            is_held = row.held is not None and row.held.is_open
            future.set_result(Completion(tuple(row.ids), tuple(row.logprobs), row.finish_reason, is_held))


@contextmanager
def _evaluation_mode(model: PreTrainedModel) -> Iterator[None]:
    """Put a model in evaluation mode, and back into the mode it was in."""
    was_training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(was_training)
