"""Cut the text of a document into passages, at the places where a reader would."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import pairwise

from masksearch_agent.text.words import count_words, word_starts

__all__ = ("split_text",)

# Western sentences end before a space, Chinese ones at the stop or at the quotation mark that closes it.
_SENTENCE_END = re.compile(r"(?<=[.!?])\s+|(?<=[。！？])(?![”’」』）])\s*|(?<=[。！？][”’」』）])\s*")
_PARAGRAPH_END = re.compile(r"\n\s*\n")


def split_text(text: str, max_words: int) -> list[str]:
    """Cut a text into pieces of at most `max_words` words, each as long as fits.

    Pieces end where a paragraph ends; a paragraph that is too long is cut between sentences, and a sentence
    that is too long between words. A Chinese character is a word.
    """
    pieces: list[str] = []
    joined, joined_words = "", 0
    for separator, unit in _units(text, max_words):
        unit_words = count_words(unit)
        if joined and joined_words + unit_words > max_words:
            pieces.append(joined)
            joined, joined_words = "", 0
        joined = f"{joined}{separator}{unit}" if joined else unit
        joined_words += unit_words
    return [*pieces, joined] if joined else pieces


def _units(text: str, max_words: int) -> Iterator[tuple[str, str]]:
    """Yield the largest units of at most `max_words` words, each with what joins it to the one before."""
    for paragraph in filter(None, map(str.strip, _PARAGRAPH_END.split(text))):
        if count_words(paragraph) <= max_words:
            yield "\n\n", paragraph
            continue
        opening = "\n\n"
        for separator, sentence in _sentences(paragraph):
            for unit in _cut_words(sentence, max_words):
                yield opening or separator, unit
                opening = ""


def _sentences(paragraph: str) -> Iterator[tuple[str, str]]:
    """Yield the sentences, each with what stands between it and the one before: a space or nothing."""
    start, separator = 0, ""
    for end in _SENTENCE_END.finditer(paragraph):
        if end.start() > start:
            yield separator, paragraph[start : end.start()]
        start, separator = end.end(), " " if end[0] else ""
    if start < len(paragraph):
        yield separator, paragraph[start:]


def _cut_words(sentence: str, max_words: int) -> Iterator[str]:
    starts = word_starts(sentence)
    cuts = [0, *starts[max_words::max_words], len(sentence)]
    for start, stop in pairwise(cuts):
        yield " ".join(sentence[start:stop].split())
