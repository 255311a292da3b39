"""Cut the text of a document into passages, at the places where a reader would."""

from __future__ import annotations

import re
from collections.abc import Iterator

__all__ = ("split_text",)

_SENTENCE_END = re.compile(r"(?<=[.!?])\s+")
_PARAGRAPH_END = re.compile(r"\n\s*\n")


def split_text(text: str, max_words: int) -> list[str]:
    """Cut a text into pieces of at most `max_words` words, each as long as fits.

    Pieces end where a paragraph ends; a paragraph that is too long is cut between sentences, and a sentence
    that is too long between words.
    """
    pieces: list[str] = []
    joined, joined_words = "", 0
    for separator, unit in _units(text, max_words):
        unit_words = len(unit.split())
        if joined and joined_words + unit_words > max_words:
            pieces.append(joined)
            joined, joined_words = "", 0
        joined = f"{joined}{separator}{unit}" if joined else unit
        joined_words += unit_words
    return [*pieces, joined] if joined else pieces


def _units(text: str, max_words: int) -> Iterator[tuple[str, str]]:
    """Yield the largest units of at most `max_words` words, each with what joins it to the one before."""
    for paragraph in filter(None, map(str.strip, _PARAGRAPH_END.split(text))):
        if len(paragraph.split()) <= max_words:
            yield "\n\n", paragraph
            continue
        separator = "\n\n"
        for sentence in _SENTENCE_END.split(paragraph):
            words = sentence.split()
            for start in range(0, len(words), max_words):
                yield separator, " ".join(words[start : start + max_words])
                separator = " "
