"""How a masked span can be looked up: what is sought, and a query for it.

The query is made of the title and of the words around the mask, which is what a searcher sees too. It holds
neither the answer nor a word of any other masked span.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from masksearch_agent.ramp.spans import Span
from masksearch_agent.records import MASK, Hop, Passage
from masksearch_agent.text.words import is_chinese, query_words

__all__ = ("SENTENCE_END", "content_words", "derive_hops", "kind_of", "mask_spans", "sentence_around")

SENTENCE_END = re.compile(r"[.!?][\"'”’)\]]*\s+(?=[\"'“‘(\[]?[A-Z0-9\[])|\n+|[。！？]")
_CONTEXT_WORDS = 12
"""Content words of the sentence that go into a query: more of them dilute it."""
_NEED_WORDS = 3
_NEED_CHARACTERS = 8
"""Shown on either side of a mask in Chinese text, where other text shows `_NEED_WORDS`."""
_FUNCTION_WORDS = """
    a about after also an and are as at be became been before between both but by can could did do does during
    each for from had has have he her his how i if in into is it its later may more most not of on one only or
    other over she so some such than that the their them then there these they this those through to under
    until up was we were what when where which while who whom whose will with would you
"""
_STOP_WORDS = frozenset(_FUNCTION_WORDS.split())
_KINDS = {
    "CARDINAL": "number",
    "FAC": "place",
    "GPE": "place",
    "LOC": "place",
    "MONEY": "amount of money",
    "NORP": "nationality",
    "ORDINAL": "rank",
    "ORG": "organization",
    "PERCENT": "percentage",
    "WORK_OF_ART": "work",
}
"""Named-entity labels (OntoNotes) in the words of a question; other labels are words already."""
_YEAR = re.compile(r"\d{4}")


def mask_spans(passage: Passage, spans: Sequence[Span]) -> str:
    """Return the passage's text with the spans, given in order and without overlap, masked."""
    pieces, end = [], 0
    for span in spans:
        pieces.append(passage.text[end : span.start])
        end = span.end
    return MASK.join([*pieces, passage.text[end:]])


def derive_hops(passage: Passage, spans: Sequence[Span], names_kinds: bool = False) -> tuple[Hop, ...]:
    """Return one hop per masked span, in the order of the text: its own, else one made from its context.

    With `names_kinds` a need says what kind of thing is sought.
    """
    before, *rest = mask_spans(passage, spans).split(MASK)
    hidden = {word.lower() for span in spans for word in query_words(span.text)}
    hops = []
    for number, (span, piece) in enumerate(zip(spans, rest, strict=True), start=1):
        after = MASK.join(rest[number - 1 :])
        kind = kind_of(span) if names_kinds else ""
        need = _need(number if len(spans) > 1 else None, before, after)
        hops.append(
            span.hop
            or Hop(
                need=f"the {kind} in {need}" if kind else need,
                query=_query(passage.title, before, after, hidden),
                answer=span.text,
                kind=kind,
            )
        )
        before = f"{before}{MASK}{piece}"
    return tuple(hops)


def kind_of(span: Span) -> str:
    """Return what kind of thing a span is, in the words of a question: `year`, `person`, …."""
    is_year = span.label == "DATE" and _YEAR.fullmatch(span.text) is not None
    return "year" if is_year else _KINDS.get(span.label, span.label.lower())


def _need(number: int | None, before: str, after: str) -> str:
    """Show the place of a mask; without a number, a need says nothing of masks and could be that of a question."""
    shown_before, shown_after = (text.replace(MASK, "…") for text in (before, after))
    if is_chinese(before + after):
        preceding = " ".join(shown_before.split())[-_NEED_CHARACTERS:]
        following = " ".join(shown_after.split())[:_NEED_CHARACTERS]
    else:
        preceding = " ".join(shown_before.split()[-_NEED_WORDS:])
        following = " ".join(shown_after.split()[:_NEED_WORDS])
    # Punctuation that touches the mask stays attached to the blank.
    left = " " if before[-1:].isspace() else ""
    right = " " if after[:1].isspace() else ""
    phrase = f"{preceding}{left}___{right}{following}".strip()
    return f'"{phrase}"' if number is None else f'mask {number}, in "{phrase}"'


def sentence_around(before: str, after: str) -> tuple[str, str]:
    """Return what the sentence of a mask says before and after it, of all that the passage says there."""
    starts = [match.end() for match in SENTENCE_END.finditer(before)]
    end = SENTENCE_END.search(after)
    return before[starts[-1] if starts else 0 :], after[: end.start() if end else None]


def _query(title: str, before: str, after: str, hidden: set[str]) -> str:
    left, right = (_content_words(text, title, hidden) for text in sentence_around(before, after))
    # Nearest words first, from both sides; a short side leaves its room to the other.
    half = _CONTEXT_WORDS // 2
    room_left = max(half, _CONTEXT_WORDS - len(right))
    room_right = max(half, _CONTEXT_WORDS - len(left))
    words = dict.fromkeys([*left[-room_left:], *right[:room_right]])
    return " ".join([title, *words]).strip()


def content_words(text: str) -> list[str]:
    """Return the words of a text that say what it is about, each once, in order."""
    return list(dict.fromkeys(word for word in query_words(text) if word.lower() not in _STOP_WORDS))


def _content_words(text: str, title: str, hidden: set[str]) -> list[str]:
    skipped = {word.lower() for word in query_words(title)} | hidden | _STOP_WORDS
    return [word for word in query_words(text.replace(MASK, " ")) if word.lower() not in skipped]
