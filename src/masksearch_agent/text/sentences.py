"""Where the sentences of a text stand in it."""

from __future__ import annotations

import re

__all__ = ("sentence_spans",)

_ENDS = re.compile(
    # Behind a full stop, but not that of an initial or a title, nor before a word that goes on in lower case.
    r"""(?:(?<=[.!?])|(?<=[.!?]["'”’»)\]]))(?<!\b[A-Z]\.)(?<!\b(?:Dr|Mr|Ms|St)\.)(?<!\bMrs\.)\s+(?![a-z])"""
    # Lines may be broken anywhere; a blank one ends a sentence, and so does what begins an entry of a list.
    r"|(?<=[。！？])\s*|\s*\n\s*\n\s*|\s*\n(?=\s*(?:[-*•#|]|\d+[.)])\s)"
)


def sentence_spans(text: str) -> list[tuple[int, int]]:
    """Return the start and end of each sentence, in characters, without the space around it."""
    spans, start = [], 0
    for end in [*(match.span() for match in _ENDS.finditer(text)), (len(text), len(text))]:
        piece = text[start : end[0]]
        left = len(piece) - len(piece.lstrip())
        if piece.strip():
            spans.append((start + left, start + len(piece.rstrip())))
        start = end[1]
    return spans
