"""Rows of datasets to passages: our own records, `{title, text}`, FlashRAG's `{id, contents}`, and any benchmark's."""

from __future__ import annotations

from dataclasses import fields, replace

from masksearch_agent.benchmarks import Row, expect, passages_of
from masksearch_agent.corpus.splitting import MAX_TITLE_CHARS
from masksearch_agent.errors import CorpusError
from masksearch_agent.jsonl import load_record
from masksearch_agent.records import Passage, content_id
from masksearch_agent.text.cleaning import clean_text
from masksearch_agent.text.values import as_text

__all__ = ("PASSAGE_KEYS", "cell_text", "passages_from_row", "split_contents")

PASSAGE_KEYS = frozenset({"contents", "text", "context", "paragraphs", "passage"})
"""A row with passages has one of them."""

_RECORD_KEYS = frozenset(field.name for field in fields(Passage)) - {"metadata"}


def passages_from_row(row: Row, source: str = "") -> list[Passage]:
    """Return the passages that one row of a dataset holds.

    Args:
        row: A passage, or a question of a benchmark that ships its passages (`benchmarks`).
        source: Where the row came from, for passages that do not say it themselves.

    Raises:
        CorpusError: If the row is of no known shape or a value is of the wrong type.
    """
    shipped = passages_of(row)
    if shipped is not None:
        found = [Passage(content_id(title, text), title, text, source=source) for title, text in shipped]
    elif "contents" in row or "text" in row:
        found = [_passage(row, source)]
    else:
        raise CorpusError(
            f"found no passage in a row with the keys {sorted(map(str, row))}; expected one of the keys "
            f"contents, text, or a benchmark's context, paragraphs, passage; corpus.text_column names another one"
        )
    return [passage for passage in found if passage.text.strip()]


def _passage(row: Row, source: str) -> Passage:
    if row.keys() - {"metadata"} == _RECORD_KEYS:
        stored = load_record(Passage, row, CorpusError)
        title, text = clean_text(stored.title), clean_text(stored.text)
        return replace(stored, id=stored.id or content_id(title, text), title=title, text=text)
    if "contents" in row:
        contents = clean_text(_text_of(row["contents"], "contents"))
        title, text = split_contents(contents)
        if len(title) > MAX_TITLE_CHARS:
            text = contents.strip()  # The title will be cut off, and nothing shall be lost.
    else:
        title, text = cell_text(row, "title"), clean_text(_text_of(row["text"] or "", "text"))
    return Passage(cell_text(row, "id") or content_id(title, text), title, text, source=source)


def _text_of(value: object, name: str) -> str:
    # Many a writer of Parquet files doesn't say that bytes are text.
    return expect(value.decode(errors="replace") if isinstance(value, bytes) else value, str, name)


def split_contents(contents: str) -> tuple[str, str]:
    """Return title and text of what FlashRAG and Search-R1 write as one: the title in quotes, on a line of its own."""
    first, newline, rest = contents.lstrip().partition("\n")
    title, text = first.strip(), rest.strip()
    return (title.strip('"'), text) if text or (newline and title.startswith('"')) else ("", title)


def cell_text(row: Row, column: str) -> str:
    """Return a cell as text; empty for one that is missing or null.

    Raises:
        CorpusError: It holds a list or a dictionary.
    """
    try:
        return as_text(row.get(column))
    except CorpusError as failure:
        raise CorpusError(f"{column} {failure}") from failure
