"""Questions for the entries of a manual, made of the sentence that describes each.

"Specifies the maximum safe depth …" under `max_stack_depth (integer)` has no subject; the question asks for it: "Which
parameter specifies the maximum safe depth …?" The parse of such a sentence is no help: its verb is taken for a name.
"""

from __future__ import annotations

import re

from masksearch_agent.ramp.hops import content_words
from masksearch_agent.ramp.lexicon.glossary import general_words
from masksearch_agent.ramp.lexicon.manual_entries import find_entries, third_person
from masksearch_agent.ramp.lexicon.rule_words import DESCRIBING
from masksearch_agent.ramp.lexicon.titles import heading_name
from masksearch_agent.ramp.questions.from_sentences import POINTING
from masksearch_agent.ramp.questions.standalone import in_context
from masksearch_agent.ramp.questions.unambiguous import is_broken
from masksearch_agent.ramp.questions.word_order import tidy
from masksearch_agent.ramp.spans import Span
from masksearch_agent.text.matching import contains_phrase

__all__ = ("described", "purpose")

_DESCRIPTION = re.compile(r"[^\n]*\n\s*(?P<verb>[A-Z][a-z]+) (?P<rest>[^\n]+)")
_END = re.compile(
    r"[.!](?:\s|$)|[;:(—]|,? (?:and|but|then) (?:exit|then|also)\b|, (?:but|and|or|which|if|i\.e)\b"
)
_INNER = re.compile(r"\b(?:can|could|may|to|that|which|who|whether|if|when|you)\b")
_ALSO = re.compile(r",? and (?P<verb>[a-z]+)\b")
_PURPOSE = re.compile(
    r"^(?P<name>\S[^\n—]{1,60}?) — (?P<verb>[a-z]+) (?P<rest>[^\n.;:(]{5,110})(?=[\n(]|$)", re.M
)
_MIN_WORDS, _MAX_WORDS = 4, 26
_MIN_CONTENT = 4
_SPECIAL = re.compile(r"__\w+__")


def described(text: str, entry: Span, title: str) -> Span | None:
    """Return an entry with the question that the next line makes, where that says what it does; never masked.

    Args:
        text: Of the passage.
        entry: One of its entries.
        title: Of the passage.
    """
    found = _DESCRIPTION.match(text, entry.end)
    verb = third_person(found["verb"].lower()) if found else ""
    if found is None or not verb or not _tells_itself(entry) or _is_one_of_two(text, entry):
        return None
    end = _END.search(found["rest"])
    if end and end[0].startswith("(") and re.search(r"\w$", found["rest"][: end.start()]):
        return None  # "up to the next len(b) bytes"
    rest = found["rest"][: end.start() if end else None].strip()
    also = next((more for more in _ALSO.finditer(rest) if more["verb"] in DESCRIBING), None)
    if also and _INNER.search(rest[: also.start()]):
        return None  # "whether you can connect and run queries": both are one clause's.
    rest = rest[: also.start() if also else None]
    question = tidy(f"{f'which {entry.label}' if entry.label else 'what'} {verb} {rest}")
    if text.count(rest) > 1 or rest.startswith(("and ", "or ")):
        return None  # So does another entry; "reads and return".
    if len(content_words(f"{verb} {rest}")) < _MIN_CONTENT:
        return None  # "Which function sends data?"
    is_whole = _MIN_WORDS <= len(rest.split()) <= _MAX_WORDS and not is_broken(question)
    if not is_whole or POINTING.search(rest) or contains_phrase(question, entry.text):
        return None
    if not (entry.label == "parameter" or contains_phrase(question, heading_name(title))):
        question = in_context(question, title, entry.text)
    return _asked(entry, question) if question else None


def _tells_itself(entry: Span) -> bool:
    """Whether an entry's name is an answer, out of its page: `save` is a method of anything, and `row_count` the
    placeholder of a synopsis as often as a name.
    """
    if not entry.label:
        return entry.text.isupper() and "." not in entry.text
    last = entry.text.rpartition(".")[2]
    if _SPECIAL.fullmatch(last):
        return False  # Another spelling of what other methods do.
    return entry.label != "function" or entry.text not in general_words()


def _is_one_of_two(text: str, entry: Span) -> bool:
    """Whether the line before names something, too, so that the description is of both."""
    line = text[: text.rfind("\n", 0, entry.start) + 1].rstrip("\n").rpartition("\n")[2]
    return next(find_entries(line), None) is not None


def purpose(text: str, title: str) -> Span | None:
    """Return the title of a manual page with the question that its first line makes: "VACUUM — garbage-collect …"."""
    found = _PURPOSE.search(text)
    if found is None or found["name"] != heading_name(title) or found["verb"] not in DESCRIBING:
        return None
    what = "Which command" if found["name"].isupper() else "What"
    question = tidy(f"{what} is used to {found['verb']} {found['rest']}")
    if contains_phrase(question, found["name"]) or is_broken(question):
        return None
    return _asked(Span(found.start("name"), found.end("name"), found["name"], ""), question)


def _asked(entry: Span, question: str) -> Span:
    label = entry.label.upper() or "ENTRY"
    return Span(entry.start, entry.end, entry.text, label, question=question, flaw="heading")
