"""What the title of a passage says: the name of a thing, a numbered heading, or the subject of a chapter."""

from __future__ import annotations

import re

from masksearch_agent.ramp.rule_words import EMPTY_HEADINGS

__all__ = ("CONTEXT", "NUMBERING", "PARENTHESES", "context_of", "heading_name", "plain_name", "sense_of")

NUMBERING = re.compile(
    r"^(?:(?:chapter|appendix|part|section)\s+)?(?:[A-Z]?\d*(?:\.\d+)*\.|[IVX]+\.|[A-Z]\.(?=\s\w{3}))\s+",
    re.I,
)
_SITE = re.compile(r"\s+[—|]\s.*")
PARENTHESES = re.compile(r"\s*\([^()]*\)")
_SENSE = re.compile(r"\(([^()]*)\)\s*$")
CONTEXT = "In the context of "
"""Leads a question that does not say by itself what it is about."""
_MAX_WORDS = 7


def plain_name(title: str) -> str:
    """Return a title without what it has in parentheses."""
    return PARENTHESES.sub("", title).strip()


def sense_of(title: str) -> str:
    """Return what a title has in parentheses at its end, which tells it from its namesakes: `1998 film`."""
    found = _SENSE.search(title)
    return "" if found is None else found[1].strip()


def heading_name(title: str) -> str:
    """Return a title without its number, what it has in parentheses, and what a web site adds behind a dash."""
    return plain_name(_SITE.sub("", NUMBERING.sub("", title)))


def context_of(title: str) -> str:
    """Return what a question is about that was made of a passage with this title; `""` where the title does not say."""
    name = re.sub(r"^Lists? of ", "", heading_name(title))
    if len(name.split()) > _MAX_WORDS or re.search(r":\s\w+,", name):
        # "Network Services: Postfix, Apache, NFS, …"
        name = name.partition(":")[0]
    words = re.findall(r"[^\W\d_]\w+", name.lower())
    is_told = any(word not in EMPTY_HEADINGS for word in words) and len(name.split()) <= _MAX_WORDS + 1
    return name if is_told and not re.search(r"[\[\]{}<>|?!]", name) else ""
