"""An answer with its citations, as Markdown that is read as plain text too."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from masksearch_agent.records import Citation, Passage

__all__ = ("cited_text", "numbered_text", "place_of", "uncited_text", "url_of")

_URL_KEYS = ("url", "link", "href", "source")
_MARKUP = re.compile(r"([\\\[\]])")
_BLOCK_ENDS = re.compile(r"^[^\S\n]*(?:\|[^\n]*\||```|~~~)\Z", re.MULTILINE)
_SOURCES = re.compile(r"\n(?:\n\[\d+\][^\n]*)+\Z")
_NOT_IN_LINKS = re.compile(r"[\s()<>\\\"]")


def cited_text(answer: str, citations: Sequence[Citation]) -> str:
    """Return an answer with the number of a passage behind each claim that rests on it, and the cited sentences below.

    A title is a link where the passage has an address on the web.
    """
    text = numbered_text(answer, citations)
    lines = dict.fromkeys(_line(citation) for citation in sorted(citations, key=lambda each: each.number))
    return "\n".join([text, "", *lines]) if lines else text


def numbered_text(answer: str, citations: Sequence[Citation]) -> str:
    """Return an answer with the number of a passage behind each claim that rests on it."""
    parts, position = [], 0
    ends: dict[int, list[int]] = {}
    for citation in citations:
        numbers = ends.setdefault(citation.claim_end, [])
        if citation.number not in numbers:
            numbers.append(citation.number)
    for end, numbers in sorted(ends.items()):
        said, rest = answer[position:end], answer[end:]
        # A number behind the last bar of a row, or behind a fence, would be part of the table or of the code.
        is_block = _BLOCK_ENDS.search(answer[:end]) and (not rest or rest.startswith("\n"))
        marks = "".join(f"[{number}]" for number in numbers)
        parts += [said, "\n\n" if is_block else " ", marks, " " if rest[:1].isalnum() else ""]
        position = end
    return "".join([*parts, answer[position:]])


def uncited_text(text: str, is_cited: bool = False) -> str:
    """Return an answer without the numbers and the list of sentences that `cited_text` put to it.

    Args:
        is_cited: Whether the text is known to be one of `cited_text`. Another one is left as it is, unless it ends in a
            list that quotes, all of whose numbers stand in it too: what has numbers in brackets may cite nothing.
    """
    sources = _SOURCES.search(text)
    if sources is None:
        return text
    said, numbers = text[: sources.start()], re.findall(r"^\[(\d+)\]", sources[0], re.MULTILINE)
    if not is_cited and not ("“" in sources[0] and all(f" [{number}]" in said for number in numbers)):
        return text
    return re.sub(rf"(?:\n\n| )(?:\[(?:{'|'.join(numbers)})\])+", "", said)


def url_of(passage: Passage) -> str:
    """Return the address of a passage's document on the web; empty where none is known."""
    known = [passage.source, *(passage.metadata.get(key) for key in _URL_KEYS)]
    return next((str(url) for url in known if str(url).startswith(("https://", "http://"))), "")


def place_of(passage: Passage) -> str:
    """Return where a passage comes from, for readers: its source, and the page where that is known."""
    page = passage.metadata.get("page_label", passage.metadata.get("page"))
    return ", ".join(filter(None, [passage.source, "" if page is None else f"page {page}"]))


def _line(citation: Citation) -> str:
    passage, url = citation.passage, url_of(citation.passage)
    place = place_of(passage)
    title = _MARKUP.sub(r"\\\1", _one_line(passage.title or place or url))
    named = f"[{title}]({_NOT_IN_LINKS.sub(_percent, url)})" if url else title
    if place and not url and passage.title and place != passage.title:
        named += f" ({_one_line(place)})"
    quote = f"“{_one_line(citation.quote)}”" if citation.quote else ""
    found = "" if citation.is_claimed else " (found, not cited)"
    return " ".join(filter(None, [f"[{citation.number}]", ": ".join(filter(None, [named, quote]))])) + found


def _percent(match: re.Match[str]) -> str:
    return "".join(f"%{byte:02X}" for byte in match[0].encode())


def _one_line(text: str | Iterable[str]) -> str:
    return " ".join(str(text).split())
