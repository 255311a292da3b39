"""Rows of datasets to passages: the columns tell which dataset a row belongs to."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import fields
from typing import Any, TypeVar

from masksearch_agent.errors import CorpusError
from masksearch_agent.jsonl import load_record
from masksearch_agent.records import Passage, content_id

__all__ = ("passages_from_row",)

_Row = dict[str, Any]
_ExpectedT = TypeVar("_ExpectedT")

_RECORD_KEYS = frozenset(field.name for field in fields(Passage))


def passages_from_row(row: _Row, source: str = "") -> list[Passage]:
    """Return the passages that one row of a dataset holds.

    Args:
        row: One of our own records, `{title, text}`, FlashRAG `{id, contents}`, HotpotQA or MuSiQue.
        source: Where the row came from, for passages that do not say it themselves.

    Raises:
        CorpusError: If the row is of no known shape or a value is of the wrong type.
    """
    for key, convert in _ROW_SHAPES.items():
        if key in row:
            return [passage for passage in convert(row, source) if passage.text.strip()]
    raise CorpusError(
        f"found no passage in a row with the keys {sorted(row)}; expected one of the keys "
        f"{', '.join(_ROW_SHAPES)}"
    )


def _expect(value: object, expected: type[_ExpectedT], what: str) -> _ExpectedT:
    if not isinstance(value, expected):
        raise CorpusError(f"{what} is a {type(value).__name__}; expected a {expected.__name__}")
    return value


def _passage(row: _Row, title: str, text: str, source: str) -> Passage:
    given = row.get("id")
    if given is not None and not isinstance(given, str | int):
        raise CorpusError(f"id is a {type(given).__name__}; expected a str or an int")
    return Passage(content_id(title, text) if given is None else str(given), title, text, source=source)


def _from_text(row: _Row, source: str) -> list[Passage]:
    if row.keys() == _RECORD_KEYS:
        return [load_record(Passage, row, CorpusError)]
    title = _expect(row.get("title", ""), str, "title")
    return [_passage(row, title, _expect(row["text"], str, "text"), source)]


def _from_flashrag(row: _Row, source: str) -> list[Passage]:
    title, newline, text = _expect(row["contents"], str, "contents").partition("\n")
    if not newline:
        title, text = "", title
    return [_passage(row, title.strip().strip('"'), text.strip(), source)]


def _from_hotpotqa(row: _Row, source: str) -> list[Passage]:
    passages = []
    for entry in _expect(row["context"], list, "context"):
        if not isinstance(entry, list) or len(entry) != 2:
            raise CorpusError("an entry of context is not [title, [sentences]]")
        title = _expect(entry[0], str, "a title in context")
        sentences = [
            _expect(each, str, "a sentence").strip() for each in _expect(entry[1], list, "sentences")
        ]
        passages.append(_passage({}, title, " ".join(filter(None, sentences)), source))
    return passages


def _from_musique(row: _Row, source: str) -> list[Passage]:
    passages = []
    for paragraph in _expect(row["paragraphs"], list, "paragraphs"):
        entry: _Row = _expect(paragraph, dict, "a paragraph")
        title = _expect(entry.get("title"), str, "title of a paragraph")
        passages.append(
            _passage({}, title, _expect(entry.get("paragraph_text"), str, "paragraph_text"), source)
        )
    return passages


_ROW_SHAPES: Mapping[str, Callable[[_Row, str], list[Passage]]] = {
    "context": _from_hotpotqa,
    "paragraphs": _from_musique,
    "contents": _from_flashrag,
    "text": _from_text,
}
