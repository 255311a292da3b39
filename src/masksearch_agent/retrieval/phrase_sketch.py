"""Which phrases the passages of an index cannot hold: a sketch that says no for sure, and yes perhaps.

Ranking passages for a query costs milliseconds, embedding it most of them, and is in vain where no passage holds the
answer. A passage that holds a phrase (`matching.contains_phrase`) holds each of its words and each pair of neighbouring
words too. For each of these the sketch knows whether none, one or several passages hold it, and of one which it is.

Invariant: words that share a slot by chance count as held by several passages, so no phrase is denied that is there.
"""

from __future__ import annotations

import zlib
from collections.abc import Collection, Iterator, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from masksearch_agent.records import Passage
from masksearch_agent.text.matching import phrase_form

if TYPE_CHECKING:
    import numpy as np

__all__ = ("PhraseSketch",)

_SLOTS_PER_PASSAGE = 256
"""A Wikipedia paragraph brings some 40 words and pairs that no earlier one has, so few share a slot; 1 kB a passage."""
_SEVERAL = -1


class PhraseSketch:
    """Remembers the words and the pairs of words of passages, which it reads once.

    Later it reads one of them where a phrase may be in no other.
    """

    def __init__(self, passages: Sequence[Passage]) -> None:
        import numpy as np

        self._passages = passages
        self._mask = (1 << (_SLOTS_PER_PASSAGE * len(passages)).bit_length()) - 1
        # Per slot 0, the number of the only passage (from 1), or that there are several.
        self._holders = np.zeros(self._mask + 1, dtype=np.int32)
        for number, passage in enumerate(passages, start=1):
            words = phrase_form(f"{passage.title}\n{passage.text}").split()
            slots = self._slots({*words, *_pairs(words)})
            free = self._holders[slots] == 0
            self._holders[slots] = np.where(free, number, _SEVERAL)

    def may_hold(self, phrase: str, besides: str = "") -> bool:
        """Return False where no passage, that of the id `besides` left out, holds the phrase in title or text."""
        words = phrase_form(phrase).split()
        for holder in self._holders[self._slots([*_pairs(words)] or words)].tolist():
            if holder == 0 or (holder != _SEVERAL and self._passages[holder - 1].id == besides):
                return False
        return bool(words)

    def _slots(self, pieces: Collection[str]) -> np.ndarray[Any, Any]:
        import numpy as np

        hashes = (zlib.crc32(piece.encode(errors="surrogatepass")) for piece in pieces)
        return np.fromiter(hashes, np.int64, len(pieces)) & self._mask


def _pairs(words: Sequence[str]) -> Iterator[str]:
    return map(" ".join, pairwise(words))
