"""The entries of a manual: a line that names a function, a setting or an option, and what describes it below."""

from __future__ import annotations

import re
from collections.abc import Iterator

from masksearch_agent.ramp.lexicon.rule_words import DESCRIBING
from masksearch_agent.ramp.lexicon.titles import is_manual
from masksearch_agent.ramp.spans import Span
from masksearch_agent.records import Passage
from masksearch_agent.text.words import is_chinese

__all__ = ("entry_of", "find_entries", "is_of_manual", "third_person")

_ENTRY = re.compile(
    r"^(?P<name>--?[a-zA-Z][\w-]*|[A-Za-z_][\w.]*)[ \t]*"
    r"(?P<sign>\((?![\x22\x27])[^\n]*?\))?[ \t]*(?P<gives>(?:→|->|=)[^\n]*)?¶?$"
    r"|^(?:exception|class) (?P<class>[\w.]+)(?:\([^\n]*\))?¶?$"
    r"|^(?:[a-z]\w*[ *]+){1,4}(?P<prototype>\w+)\([^\n]*\);$"
    r"|^(?:-\w(?:[ =][\w\[\]-]+)?,?[ \t]+)(?P<option>--[a-z][\w-]+)(?:[ =\[][^\s]*)?$",
    re.M,
)
_CALL = re.compile(r"\b[a-z]\w+\(\)")
_FIRST_WORD = re.compile(r"\W*([A-Z][a-z]*|)")
_LEANING = frozenset({"It", "They", "This", "These", "If", "When", "Otherwise", "Changed", "New"})
"""First words of a text that goes on with what was said of an entry before it."""
_CODE = re.compile(r"--?[a-zA-Z][\w-]*|[a-z]\w*(?:[._]\w+)+|[A-Z]{3,}")
_TYPE = re.compile(r"^\((?:integer|string|boolean|enum|floating point|real|bool|int)\)$")


def find_entries(text: str) -> Iterator[Span]:
    """Yield the lines that say what the next ones describe, with what it is for a label, in order."""
    for found in _ENTRY.finditer(text):
        group = next(group for group in ("name", "option", "class", "prototype") if found[group])
        if group in ("class", "prototype"):
            yield Span(found.start(group), found.end(group), found[group], "")
            continue
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
    is_cut = first is not None and (not first[1] or first[1] in _LEANING or third_person(first[1].lower()))
    return None if is_cut else ""


def is_of_manual(passage: Passage) -> bool:
    """Whether a passage is of a manual, by its title, or because it holds a call or describes something in entries."""
    if is_chinese(passage.text):
        return False
    if is_manual(passage.title) or _CALL.search(passage.text):
        return True
    return any(entry.label for entry in find_entries(passage.text))


def third_person(verb: str) -> str:
    """Return "returns" for "return" and for "returns"; `""` for what is no verb of a description."""
    if verb not in DESCRIBING:
        is_it = verb.endswith("s") and not DESCRIBING.isdisjoint((verb[:-1], verb[:-2], f"{verb[:-3]}y"))
        return verb if is_it else ""
    if re.search(r"(?:s|x|z|ch|sh|o)$", verb):
        return f"{verb}es"
    return f"{verb[:-1]}ies" if re.search(r"[^aeiou]y$", verb) else f"{verb}s"
