"""Cut a document into passages, at the places where a reader would, each under the headings that it stands under.

Invariant: a passage has at most `max_words` words and twenty times as many characters, whatever the text, and no
character of the text but white space is lost. Of headings without text only statements are kept. Each passage of a
table that is cut has its row of headings, as far as a quarter of it is left for the rows.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from masksearch_agent.corpus.pages import HEADINGS_END, PAGE_BREAK, Document
from masksearch_agent.errors import needs_extra
from masksearch_agent.text.cleaning import clean_text
from masksearch_agent.text.words import count_words

__all__ = ("BETWEEN_HEADINGS", "Piece", "split_document", "split_text")

_MAX_CHARS_PER_WORD = 20
"""What goes beyond it on average is no text: code without spaces, encoded bytes."""
MAX_TITLE_CHARS = 200
_LEAST_STATEMENT_WORDS = 3
"""Of a heading that says something by itself."""
_BLOCK_CHARS = 4_000
"""The splitter's time grows faster than its text, so it gets a long one in blocks."""
_BLOCK = re.compile(
    r"(?s).{1,N}\Z|.{1,N}(?=\n\n)|.{1,N}(?=\n)|.{1,N}(?=\s)|.{1,N}".replace("N", str(_BLOCK_CHARS))
)
_TABLE = re.compile(rf"(?<![^\n])([^\n{HEADINGS_END}]+){HEADINGS_END}\n((?:[^\n]++\n?)++)")
_GAP = re.compile(r"[ \t\xa0]*\n(?:[^\S\f]*\n)?|[^\S\n\f]{20,}")
BETWEEN_HEADINGS = " › "


class Piece(NamedTuple):
    """A passage of a document."""

    title: str
    """That of the document and the headings over the passage, as `Guide › Install`."""
    text: str
    headings: tuple[str, ...]
    page: int
    """Page that it starts on, from 1; 0 where the document has no pages."""
    about: Mapping[str, str] = {}
    """What the document says of itself."""


def split_document(document: Document, name: str, max_words: int) -> Iterator[Piece]:
    """Yield the passages of a document; `name` is its title where it has none.

    A heading with nothing below it is a passage too where it is a statement, or where nothing has text; `Gallery`,
    whose pictures are left out, is none.
    """
    title = _line(document.title)
    first = next((headings[0] for headings, _ in document.sections if headings), "")
    opening = title or _line(first) or _line(name)
    joined: list[tuple[str, tuple[str, ...], list[str]]] = []
    told: set[tuple[str, ...]] = set()  # Headings with something below them.
    for headings, text in document.sections:
        path = tuple(filter(None, map(_line, headings)))
        told.update(path[:depth] for depth in range(1, len(path) + bool(text.strip())))
        # A page's title mostly says its first heading too.
        below = path[1:] if path and title and path[0].casefold() in title.casefold() else path
        full = shorten_title(BETWEEN_HEADINGS.join(filter(None, (title, *below)))) or opening
        if joined and joined[-1][0] == full:
            joined[-1] = (full, joined[-1][1] or path, [*joined[-1][2], text])
        else:
            joined.append((full, path, [text]))
    has_text = any(text.strip() for _, text in document.sections)
    for full, path, texts in joined:
        text = _tidy(clean_text("\n\n".join(texts)))
        if path and not text and path not in told:
            text = path[-1] if not has_text or count_words(path[-1]) >= _LEAST_STATEMENT_WORDS else ""
        has_pages, page, counted = PAGE_BREAK in text, 1, 0
        for start, piece in _pieces_with_headings(text, max_words):
            page += text.count(PAGE_BREAK, counted, start)
            counted = start
            shown = piece.replace(PAGE_BREAK, " ").replace(HEADINGS_END, "")
            yield Piece(full, shown, path, page if has_pages else 0, document.about)


def split_text(text: str, max_words: int) -> list[str]:
    """Cut a text into pieces of at most `max_words` words, each as long as fits.

    Pieces end where a paragraph ends; a paragraph that is too long is cut between sentences, and a sentence that is
    too long between words. A Chinese character is a word.

    Raises:
        MissingExtraError: semantic-text-splitter is not installed.
    """
    return [piece for _, piece in _pieces(_tidy(text), max_words)]


def _pieces_with_headings(text: str, max_words: int) -> Iterator[tuple[int, str]]:
    """Yield the pieces of a text, those of a table that is cut with its headings, each with where it starts."""
    begin = 0
    for table in _TABLE.finditer(text) if HEADINGS_END in text else ():
        headings = f"{table[1].strip()}\n"
        left = max_words - _size(headings)
        if _size(table[0]) <= max_words or left * 4 < max_words:
            continue
        for start, piece in _pieces(text[begin : table.start()], max_words):
            yield begin + start, piece
        for start, piece in _pieces(table[2], left):
            yield table.start(2) + start, headings + piece
        begin = table.end()
    for start, piece in _pieces(text[begin:], max_words):
        yield begin + start, piece


def _pieces(text: str, max_words: int) -> Iterator[tuple[int, str]]:
    """Yield the pieces of a text, each with where it starts."""
    with needs_extra("corpus"):
        from semantic_text_splitter import TextSplitter
    splitter: Any = TextSplitter.from_callback(_size, max_words)
    for block in _BLOCK.finditer(text):
        for start, piece in splitter.chunk_indices(block[0]):
            if piece.strip():
                yield block.start() + start, piece


def _tidy(text: str) -> str:
    return _GAP.sub(_shorten_gap, text.strip(" \n\t"))


def _size(text: str) -> int:
    return max(count_words(text), -(-len(text) // _MAX_CHARS_PER_WORD))


def _shorten_gap(gap: re.Match[str]) -> str:
    return "\n\n" if gap[0].count("\n") > 1 else "\n" if "\n" in gap[0] else " "


def _line(text: str) -> str:
    return shorten_title(" ".join(clean_text(text).split()))


def shorten_title(title: str) -> str:
    """Return a title of at most `MAX_TITLE_CHARS` characters; `…` stands for what was cut off."""
    return title if len(title) <= MAX_TITLE_CHARS else f"{title[: MAX_TITLE_CHARS - 1].rstrip()}…"
