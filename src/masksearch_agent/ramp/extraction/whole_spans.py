"""Whether a span is a whole thing, and one that the words around it do not give away.

Half a name is no answer: a surname whose full name the passage tells, one word of a title, a part of a path. And what
stands beside a mask in other words, its abbreviation or another form of it, needs no search.
"""

from __future__ import annotations

import re

from masksearch_agent.ramp.hops import content_words, sentence_around
from masksearch_agent.ramp.lexicon.glossary import general_words
from masksearch_agent.ramp.spans import Span
from masksearch_agent.text.words import words_of

__all__ = ("is_part", "is_said_beside")

_WORD_BEFORE = re.compile(r"(?P<ahead>^|[.!?:;]\s+|\n\s*)?\b(?P<word>[A-Z][\w.'’-]*)\s$")
_JOINED_BEFORE = re.compile(r"\b[A-Z][\w'’-]*\s(?:of|for|de|van|von|del|du|&)\s(?:the\s|an?\s)?$")
_JOINED_AFTER = re.compile(r"\s(?:of|for|de|van|von|del|du|&)\s(?:the\s)?[A-Z]")
_NAME_AFTER = re.compile(r"\s[A-Z][\w'’-]+")
_CODE_BEFORE = re.compile(r"[/\\_@=$.:<-]$")
_CODE_AFTER = re.compile(r"[/\\_@=>-]|\.\w|:\w|\([^\s)]*\w\)")
_PLACES = frozenset({"GPE", "LOC", "NORP", "FAC", "DATE"})
"""A town is one in the names of its clubs, too."""
_LETTERS_BESIDE = re.compile(r"\s?[(\[][^)\]]*[^\W\d_]{2}")
_REFERENCE = re.compile(r"\b(?:section|chapter|table|figure|appendix|part)\s[\w.]+,?\s[\"“‘]$", re.IGNORECASE)
_NUMBERED = re.compile(r"\b(?:Section|Chapter|Table|Figure|Example|Appendix|Part)\s$")
_STEM = 5
"""Letters in which two forms of a word agree."""


def is_part(text: str, span: Span) -> bool:
    """Return whether a span of a text is a part of a longer name, path or piece of code."""
    before, after = text[: span.start], text[span.end :]
    if _NUMBERED.search(before) or _CODE_BEFORE.search(before) or _CODE_AFTER.match(after):
        return True
    if not span.text[:1].isupper():
        return False
    if _JOINED_BEFORE.search(before) or _JOINED_AFTER.match(after) or _NAME_AFTER.match(after):
        return True
    if _ends_with_name(before):
        return True
    if " " in span.text or span.label in _PLACES or not span.text[1:].islower():
        return False
    # The full name, wherever else the passage tells it.
    return any(
        _NAME_AFTER.match(text[found.end() :]) or _ends_with_name(text[: found.start()])
        for found in re.finditer(rf"\b{re.escape(span.text)}\b", text)
    )


def is_said_beside(text: str, span: Span, title: str) -> bool:
    """Return whether a mask's sentence or the title says it in another form, or a parenthesis beside it does."""
    before, after = text[: span.start], text[span.end :]
    if _LETTERS_BESIDE.match(after) or before.endswith(("(", "[")) or _REFERENCE.search(before):
        return True
    around = {
        word.lower()[:_STEM] for part in (title, *sentence_around(before, after)) for word in words_of(part)
    }
    stems = {word.lower()[:_STEM] for word in words_of(span.text) if len(word) >= _STEM and word.isalpha()}
    return not around.isdisjoint(stems)


def _ends_with_name(before: str) -> bool:
    found = _WORD_BEFORE.search(before[-60:])
    if found is None:
        return False
    # The first word of a sentence has its capital anyway.
    is_first = found["ahead"] is not None or found.start("word") == 0
    return not (is_first and (found["word"].lower() in general_words() or not content_words(found["word"])))
