"""What the title of a passage says: the name of a thing, a numbered heading, or the subject of a chapter."""

from __future__ import annotations

import re

from masksearch_agent.corpus.splitting import BETWEEN_HEADINGS
from masksearch_agent.ramp.lexicon.rule_words import EMPTY_HEADINGS

__all__ = (
    *(
        "CONTEXT",
        "NUMBERING",
        "PARENTHESES",
        "context_of",
        "heading_name",
        "is_code_name",
        "is_manual",
        "page_title",
    ),
    *("plain_name", "sense_of"),
)

NUMBERING = re.compile(
    r"^(?:(?:chapter|appendix|part|section)\s+)?(?:(?:[A-Z]?\d+|[A-Z](?=\.\d))(?:\.\d+)*\.|[IVX]+\.|[A-Z]\.(?=\s\w{3}))\s+",
    re.I,
)
_SITE = re.compile(r"\s+[—|]\s.*")
PARENTHESES = re.compile(r"\s*\([^()]*\)")
_SENSE = re.compile(r"\(([^()]*)\)\s*$")
CONTEXT = "In the context of "
"""Leads a question that does not say by itself what it is about."""
_MAX_WORDS = 7
_CODE = re.compile(r"[a-z_][\w.-]*|[A-Z_]{2,}(?: [A-Z_]+)*|\S*[_.]\S*")
"""What manual pages are called by: `pg_dump`, `CREATE TABLE`."""


def page_title(title: str) -> str:
    """Return the title of a passage's document, without the headings that the passage stands under."""
    return title.partition(BETWEEN_HEADINGS)[0].strip()


def is_code_name(name: str) -> bool:
    """Whether a title without its number is a word of a machine's language."""
    return _CODE.fullmatch(name) is not None


def is_manual(title: str) -> bool:
    """Whether a title is that of a chapter or of a manual page, so that its text tells what is and not what was."""
    return bool(NUMBERING.match(title)) or is_code_name(heading_name(title))


def plain_name(title: str) -> str:
    """Return the title of a document without what it has in parentheses."""
    return PARENTHESES.sub("", page_title(title)).strip()


def sense_of(title: str) -> str:
    """Return what a title has in parentheses at its end, which tells it from its namesakes: `1998 film`."""
    found = _SENSE.search(page_title(title))
    return "" if found is None else found[1].strip()


def heading_name(title: str) -> str:
    """Return a title without its number, what it has in parentheses, and what a web site adds behind a dash."""
    return plain_name(_SITE.sub("", NUMBERING.sub("", page_title(title))))


def context_of(title: str) -> str:
    """Return what a question is about that was made of a passage with this title; `""` where the title does not say."""
    name = re.sub(r"^Lists? of ", "", heading_name(title))
    if len(name.split()) > _MAX_WORDS or re.search(r":\s\w+,", name):
        # "Network Services: Postfix, Apache, NFS, …"
        name = name.partition(":")[0]
    words = re.findall(r"[^\W\d_]\w+", name.lower())
    is_told = any(word not in EMPTY_HEADINGS for word in words) and len(name.split()) <= _MAX_WORDS + 1
    return name if is_told and not re.search(r"[\[\]{}<>|?!]", name) else ""
