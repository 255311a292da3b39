"""What an answer is: whole, a name, a day, a place; and whether the kind that the corpus tells of it fits."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from masksearch_agent.ramp.lexicon.fact_patterns import KINDS

__all__ = (
    *("KIND", "OF_CITY", "counts", "fits_kind", "has_life", "is_city", "is_exact", "is_name", "is_place"),
    "is_whole",
)

KIND = "[kind]"
"""Stands in a question for what the corpus calls the answer."""

_DATED = re.compile(r"\b(?:1\d|20)\d\d\b|\b\d+ (?:BC|AD|BCE|CE)\b")
_ROUGHLY = re.compile(r"\b(?:early|mid|late|beginning|end|around|about|circa|before|after|until|since)\b")
"""`every four years` is no answer to `when`, and `the late 1960s` says less than whoever asks wants to know."""

OF_CITY = frozenset({"in", "near", "of", "through"})
"""Behind other prepositions a city is a club, a court or a university: `he played for Houston`."""

_CITIES = frozenset({"city", "town", "village", "municipality", "commune", "suburb", "hamlet", "capital"})

_LIFE = re.compile(r"\s?\((?:born |c\. ?|ca\. ?)?[^()]{0,30}\b\d{3,4} ?[-–—] ?[^()]{0,30}\d{3,4}\s?\)")
_MAX_LIFE = 90
"""Characters."""


def fits_kind(question: str, kind: str) -> bool:
    """Whether a question may ask for its answer by a kind, which the corpus tells of the name: a city that plays or is
    played for is a club.

    Args:
        question: With `KIND` in it.
        kind: What the corpus calls the answer.
    """
    if not is_place(kind):
        return True
    word = re.search(rf"(?:(\w+) )?which {re.escape(KIND)}(?: (\w+))?", question, re.IGNORECASE)
    if word is None or word[1] is None:
        return word is not None and word[2] in ("is", "was", "are", "were", "has", "had", "did", "does", "do")
    return not is_city(kind) or word[1].lower() in OF_CITY


def is_exact(date: str) -> bool:
    """Whether a date says at least which year."""
    return _DATED.search(date) is not None and _ROUGHLY.search(date.lower()) is None


def is_place(kind: str) -> bool:
    """Whether a kind is one of places."""
    return KINDS.get(kind) == "place" or kind in ("continent", "region")


def is_city(kind: str) -> bool:
    """Whether a kind is one of towns."""
    return kind in _CITIES


def is_name(answer: Any) -> bool:
    """Whether all words of an answer that may have a capital have one."""
    is_capital = all(token.text[:1].isupper() or token.is_stop or not token.is_alpha for token in answer)
    return is_capital and any(token.pos_ == "PROPN" for token in answer)


def has_life(answer: Any) -> bool:
    """Whether the years of a life stand behind a name."""
    after = answer.doc.text[answer.end_char : answer.end_char + _MAX_LIFE]
    return _LIFE.match(after) is not None


def is_whole(answer: Any, tokens: Sequence[Any]) -> bool:
    """Whether an answer is all that a phrase says, articles and punctuation left out."""
    answered = {token.i for token in answer}
    return all(
        token.i in answered
        or token.pos_ in ("PUNCT", "SPACE")
        or (token.lower_ in ("the", "a", "an") and token.dep_ == "det")
        for token in tokens
    )


def counts(answer: Any, noun: Any) -> bool:
    """Whether an answer is the number of what a noun names."""
    is_many = answer.text not in ("1", "one")
    return bool(is_many and answer.root.dep_ == "nummod" and answer.root.head == noun and noun.tag_ == "NNS")
