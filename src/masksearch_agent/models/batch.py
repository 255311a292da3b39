"""The rows that an engine samples together, token by token.

A prompt is read from where the kept prefixes end, and what waiting prompts have in common is read once: one of them
is read first, the others go on from what it leaves.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

import torch

from masksearch_agent.models.arrivals import Arrivals, Exchange, Request
from masksearch_agent.models.held_answers import HeldAnswer
from masksearch_agent.models.lockstep import Party
from masksearch_agent.models.prefixes import shared_length
from masksearch_agent.models.recording import Completion
from masksearch_agent.models.sampling import RowSampler, pick_tokens
from masksearch_agent.models.slots import FULL, SLIDING, SlotCache

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from masksearch_agent.models.engine import BatchingEngine

__all__ = ("Batch", "Row")

_PROMPT_TOKENS_PER_PASS = 8192
"""Prompt tokens, padding included, that one forward pass reads at most: what bounds its memory."""

_FREE_PADDING_TOKENS = {"cpu": 32}
_FREE_PADDING_TOKENS_ELSEWHERE = 2048
"""Padding, by type of device, that costs less than another pass does: a core reads no faster what it reads at once."""

_WORTH_WAITING_TOKENS = 32
"""Tokens in common for which a prompt waits until another one is read."""

_WAVES = 3
"""Prompts are read in so many waves at most: what all have in common, what a group has, and the rest."""


@dataclass(slots=True, eq=False)
class Row:
    """A request that is being sampled."""

    request: Request
    slot: int
    sampler: RowSampler
    held: HeldAnswer | None
    """What holds its answer to the texts that were shown; None where it is free."""
    version: str
    """Of the weights that sample it."""
    end: int = 0
    """Tokens of it whose keys and values its slot holds."""
    ids: list[int] = field(default_factory=list)
    """Sampled ones."""
    logprobs: list[float] = field(default_factory=list)
    finish_reason: Literal["stop", "length"] | None = None

    @property
    def unread(self) -> int:
        """Tokens of the prompt that are still to be read."""
        return len(self.request.prompt_ids) - self.end


class Batch:
    """The rows being sampled, from the moment an idle engine gets a request until it is idle again."""

    def __init__(self, engine: BatchingEngine, first: Request | Party | Exchange) -> None:
        self.engine = engine
        self.model: PreTrainedModel = engine.model
        self.arrivals = Arrivals(engine, first)
        self.rows: list[Row] = []
        """Row `i` lives in slot `i` of the cache."""
        self.cache = SlotCache(self.model.config.num_hidden_layers)

    def run(self) -> bool:
        """Sample until nothing is waiting, and return whether the engine is to stop.

        A failure of the model goes to every open request, and only to those.
        """
        self.arrivals.collect(self.engine.linger_s)
        finished: list[Row] = []
        try:
            with _evaluation_mode(self.model), torch.inference_mode():
                self.engine.drop_stale_prefixes()
                while self.rows or self.arrivals.is_open:
                    finished = self._step()
                    self.arrivals.collect(0.0)
                    if self.rows or self.arrivals.is_open:
                        _resolve(finished)
        # Whatever goes wrong in the model belongs to the callers, and the worker must go on for others.
        except Exception as failure:  # noqa: BLE001
            self.engine.forget()  # Half of a pass may be kept, and memory may be what was missing.
            self.arrivals.disband()
            for request in [*(row.request for row in self.rows), *self.arrivals.waiting]:
                if request.future.set_running_or_notify_cancel():
                    request.future.set_exception(failure)
            self.arrivals.exchange_weights()
            return self.arrivals.is_closing
        # The last ones are told when the model is in its own mode again, because a trainer may be next.
        _resolve(finished)
        self.arrivals.end_lockstep()
        return self.arrivals.is_closing

    def _step(self) -> list[Row]:
        """Sample one token for every row, new ones included, and return the rows that are finished."""
        self._free([row for row in self.rows if row.request.future.cancelled()])
        if self.arrivals.exchanges and not self.rows:
            self.arrivals.exchange_weights()
            self.engine.drop_stale_prefixes()
        self.arrivals.join_in_lockstep(is_idle=not self.rows)
        known, fresh = list(self.rows), self._admit()
        self.rows += fresh
        if not self.rows:
            return []
        logits = []
        if known:
            logits.append(self._read(known, [row.ids[-1:] for row in known]))
        if fresh:
            logits.append(self._read_prompts(fresh))
        read = torch.cat(logits)
        tokens, logprobs = pick_tokens(read, [row.sampler for row in self.rows])
        self._hold_answers(read, tokens, logprobs)
        for row, token, logprob in zip(self.rows, tokens, logprobs, strict=True):
            row.ids.append(token)
            row.logprobs.append(logprob)
            if row.request.hear is not None:
                row.request.hear((token,))
            row.finish_reason = self.engine.is_finished(row)
        finished = [row for row in self.rows if row.finish_reason is not None]
        for row in finished:
            self._keep(row)
        self._free(finished)
        self.arrivals.count_token()
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

    def _admit(self) -> list[Row]:
        """Return the requests that join now: as many as there is room for in the batch."""
        fresh: list[Row] = []
        waiting = self.arrivals.waiting
        if self.arrivals.exchanges:
            return fresh
        while waiting and len(self.rows) + len(fresh) < self.engine.max_batch_size:
            request = waiting.popleft()
            if request.future.cancelled():
                self.arrivals.note_answered(request)
                continue
            slot = len(self.rows) + len(fresh)
            sampler, held = RowSampler(request.sampling), self._held(request)
            fresh.append(Row(request, slot, sampler, held, request.version()))
        return fresh

    def _held(self, request: Request) -> HeldAnswer | None:
        if request.answers is None:
            return None
        return HeldAnswer(request.answers, self.engine.tokenizer, self.engine.end_of_turn_id)

    def _read_prompts(self, fresh: list[Row]) -> torch.Tensor:
        """Read the prompts of new rows and return the logits after each, `(B, V)`."""
        self.cache.reserve(len(self.rows), max(len(row.request.prompt_ids) for row in fresh))
        free_padding = _FREE_PADDING_TOKENS.get(self.model.device.type, _FREE_PADDING_TOKENS_ELSEWHERE)
        logits: dict[Row, torch.Tensor] = {}
        waves = _WAVES if self.engine.prefixes.limit_bytes else 1
        unread = fresh
        for wave in range(1, waves + 1):
            now, unread = (unread, []) if wave == waves else self._choose(unread)
            for row in now:
                # The last token is read in any case, for what follows it.
                row.end, pieces = self.engine.prefixes.find(row.request.prompt_ids[:-1])
                self.cache.write(row.slot, pieces)
            for rows in _passes(now, free_padding):
                self.engine.prompt_tokens_read += sum(row.unread for row in rows)
                after = self._read(rows, [row.request.prompt_ids[row.end :] for row in rows])
                logits.update(zip(rows, after, strict=True))
                for row in rows:
                    self._keep(row)
        return torch.stack([logits[row] for row in fresh])

    def _choose(self, rows: Sequence[Row]) -> tuple[list[Row], list[Row]]:
        """Return the rows to read now, and those that would only read again much of what one of these does."""
        now: list[Row] = []
        later: list[Row] = []
        # In this order no row has more in common with one that is read than with the last such one.
        for row in sorted(rows, key=lambda row: row.request.prompt_ids):
            ids = row.request.prompt_ids
            shared = shared_length(now[-1].request.prompt_ids, ids) if now else 0
            is_worth = shared >= _WORTH_WAITING_TOKENS + self.engine.prefixes.find(ids[:-1])[0]
            (later if is_worth else now).append(row)
        return now, later

    def _keep(self, row: Row) -> None:
        """Keep what was read of a row."""
        ids = (*row.request.prompt_ids, *row.ids)[: row.end]
        self.engine.prefixes.add(ids, lambda start, end: self.cache.copied(row.slot, start, end))

    def _read(self, rows: Sequence[Row], ids: Sequence[Sequence[int]]) -> torch.Tensor:
        """Read tokens that go on where each row ends, and return the logits after the last of each, `(B, V)`."""
        longest = max(map(len, ids))
        padding = self.engine.tokenizer.pad_token_id
        padded = [[padding] * (longest - len(own)) + list(own) for own in ids]
        ends = torch.tensor([row.end + len(own) for row, own in zip(rows, ids, strict=True)])
        counts = torch.tensor([len(own) for own in ids])
        places = torch.arange(-longest, 0)
        # What a padding token attends to does not matter, but it has to be something: a softmax over nothing is NaN.
        positions = (ends[:, None] + places).clamp(min=0)
        self.cache.reserve(len(self.rows), int(ends.max()))
        self.cache.expect(
            [row.slot for row in rows], positions, places >= -counts[:, None], self.model.device
        )
        for row, own in zip(rows, ids, strict=True):
            row.end += len(own)
        return self._forward(torch.tensor(padded), positions)

    def _forward(self, ids: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
        device = self.model.device
        positions = positions.to(device)
        masks = {kind: self._mask(positions, window) for kind, window in self.engine.windows.items()}
        output = self.model(
            input_ids=ids.to(device),
            # Only models with types of layers take a mask for each.
            attention_mask=masks if SLIDING in masks else masks[FULL],
            position_ids=positions,
            past_key_values=self.cache,
            use_cache=True,
            logits_to_keep=1,
        )
        logits: torch.Tensor = output.logits[:, -1]
        return logits

    def _mask(self, positions: torch.Tensor, window: int | None) -> torch.Tensor:
        """Return `(B, 1, T, columns)`: what tokens at `positions` `(B, T)` attend to."""
        columns = torch.arange(self.cache.width, device=positions.device)
        places = positions[:, None, :, None]
        mask = columns <= places
        if window is not None:
            mask &= columns > places - window
        if self.model.config._attn_implementation == "eager":
            low = torch.finfo(self.model.dtype).min
            mask = torch.zeros_like(mask, dtype=self.model.dtype).masked_fill(~mask, low)
        return mask

    def _free(self, gone: Sequence[Row]) -> None:
        """Take rows out; the last row moves into the slot of each, so the slots in use stay the first ones."""
        for row in gone:
            last = self.rows.pop()
            self.arrivals.note_answered(row.request)
            if last is not row:
                self.cache.move(last.slot, row.slot, last.end)
                last.slot = row.slot
                self.rows[row.slot] = last


def _passes(rows: Sequence[Row], free_padding: int) -> list[list[Row]]:
    """Share rows between passes, so that none reads too much or more padding than is free."""
    passes: list[list[Row]] = []
    for row in sorted(rows, key=lambda row: row.unread, reverse=True):
        beside = passes[-1] if passes else [row]
        tokens = beside[0].unread * (len(beside) + 1)
        padding = tokens - sum(other.unread for other in beside) - row.unread
        if passes and tokens <= _PROMPT_TOKENS_PER_PASS and padding <= free_padding:
            beside.append(row)
        else:
            passes.append([row])
    return passes


def _resolve(rows: Sequence[Row]) -> None:
    for row in rows:
        future = row.request.future
        if row.finish_reason is not None and future.set_running_or_notify_cancel():
            is_held = row.held is not None and row.held.is_open
            future.set_result(
                Completion(tuple(row.ids), tuple(row.logprobs), row.finish_reason, is_held, row.version)
            )


@contextmanager
def _evaluation_mode(model: PreTrainedModel) -> Iterator[None]:
    """Put a model in evaluation mode, and back into the mode it was in."""
    was_training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(was_training)
