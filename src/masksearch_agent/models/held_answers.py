"""Sampling under which an answer is held to what was shown (`answer_spans`), one row at a time.

The token that was sampled freely is taken where it is allowed; that is sampling from the distribution over the allowed
tokens already. Else the likeliest tokens are tried, and then those that the shown texts go on with, so there always is
one as long as the tokenizer can write the texts. Where there is none, the turn ends, malformed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

from masksearch_agent.models.answer_spans import ANSWER_OPEN, AnswerSpans
from masksearch_agent.models.sampling import RowSampler

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = ("HeldAnswer",)

_LIKELIEST = 64
_OPENING_TAIL_TOKENS = 12
"""Tokens looked back for `<answer>`; longer than it is in tokens."""
_UNFINISHED = "\ufffd"
"""What a tokenizer of bytes shows for a character of which only some bytes are written."""


class HeldAnswer:
    """Holds the answer of one reply.

    Args:
        spans: What it may be.
        end_of_turn_id: Taken where no token is allowed.
    """

    def __init__(self, spans: AnswerSpans, tokenizer: PreTrainedTokenizerBase, end_of_turn_id: int) -> None:
        self.spans = spans
        self.tokenizer = tokenizer
        self.end_of_turn_id = end_of_turn_id
        self.is_open = False
        """Whether the answer has begun, so that what is sampled is held."""
        self._from = 0
        """The token from which on the answer is decoded."""

    def choose(self, ids: Sequence[int], token: int, logits: torch.Tensor, sampler: RowSampler) -> int:
        """Return the token to take.

        Args:
            ids: The reply so far.
            token: What was sampled freely.
            logits: `(V,)` of the next token.
            sampler: Of the row; draws again where the token is not allowed.
        """
        if self._allows(ids, token):
            self._note(ids, token)
            return token
        likeliest = logits.topk(min(_LIKELIEST, logits.shape[-1])).indices.tolist()
        allowed = [other for other in likeliest if self._allows(ids, other)] or self._proposals(ids)
        chosen = _pick(allowed, logits, sampler) if allowed else self.end_of_turn_id
        self._note(ids, chosen)
        return chosen

    def _note(self, ids: Sequence[int], token: int) -> None:
        if self.is_open:
            return
        start = max(0, len(ids) - _OPENING_TAIL_TOKENS)
        if ANSWER_OPEN in self._decode([*ids[start:], token]):
            self.is_open, self._from = True, start

    def _allows(self, ids: Sequence[int], token: int) -> bool:
        start = self._from if self.is_open else max(0, len(ids) - _OPENING_TAIL_TOKENS)
        _, is_open, written = self._decode([*ids[start:], token]).partition(ANSWER_OPEN)
        if not is_open:
            return True
        if written.endswith(_UNFINISHED):
            return self._begins_character(ids, token)
        return self.spans.accepts(written)

    def _begins_character(self, ids: Sequence[int], token: int) -> bool:
        """Whether a token that leaves a character unfinished is on the way to one that may follow."""
        start = len(ids)
        while start > self._from and self._decode(ids[self._from : start]).endswith(_UNFINISHED):
            start -= 1
        pending = [*ids[start:], token]
        written = self._decode(ids[self._from : start]).partition(ANSWER_OPEN)[2]
        following = {text[:1] for text in self.spans.continuations(written)}
        follow = (self._encode(character) for character in following if not character.isascii())
        return any(len(found) > len(pending) and found[: len(pending)] == pending for found in follow)

    def _proposals(self, ids: Sequence[int]) -> list[int]:
        """Return allowed tokens that the shown texts go on with."""
        written = self._decode(ids[self._from :]).partition(ANSWER_OPEN)[2]
        pending = len(written) - len(written.rstrip(_UNFINISHED))
        texts = dict.fromkeys(self.spans.continuations(written[: len(written) - pending]))
        firsts: dict[int, None] = {}
        for text in texts:
            for piece in (text, text[:1]):
                firsts.update(dict.fromkeys(self._encode(piece)[: 1 + 3 * bool(pending)]))
        return [token for token in firsts if self._allows(ids, token)]

    def _encode(self, text: str) -> list[int]:
        return list(self.tokenizer(text, add_special_tokens=False)["input_ids"])

    def _decode(self, ids: Sequence[int]) -> str:
        return str(self.tokenizer.decode(list(ids), clean_up_tokenization_spaces=False))


def _pick(allowed: Sequence[int], logits: torch.Tensor, sampler: RowSampler) -> int:
    """Return the likeliest of some tokens, or draw one of them at the row's temperature."""
    scores = logits.float()[list(allowed)]
    temperature = sampler.sampling.temperature
    if temperature == 0:
        return allowed[int(scores.argmax())]
    reached = torch.softmax(scores / temperature, dim=-1).double().cumsum(dim=-1)
    place = int(torch.searchsorted(reached, sampler.draw() * float(reached[-1]), right=True))
    return allowed[min(place, len(allowed) - 1)]
