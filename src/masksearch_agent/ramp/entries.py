"""The entries of a manual: a line that names a function, a setting or an option, and the sentence that describes it.

"Specifies the maximum safe depth …" under `max_stack_depth (integer)` has no subject; the question asks for it: "Which
parameter specifies the maximum safe depth …?" The parse of such a sentence is no help: its verb is taken for a name.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from masksearch_agent.ramp.glossary import general_words
from masksearch_agent.ramp.hops import content_words
from masksearch_agent.ramp.questions import POINTING
from masksearch_agent.ramp.rule_words import DESCRIBING
from masksearch_agent.ramp.soundness import is_broken
from masksearch_agent.ramp.spans import Span
from masksearch_agent.ramp.standing import in_context
from masksearch_agent.ramp.titles import heading_name, is_manual
from masksearch_agent.ramp.wording import tidy
from masksearch_agent.records import Passage
from masksearch_agent.text.matching import contains_phrase
from masksearch_agent.text.words import is_chinese

__all__ = ("described", "entry_of", "find_entries", "is_of_manual", "purpose")

_ENTRY = re.compile(
    r"^(?P<name>--?[a-zA-Z][\w-]*|[A-Za-z_][\w.]*)[ \t]*"
    r"(?P<sign>\((?![\x22\x27])[^\n]*?\))?[ \t]*(?P<gives>(?:→|->|=)[^\n]*)?¶?$"
    r"|^(?:exception|class) (?P<class>[\w.]+)(?:\([^\n]*\))?¶?$"
    r"|^(?:-\w(?:[ =][\w\[\]-]+)?,?[ \t]+)(?P<option>--[a-z][\w-]+)(?:[ =\[][^\s]*)?$",
    re.M,
)
_CALL = re.compile(r"\b[a-z]\w+\(\)")
_FIRST_WORD = re.compile(r"\W*([A-Z][a-z]*|)")
_LEANING = frozenset({"It", "They", "This", "These", "If", "When", "Otherwise", "Changed", "New"})
"""First words of a text that goes on with what was said of an entry before it."""
_CODE = re.compile(r"--?[a-zA-Z][\w-]*|[a-z]\w*(?:[._]\w+)+|[A-Z]{3,}")
_TYPE = re.compile(r"^\((?:integer|string|boolean|enum|floating point|real|bool|int)\)$")
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


def find_entries(text: str) -> Iterator[Span]:
    """Yield the lines that say what the next ones describe, with what it is for a label, in order."""
    for found in _ENTRY.finditer(text):
        if name := found["class"]:
            yield Span(found.start("class"), found.end("class"), name, "")
            continue
        group = "name" if found["name"] else "option"
        name, sign = found[group], found["sign"] or ""
        is_apart = bool(sign) and found.start("sign") > found.end("name")
        kind = "function" if sign and (not is_apart or found["gives"] or _CODE.fullmatch(name)) else ""
        if name.startswith("-"):
            kind = "option"
        elif is_apart and _TYPE.search(sign):
            kind = "parameter"
        if len(name) > 2 and (kind or (not sign and _CODE.fullmatch(name))):
            yield Span(found.start(group), found.end(group), name, kind)


def entry_of(text: str, place: int) -> str | None:
    """Return what the entry is called that describes something at this place of a text, or stands there.

    Returns:
        `""` where there is none; None where the text goes on with an entry whose name stands in the passage before, as
        its first word tells where it has entries of its own further below.
    """
    entries = list(find_entries(text))
    above = [entry.text for entry in entries if entry.start <= place]
    if above or not entries:
        return above[-1] if above else ""
    first = _FIRST_WORD.match(text)
    is_cut = first is not None and (not first[1] or first[1] in _LEANING or _third_person(first[1].lower()))
    return None if is_cut else ""


def is_of_manual(passage: Passage) -> bool:
    """Whether a passage is of a manual, by its title, or because it holds a call or describes something in entries."""
    if is_chinese(passage.text):
        return False
    if is_manual(passage.title) or _CALL.search(passage.text):
        return True
    return any(entry.label for entry in find_entries(passage.text))


def described(text: str, entry: Span, title: str) -> Span | None:
    """Return an entry with the question that the next line makes, where that says what it does; never masked.

    Args:
        text: Of the passage.
        entry: One of its entries.
        title: Of the passage.
    """
    found = _DESCRIPTION.match(text, entry.end)
    verb = _third_person(found["verb"].lower()) if found else ""
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


def _third_person(verb: str) -> str:
    """Return "returns" for "return" and for "returns"; `""` for what is no verb of a description."""
    if verb not in DESCRIBING:
        is_it = verb.endswith("s") and not DESCRIBING.isdisjoint((verb[:-1], verb[:-2], f"{verb[:-3]}y"))
        return verb if is_it else ""
    if re.search(r"(?:s|x|z|ch|sh|o)$", verb):
        return f"{verb}es"
    return f"{verb[:-1]}ies" if re.search(r"[^aeiou]y$", verb) else f"{verb}s"
