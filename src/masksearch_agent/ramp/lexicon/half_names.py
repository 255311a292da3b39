"""Whole names in place of halves: a question must not ask about `Dowden` where the passage is about Amy Dowden."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from masksearch_agent.ramp.lexicon.titles import NUMBERING, heading_name, page_title

__all__ = ("whole_names",)

_PLACES = frozenset({"GPE", "LOC", "NORP", "FAC"})
"""A town is no half of what is named after it."""
_BODY = re.compile(
    r"\s(?:[A-Z][\w&-]*\s){0,2}(?:Company|Corporation|Inc|University|College|Institute|Group|Party|Band|Records|Society"
    r"|Association|League|Club|Foundation|Museum|Bridge|River|Festival)\b"
)


def whole_names(sentence: Any, title: str) -> dict[int, str] | None:
    """Return what stands in place of half names of a sentence, by the index of the token; None where the passage does
    not tell the whole of one.

    Args:
        sentence: A spaCy span.
        title: Of the passage.
    """
    name = heading_name(title)
    # The first word of a sentence gets a small letter, unless it is a name.
    names: dict[int, str] = {sentence.start: name} if sentence[0].text == name else {}
    text = sentence.doc.text
    has_people = not NUMBERING.match(title)
    for run in _runs(sentence, title):
        whole = _of_title(run, name) or _of_body(run, text)
        if not whole and has_people and len(run) == 1 and run.root.ent_type_ == "PERSON":
            whole = _of_person(run, title)
            if not whole:
                return None
        if whole and whole != run.text:
            names |= {token.i: "" for token in run} | {run.start: whole}
    return names


def _runs(sentence: Any, title: str) -> Iterator[Any]:
    """Yield the names of a sentence: words in a row that are parts of names."""
    entitled = {word for word in page_title(title).split() if word[:1].isupper() and len(word) > 3}
    start = sentence.start
    while start < sentence.end:
        end = start
        while end < sentence.end and (
            sentence.doc[end].pos_ == "PROPN" or sentence.doc[end].text in entitled
        ):
            end += 1
        if end > start:
            yield sentence.doc[start:end]
        start = end + 1


def _of_title(run: Any, name: str) -> str:
    """Return the title where a name is the beginning or the end of it: `The Parliament`, `Dowden`."""
    words, whole = run.text.split(), name.split()
    is_shorter = len(words) < len(whole) and all(word[:1].isupper() or len(word) < 4 for word in whole)
    if not is_shorter or run.root.ent_type_ in _PLACES:
        return ""
    after = run.doc[run.end].lower_ if run.end < len(run.doc) else ""
    if after in ("of", "for", "de", "-"):
        return ""
    if whole[-len(words) :] == words and all(word[:1].isupper() for word in whole) and len(whole) < 4:
        return name
    is_of = whole[: len(words)] == words and whole[len(words)] == "of"
    before = run.doc[run.start - 1].lower_ if run.start else ""
    return name if is_of and before == "the" and len(run.text) > 3 else ""


def _of_body(run: Any, text: str) -> str:
    """Return what a company or a club is called where the passage calls it so: `High Falls Brewing Company`."""
    found = {found[0] for found in re.finditer(rf"(?<!\w\s){re.escape(run.text)}{_BODY.pattern}", text)}
    return found.pop() if len(found) == 1 and len(run) > 1 else ""


def _of_person(run: Any, title: str) -> str:
    """Return the full name that the passage, or its title, tells of a person."""
    if run.text == heading_name(title):
        return str(run.text)
    full = {
        entity.text
        for entity in run.doc.ents
        if entity.label_ == "PERSON"
        and len(entity) > 1
        and entity.text.split()[-1] == run.text
        and "/" not in entity.text  # `Barry Allen / The Flash` is two names.
    }
    return str(full.pop()) if len(full) == 1 else ""
