"""What letters stand for, where a passage tells both: "Dynamic Host Configuration Protocol (DHCP)"."""

from __future__ import annotations

import re
from collections.abc import Iterator

from masksearch_agent.ramp.lexicon.titles import NUMBERING, heading_name, plain_name
from masksearch_agent.ramp.questions.standalone import in_context
from masksearch_agent.ramp.spans import Span

__all__ = ("expansions",)

_BEHIND = re.compile(r"(?P<words>(?:[A-Za-z][\w'’-]*[ -]){2,8})\((?P<letters>[A-Z][A-Za-z]{1,6})[),;]")
_WITHIN = re.compile(r"(?<![\w.])(?P<letters>[A-Z]{2,7})\s\((?P<words>[^(),;]{5,70})\)")
_SMALL = frozenset(["of", "and", "for", "the", "in", "to", "on", "a", "an", "de"])


def expansions(text: str, title: str) -> Iterator[Span]:
    """Yield what stands for letters, with the question for it."""
    for pattern in (_BEHIND, _WITHIN):
        for found in pattern.finditer(text):
            start = found.start("words")
            whole = _spelt(found["words"], found["letters"])
            if not whole or not sum(letter.isupper() for letter in found["letters"]) > 1:
                continue
            start += found["words"].rindex(whole)
            # Nobody looks the letters of a league up on the page of a player; a chapter explains those that it uses.
            if not NUMBERING.match(title) and not re.search(rf"\b{found['letters']}\b", title):
                continue
            # The same letters stand for other things elsewhere.
            asked = f"What does {found['letters']} stand for?"
            question = asked if heading_name(title) == found["letters"] else in_context(asked, title, whole)
            if not question or plain_name(title).lower() == whole.lower():
                continue
            # A mask of it would be said beside.
            yield Span(start, start + len(whole), whole, "EXPANSION", question=question, flaw="said_beside")


def _spelt(words: str, letters: str) -> str:
    """Return the last words that begin with the letters, one for each; small words need none."""
    parts = list(re.finditer(r"[A-Za-z]\w*", words))
    wanted = [letter for letter in reversed(letters.upper()) if letter.isalpha()]
    end = parts[-1].end() if parts else 0
    if words[end:].strip(" -"):
        return ""
    for part in reversed(parts):
        word = part[0]
        if wanted and word[0].upper() == wanted[0]:
            wanted.pop(0)
            if not wanted:
                whole = words[part.start() : end]
                return whole if word not in _SMALL and not whole.islower() else ""
        elif word.lower() not in _SMALL:
            return ""
    return ""
