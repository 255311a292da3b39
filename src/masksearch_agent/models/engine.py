"""Batches concurrent requests for a local transformers model: token ids in, sampled ids and log-probabilities out.

One worker thread owns the model while it samples. Requests that arrive within a short linger are sampled
together by `generate`; each stops on its own end-of-turn token, stop string or token limit. Log-probabilities
are those of the unscaled distribution, whatever the sampling temperature, because that is what a trainer
recomputes.
"""

from __future__ import annotations

import dataclasses
import queue
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import torch
from transformers import GenerationConfig, LogitsProcessor, StoppingCriteria

from masksearch_agent.errors import ModelError
from masksearch_agent.records import Sampling

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

__all__ = ("BatchingEngine", "Completion")

_PATIENCE = 8
"""How many times longer a batch lingers while callers of the last one may still come back."""

_STOP_TAIL_TOKENS = 12
"""Tokens looked back for a stop string; longer than any stop string of the protocol is in tokens."""


@dataclass(frozen=True, slots=True)
class Completion:
    """What was sampled for one request."""

    ids: tuple[int, ...]
    logprobs: tuple[float, ...]
    finish_reason: Literal["stop", "length"]


@dataclass(frozen=True, slots=True)
class _Request:
    prompt_ids: tuple[int, ...]
    sampling: Sampling
    future: Future[Completion]


class BatchingEngine:
    """Samples from one model for many callers at once.

    Args:
        model: A causal language model; the engine reads its weights as they are at each batch.
        tokenizer: Its tokenizer.
        end_of_turn_id: The token that ends an assistant turn.
        max_batch_size: Requests sampled together at most; memory grows with it.
        linger_s: How long to wait for another request before a batch starts, in seconds.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        end_of_turn_id: int,
        max_batch_size: int = 128,
        linger_s: float = 0.004,
    ) -> None:
        self.model = model
        self.tokenizer = tokenizer
        self.end_of_turn_id = end_of_turn_id
        self.max_batch_size = max_batch_size
        self.linger_s = linger_s
        self._queue: queue.SimpleQueue[_Request | None] = queue.SimpleQueue()
        self._closing_ids: dict[str, tuple[torch.Tensor, frozenset[int]]] = {}
        self._lock = threading.Lock()
        self._worker: threading.Thread | None = None
        self._last_batch_size = 0

    def submit(self, prompt_ids: Sequence[int], sampling: Sampling) -> Future[Completion]:
        """Queue a request.

        Raises:
            ModelError: The prompt is empty or leaves no room in the model's context.
        """
        limit = getattr(self.model.config, "max_position_embeddings", None)
        if not prompt_ids:
            raise ModelError("the prompt has no tokens")
        if limit is not None and len(prompt_ids) + 1 > limit:
            raise ModelError(
                f"the prompt has {len(prompt_ids)} tokens but the model reads at most {limit}; lower the agent's "
                f"`max_searches` or `passages_per_search`"
            )
        if limit is not None and len(prompt_ids) + sampling.max_tokens > limit:
            # Requests are grouped by settings, so a full prompt shortens no other request's reply.
            sampling = dataclasses.replace(sampling, max_tokens=limit - len(prompt_ids))
        request = _Request(tuple(prompt_ids), sampling, Future())
        with self._lock:
            if self._worker is None:
                self._worker = threading.Thread(target=self._serve, name="masksearch-engine", daemon=True)
                self._worker.start()
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

    def _serve(self) -> None:
        while True:
            first = self._queue.get()
            if first is None:
                return
            batch, is_closing = self._collect(first)
            self._last_batch_size = len(batch)
            for group in _group_by_sampling(batch):
                self._run(group)
            if is_closing:
                return

    def _collect(self, first: _Request) -> tuple[list[_Request], bool]:
        """Gather requests until none arrives for a while or the batch is full.

        Callers of the batch before usually come back with their next request, one after the other; a batch
        waits longer until it is as large as that one.
        """
        batch = [first]
        while len(batch) < self.max_batch_size:
            is_behind = len(batch) < self._last_batch_size
            try:
                request = self._queue.get(timeout=self.linger_s * (_PATIENCE if is_behind else 1))
            except queue.Empty:
                break
            if request is None:
                return batch, True
            batch.append(request)
        return batch, False

    def _run(self, requests: list[_Request]) -> None:
        live = [request for request in requests if request.future.set_running_or_notify_cancel()]
        if not live:
            return
        try:
            completions = self._generate(live)
        # Whatever goes wrong in the model belongs to the callers, and the worker must go on for the others.
        except Exception as failure:  # noqa: BLE001
            for request in live:
                request.future.set_exception(failure)
            return
        for request, completion in zip(live, completions, strict=True):
            request.future.set_result(completion)

    def _generate(self, requests: list[_Request]) -> list[Completion]:
        sampling = requests[0].sampling
        prompts = [request.prompt_ids for request in requests]
        input_ids, attention_mask = self._pad_left(prompts)
        width = input_ids.shape[1]
        limits = [request.sampling.max_tokens for request in requests]
        stopping = _RowStopping(self, width, sampling.stop, limits)
        recording = _LogprobRecorder(width)
        settings: dict[str, Any] = {"do_sample": sampling.temperature > 0}
        if sampling.temperature > 0:
            settings |= {"temperature": sampling.temperature, "top_p": sampling.top_p, "top_k": 0}
        with _plain_sampling(self.model), torch.inference_mode():
            output = self.model.generate(
                input_ids=input_ids,
                attention_mask=attention_mask,
                max_new_tokens=max(limits),
                pad_token_id=self.tokenizer.pad_token_id,
                eos_token_id=self.end_of_turn_id,
                logits_processor=[recording],
                stopping_criteria=[stopping],
                **settings,
            )
        logprobs = recording.finish(output)
        return [
            self._completion(ids, row_logprobs, limit, stopped_at)
            for ids, row_logprobs, limit, stopped_at in zip(
                output[:, width:].tolist(), logprobs.tolist(), limits, stopping.stopped_at, strict=True
            )
        ]

    def _pad_left(self, prompts: Sequence[Sequence[int]]) -> tuple[torch.Tensor, torch.Tensor]:
        width = max(len(prompt) for prompt in prompts)
        pad = self.tokenizer.pad_token_id
        device = self.model.device
        ids = torch.tensor([[pad] * (width - len(p)) + list(p) for p in prompts], device=device)
        mask = torch.tensor([[0] * (width - len(p)) + [1] * len(p) for p in prompts], device=device)
        return ids, mask

    def _completion(
        self, ids: list[int], logprobs: list[float], limit: int, stopped_at: int | None
    ) -> Completion:
        """Cut a row where it ended; `generate` pads the rows that end before others."""
        end = stopped_at
        if self.end_of_turn_id in ids:
            turn_end = ids.index(self.end_of_turn_id) + 1
            end = turn_end if end is None else min(end, turn_end)
        if end is None or end > limit:
            return Completion(tuple(ids[:limit]), tuple(logprobs[:limit]), "length")
        return Completion(tuple(ids[:end]), tuple(logprobs[:end]), "stop")

    def ends_with_stop(self, ids: Sequence[int], stop: tuple[str, ...]) -> bool:
        """Whether the last token completes a stop string, alone or with text after it in the same token.

        No earlier token may have completed one: ask after every token.
        """
        if not stop or int(ids[-1]) not in self._closing(stop)[1]:
            return False
        tail = list(ids[-_STOP_TAIL_TOKENS:])
        text = self.tokenizer.decode(tail, clean_up_tokenization_spaces=False)
        return any(word in text for word in stop)

    def closing_ids(self, stop: tuple[str, ...]) -> torch.Tensor:
        """Return the ids of all tokens that hold the last character of a stop string."""
        return self._closing(stop)[0]

    def _closing(self, stop: tuple[str, ...]) -> tuple[torch.Tensor, frozenset[int]]:
        key = "".join(sorted({word[-1] for word in stop}))
        if key not in self._closing_ids:
            texts = self.tokenizer.batch_decode([[i] for i in range(len(self.tokenizer))])
            found = [i for i, text in enumerate(texts) if any(character in text for character in key)]
            self._closing_ids[key] = torch.tensor(found, device=self.model.device), frozenset(found)
        return self._closing_ids[key]


class _RowStopping(StoppingCriteria):  # type: ignore[misc]
    """Ends each row on its own stop string or token limit; only tokens that could complete one are decoded."""

    def __init__(
        self, engine: BatchingEngine, prompt_width: int, stop: tuple[str, ...], limits: Sequence[int]
    ) -> None:
        self.engine = engine
        self.prompt_width = prompt_width
        self.stop = stop
        self.limits = torch.tensor(limits, device=engine.model.device)
        self.stopped_at: list[int | None] = [None] * len(limits)
        """Sampled tokens of each row when its first stop string was complete."""

    def __call__(self, input_ids: torch.Tensor, scores: Any, **kwargs: Any) -> torch.Tensor:
        sampled = input_ids.shape[1] - self.prompt_width
        done = self.limits <= sampled
        if not self.stop:
            return done
        candidates = torch.isin(input_ids[:, -1], self.engine.closing_ids(self.stop)).nonzero().flatten()
        start = max(self.prompt_width, input_ids.shape[1] - _STOP_TAIL_TOKENS)
        for row in candidates.tolist():
            if self.stopped_at[row] is None and self.engine.ends_with_stop(
                input_ids[row, start:].tolist(), self.stop
            ):
                self.stopped_at[row] = sampled
                done[row] = True
        return done


class _LogprobRecorder(LogitsProcessor):  # type: ignore[misc]
    """Keeps the log-probability of each sampled token. It runs before temperature and top-p are applied."""

    def __init__(self, prompt_width: int) -> None:
        self.prompt_width = prompt_width
        self._columns: list[torch.Tensor] = []
        self._pending: torch.Tensor | None = None

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        self._take(input_ids)
        self._pending = torch.log_softmax(scores.float(), dim=-1)
        return scores

    def finish(self, sequences: torch.Tensor) -> torch.Tensor:
        """Return the log-probabilities, `(B, sampled width)` float32."""
        self._take(sequences)
        return torch.stack(self._columns, dim=1)

    def _take(self, sequences: torch.Tensor) -> None:
        if self._pending is not None:
            column = self.prompt_width + len(self._columns)
            self._columns.append(self._pending.gather(1, sequences[:, column : column + 1]).squeeze(1))
            self._pending = None


@contextmanager
def _plain_sampling(model: PreTrainedModel) -> Iterator[None]:
    """Put a model in evaluation mode, without the settings (a repetition penalty, say) that its checkpoint brings.

    `generate` applies those wherever the caller says nothing, which would sample from another distribution than
    the one that is recorded and trained.
    """
    was_training, own_settings = model.training, model.generation_config
    model.eval()
    model.generation_config = GenerationConfig()
    try:
        yield
    finally:
        model.generation_config = own_settings
        model.train(was_training)


def _group_by_sampling(requests: Sequence[_Request]) -> list[list[_Request]]:
    """Group requests that can be sampled in one batch; token limits may differ within one."""
    groups: dict[Sampling, list[_Request]] = {}
    for request in requests:
        groups.setdefault(dataclasses.replace(request.sampling, max_tokens=0), []).append(request)
    return list(groups.values())
