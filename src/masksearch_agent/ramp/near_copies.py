"""Which passages nearly repeat an earlier one: mirrors, revisions, overlapping cuts.

MinHash with banding (Broder 1997; Leskovec, Rajaraman and Ullman, "Mining of Massive Datasets", section 3.4)
over the same word 4-grams as the leak guard's. Nothing of a passage is kept but five 64-bit numbers, half a
gigabyte for a million passages. Two passages that share 90% of their 4-grams are taken for copies with a
probability of 0.94, at 50% of 0.02.
"""

from __future__ import annotations

import zlib

from masksearch_agent.text.words import word_shingles

__all__ = ("NearCopies",)

_BANDS = 5
_ROWS = 8


class NearCopies:
    """Remembers passages by what they say. The same texts in the same order give the same verdicts."""

    def __init__(self) -> None:
        import numpy as np

        draw = np.random.default_rng(0)
        # Odd factors permute the 64-bit numbers; each is one hash function.
        evens = draw.integers(0, 2**63, size=_BANDS * _ROWS, dtype=np.uint64) * np.uint64(2)
        self._factors = evens + np.uint64(1)
        self._offsets = draw.integers(0, 2**63, size=_BANDS * _ROWS, dtype=np.uint64)
        self._weights = draw.integers(0, 2**63, size=(_BANDS, _ROWS), dtype=np.uint64)
        self._seen: set[int] = set()

    def holds_or_adds(self, text: str) -> bool:
        """Return whether a near copy of the text is known; remember the text where none is."""
        import numpy as np

        shingles = word_shingles(text)
        if not shingles:
            return False
        hashes = np.fromiter(
            (zlib.crc32(" ".join(words).encode()) for words in shingles), np.uint64, count=len(shingles)
        )
        smallest = (hashes[:, None] * self._factors + self._offsets).min(axis=0)
        bands: list[int] = (smallest.reshape(_BANDS, _ROWS) * self._weights).sum(axis=1).tolist()
        if not self._seen.isdisjoint(bands):
            return True
        self._seen.update(bands)
        return False
