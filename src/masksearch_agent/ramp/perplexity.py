"""The mask policy `perplexity`: the spans that a reference model finds hardest, and how that is measured.

MaskSearch (arXiv 2505.20285, section 3.1) masks what a language model is most perplexed by. Here the measure is the
mean surprisal of a span's tokens, -log p(token | title and text before it), which one pass over a passage gives for all
of its spans; the text behind a span is not read. Being the logarithm of the perplexity, it orders spans as that does.

Invariant: a passage is computed in float32 whatever it is batched with, so that order and sharding of a corpus change
its values by rounding only.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from masksearch_agent.errors import TaskError
from masksearch_agent.ramp.spans import PassagesWithSpans, Span, SpanExtractor
from masksearch_agent.records import Passage

__all__ = ("MeasuringExtractor", "SpanSurprisal", "perplexity")

_LOOK_AHEAD = 8
"""Batches sorted by length together, so that little is padded."""
_MAX_TOKENS = 1024
"""Read of a passage, or as many as the model has positions for."""


def perplexity(passage: Passage, spans: Sequence[Span]) -> Sequence[float]:
    """Weigh a span by how hard the reference model finds it; one that it could not read is not masked.

    Raises:
        TaskError: No reference model has read the spans.
    """
    if any(span.surprisal is None for span in spans):
        raise TaskError(
            f"the spans of passage {passage.id!r} were read by no reference model, which the mask policy 'perplexity' "
            "needs; pass them through ramp.perplexity.SpanSurprisal first"
        )
    return [span.surprisal or 0.0 for span in spans]


@dataclass(slots=True)
class _Row:
    """A passage as the model reads it."""

    ids: list[int]
    places: list[list[int]]
    """For each span the numbers of its tokens."""
    surprisals: list[float]


class SpanSurprisal:
    """Writes into spans how hard they are for a reference model: a causal one of transformers, in float32.

    Its tokenizer is a fast one, which tells where a token stands in the text.
    """

    def __init__(self, model: Any, tokenizer: Any, batch_size: int = 8) -> None:
        self._model = model
        self._tokenizer = tokenizer
        self._batch_size = batch_size
        self._max_tokens = min(_MAX_TOKENS, getattr(model.config, "max_position_embeddings", _MAX_TOKENS))

    def measure(self, passages_with_spans: Iterable[tuple[Passage, Sequence[Span]]]) -> PassagesWithSpans:
        """Yield the passages in their order, their spans with `surprisal`.

        What the model cannot score gets 0: a span at the very beginning, or behind the tokens that are read.
        """
        stream = iter(passages_with_spans)
        while chunk := list(islice(stream, self._batch_size * _LOOK_AHEAD)):
            rows = [self._read(passage, spans) for passage, spans in chunk]
            # What has no span to score need not be read.
            unscored = sorted((row for row in rows if any(row.places)), key=lambda row: len(row.ids))
            for start in range(0, len(unscored), self._batch_size):
                self._score(unscored[start : start + self._batch_size])
            for (passage, spans), row in zip(chunk, rows, strict=True):
                scored = zip(spans, row.surprisals, strict=True)
                yield passage, tuple(dataclasses.replace(span, surprisal=value) for span, value in scored)

    def _read(self, passage: Passage, spans: Sequence[Span]) -> _Row:
        prefix = f"{passage.title}: " if passage.title else ""
        encoded = self._tokenizer(
            prefix + passage.text, return_offsets_mapping=True, truncation=True, max_length=self._max_tokens
        )
        places = [_tokens_of(span, len(prefix), encoded["offset_mapping"]) for span in spans]
        return _Row(encoded["input_ids"], places, [0.0] * len(spans))

    def _score(self, rows: Sequence[_Row]) -> None:
        """Write the surprisals of a batch into its rows."""
        import torch

        longest = max(len(row.ids) for row in rows)
        ids = torch.zeros(len(rows), longest, dtype=torch.long)
        mask = torch.zeros_like(ids)
        for number, row in enumerate(rows):
            ids[number, : len(row.ids)] = torch.tensor(row.ids)
            mask[number, : len(row.ids)] = 1
        # A token is predicted at the position before it. The vocabulary is large: only logits that are read are made.
        wanted = sorted({token - 1 for row in rows for place in row.places for token in place})
        column = {position: number for number, position in enumerate(wanted)}
        with torch.inference_mode():
            logits = self._model(
                input_ids=ids, attention_mask=mask, logits_to_keep=torch.tensor(wanted), use_cache=False
            ).logits
            for row, row_logits in zip(rows, logits, strict=True):
                for span, place in enumerate(row.places):
                    if place:
                        predicted = row_logits[[column[token - 1] for token in place]].float()
                        target = torch.tensor([row.ids[token] for token in place])
                        row.surprisals[span] = torch.nn.functional.cross_entropy(predicted, target).item()


@dataclass(frozen=True)
class MeasuringExtractor:
    """The spans that another extractor finds, with how hard they are."""

    extractor: SpanExtractor
    surprisal: SpanSurprisal

    def extract(self, passages: Iterable[Passage]) -> PassagesWithSpans:
        """Yield each passage with its measured spans."""
        return self.surprisal.measure(self.extractor.extract(passages))


def _tokens_of(span: Span, shift: int, offsets: Sequence[tuple[int, int]]) -> list[int]:
    """Return which tokens hold a character of the span; none where one of them cannot be predicted or is cut off."""
    start, end = span.start + shift, span.end + shift
    tokens = [number for number, (left, right) in enumerate(offsets) if left < end and right > start]
    is_whole = bool(tokens) and tokens[0] > 0 and offsets[tokens[-1]][1] >= end
    return tokens if is_whole else []
