"""Read passages from datasets and from folders of documents, one at a time.

Two kinds of input meet here. A *table* (`.jsonl`, `.json`) has rows, and the keys of a row tell which
dataset it belongs to; its rows are passages already and stay whole. A *document* (`.txt`, `.md`) is cut into
passages at paragraph and sentence ends. A new format is one more entry in `_TABLES`, `_ROW_SHAPES` or
`_DOCUMENTS`.

Invariant: the same input gives the same passages with the same ids, in the same order, each once.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any, TypeVar

from masksearch_agent.config.corpus import CorpusSettings
from masksearch_agent.corpus.splitting import split_text
from masksearch_agent.errors import CorpusError
from masksearch_agent.records import Passage, content_id, load_record

__all__ = ("passages_from_row", "read_passages")

_Row = dict[str, Any]
_ExpectedT = TypeVar("_ExpectedT")

_RECORD_KEYS = frozenset(field.name for field in fields(Passage))
_HEADING = re.compile(r"^#{1,6}[ \t]+(.+?)[ \t#]*$", re.MULTILINE)


def read_passages(path: Path, settings: CorpusSettings | None = None) -> Iterator[Passage]:
    """Stream the passages of a file or a folder.

    Args:
        path: A `.jsonl` or `.json` table of passages (our own records, `{title, text}`, FlashRAG
            `{id, contents}`) or of questions with contexts (HotpotQA, MuSiQue); a `.txt` or `.md` document;
            or a folder of documents, read recursively in the order of their paths. A `.json` list is held
            in memory while it is read; `.jsonl` is not.
        settings: How documents are cut; the defaults where None.

    Returns:
        The passages, without repetitions. Passages without text are left out.

    Raises:
        CorpusError: At once where the path is missing or of an unknown format; while iterating where a row
            is malformed, or at the end where there was no passage at all.
    """
    max_words = (settings or CorpusSettings()).max_words
    if path.is_dir():
        documents = sorted(file for file in path.rglob("*") if file.suffix.lower() in _DOCUMENTS)
        found: Iterator[Passage] = (
            passage for file in documents for passage in _read_document(file, path, max_words)
        )
    elif not path.exists():
        raise CorpusError(f"no corpus at {path}; give the path of a file or a folder that exists")
    elif path.suffix.lower() in _TABLES:
        found = _read_table(path)
    elif path.suffix.lower() in _DOCUMENTS:
        found = _read_document(path, path.parent, max_words)
    else:
        known = ", ".join([*_TABLES, *_DOCUMENTS])
        raise CorpusError(
            f"cannot read {path}: unknown format {path.suffix!r}; expected a folder or one of {known}"
        )
    return _distinct(found, path)


def passages_from_row(row: _Row, source: str = "") -> list[Passage]:
    """Return the passages that one row of a dataset holds.

    Args:
        row: A row of any of the shapes that `read_passages` knows.
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


def _distinct(passages: Iterator[Passage], path: Path) -> Iterator[Passage]:
    seen: set[str] = set()
    for passage in passages:
        key = content_id(passage.id, passage.title, passage.text)
        if key not in seen:
            seen.add(key)
            yield passage
    if not seen:
        raise CorpusError(
            f"found no passage in {path}; a folder must hold {' or '.join(_DOCUMENTS)} files with text, "
            f"a table at least one row with text"
        )


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as failure:
        raise CorpusError(
            f"{path} is not UTF-8 ({failure.reason} at byte {failure.start}); convert it first"
        ) from failure


def _read_document(path: Path, root: Path, max_words: int) -> Iterator[Passage]:
    name = path.relative_to(root).as_posix()
    title, text = _DOCUMENTS[path.suffix.lower()](_read_text(path))
    title = title or path.stem
    for position, piece in enumerate(split_text(text, max_words)):
        yield Passage(
            content_id(title, piece), title, piece, document_id=name, position=position, source=name
        )


def _plain(raw: str) -> tuple[str, str]:
    return "", raw


def _markdown(raw: str) -> tuple[str, str]:
    """Take the first heading as the title and out of the text."""
    heading = _HEADING.search(raw)
    if heading is None:
        return "", raw
    return heading[1], raw[: heading.start()] + raw[heading.end() :]


def _read_table(path: Path) -> Iterator[Passage]:
    for where, row in _TABLES[path.suffix.lower()](path):
        try:
            yield from passages_from_row(_expect(row, dict, "the row"), path.name)
        except CorpusError as failure:
            raise CorpusError(f"{path}, {where}: {failure}") from failure


def _json_lines(path: Path) -> Iterator[tuple[str, object]]:
    # Bytes are decoded by json, so that a line with a wrong encoding is reported with its number.
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            try:
                yield f"line {number}", json.loads(line)
            except ValueError as failure:
                raise CorpusError(f"{path}, line {number}: not JSON ({failure})") from failure


def _json_list(path: Path) -> Iterator[tuple[str, object]]:
    try:
        rows = json.loads(_read_text(path))
    except json.JSONDecodeError as failure:
        raise CorpusError(f"{path}, line {failure.lineno}: not JSON ({failure.msg})") from failure
    if not isinstance(rows, list):
        raise CorpusError(f"{path} holds a JSON {type(rows).__name__}; expected a list of rows")
    for number, row in enumerate(rows, start=1):
        yield f"row {number}", row


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


_TABLES: Mapping[str, Callable[[Path], Iterator[tuple[str, object]]]] = {
    ".jsonl": _json_lines,
    ".json": _json_list,
}
_ROW_SHAPES: Mapping[str, Callable[[_Row, str], list[Passage]]] = {
    "context": _from_hotpotqa,
    "paragraphs": _from_musique,
    "contents": _from_flashrag,
    "text": _from_text,
}
_DOCUMENTS: Mapping[str, Callable[[str], tuple[str, str]]] = {
    ".txt": _plain,
    ".md": _markdown,
    ".markdown": _markdown,
}
