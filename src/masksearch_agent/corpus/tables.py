"""Rows of tables, one at a time: JSON lines, JSON lists, CSV, Parquet and Hugging Face datasets.

The index and the evaluation read through the same readers.
"""

from __future__ import annotations

import codecs
import csv
import gzip
import io
import json
import re
import zlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from functools import partial
from itertools import chain, islice
from pathlib import Path
from typing import Any

from masksearch_agent.config.corpus import CorpusSettings
from masksearch_agent.corpus.encodings import find_encoding
from masksearch_agent.corpus.parquet import read_parquet
from masksearch_agent.corpus.placed import Placed, failing, given
from masksearch_agent.corpus.rows import PASSAGE_KEYS
from masksearch_agent.errors import CorpusError, UnreadableDocumentError, needs_extra

__all__ = ("TABLE_READERS", "open_hf_dataset", "read_hf_dataset", "read_table", "table_ending")

_SAMPLE_BYTES = 1 << 20
_SAMPLE_LINES = 100
_MAX_LINES_BEFORE_HEADER = 10
_HOLDERS = {"data", "Data", "rows", "questions", "examples"}
_COLUMNS = PASSAGE_KEYS | {"question"}
_DELIMITERS = ",\t;|"
_THOUSANDS = re.compile(r"(?<=[ (€$£¥])\d{1,3}(?:,\d{3})+(?![\d,])|(?<![\d,])\d{1,3}(?:,\d{3})+(?= )")
"""A number in a sentence, with commas between its thousands."""
_MAX_RECORD_LINES = 10_000
"""Beyond it an open quotation mark is one that nobody closed."""
_DATASET = re.compile(r"(?P<name>[^@:]+)(?:@(?P<config>[^:]+))?(?::(?P<split>.+))?")


def read_table(file: Path, settings: CorpusSettings) -> Iterator[Placed[object]]:
    """Yield the rows of a table, by the reader of its file name ending."""
    return TABLE_READERS[table_ending(file)](file, settings)


def read_hf_dataset(name: str) -> Iterator[Placed[object]]:
    """Stream the rows of a Hugging Face dataset; arguments and errors are those of `open_hf_dataset`."""
    return _numbered(open_hf_dataset(name, "train"))


def _numbered(rows: Iterable[object]) -> Iterator[Placed[object]]:
    return ((f"row {number}", given(row)) for number, row in enumerate(rows, start=1))


def open_hf_dataset(name: str, default_split: str) -> Iterator[dict[str, Any]]:
    """Stream the rows of a Hugging Face dataset, without downloading it whole.

    Args:
        name: `owner/name`, `owner/name@config` or `owner/name@config:split`, or the path of a local folder in place
            of `owner/name`: of data files, or written by `save_to_disk`.
        default_split: The split where none is named.

    Raises:
        CorpusError: If there is no such dataset or split.
        MissingExtraError: If `datasets` is not installed.
    """
    with needs_extra("datasets"):
        import datasets
    parts = _DATASET.fullmatch(name)
    if parts is None:
        raise CorpusError(f"{name!r} does not name a dataset; expected owner/name[@config][:split]")
    split = parts["split"] or default_split
    folder = Path(parts["name"])
    try:
        if (folder / "state.json").is_file() or (folder / "dataset_dict.json").is_file():
            saved = datasets.load_from_disk(str(folder))
            rows: Any = saved[split] if isinstance(saved, datasets.DatasetDict) else saved
        else:
            rows = datasets.load_dataset(parts["name"], parts["config"], split=split, streaming=True)
    except (OSError, ValueError, KeyError, RuntimeError) as failure:
        raise CorpusError(
            f"cannot open the dataset {name!r}: {failure}; name its configuration and split as "
            f"owner/name@config:split"
        ) from failure
    return map(dict, rows)


def _read_json(path: Path, settings: CorpusSettings) -> Iterator[Placed[object]]:
    """Read JSON lines or one JSON list, whichever it is, packed by gzip or not."""
    number, limit = 0, settings.max_file_bytes
    try:
        with gzip.open(path) if path.suffix.lower() == ".gz" else path.open("rb") as packed:
            file = _decoded(packed, _json_encoding(packed, settings.encoding), "\n")
            is_one_value = _is_one_value(path, file, limit)
            file.seek(0)
            if is_one_value:
                yield from _numbered(_rows_of_value(_parse_json(file.read())))
                return
            while line := file.readline(limit + 1):
                number += 1
                if len(line) > limit:
                    detail = f"longer than {limit:,} characters (corpus.max_file_bytes)"
                    yield f"line {number}", failing(UnreadableDocumentError("too large", detail))
                    while line and not line.endswith("\n"):
                        line = file.readline(limit)
                elif line.strip():
                    yield f"line {number}", partial(_parse_json, line)
    except (EOFError, gzip.BadGzipFile, zlib.error) as failure:
        detail = f"after line {number}: not readable as gzip ({failure})"
        raise UnreadableDocumentError("damaged gzip", detail) from failure


def _decoded(file: Any, encoding: str, newline: str) -> io.TextIOWrapper:
    """Return a file as text. Wrong bytes become surrogates, so that they cost their row and not all that follow."""
    errors = "surrogateescape" if encoding[:3] == "utf" else "replace"
    return io.TextIOWrapper(file, encoding, errors=errors, newline=newline)


def _is_damaged(text: str) -> bool:
    return not text.isascii() and any("\udc80" <= char <= "\udcff" for char in text)


def _json_encoding(file: Any, encoding: str) -> str:
    """Return the encoding of a JSON file: what its byte order mark says it is, else the settings, else UTF-8."""
    start = file.read(len(codecs.BOM_UTF8))
    file.seek(0)
    if start.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "utf-16"
    return "utf-8-sig" if start == codecs.BOM_UTF8 else encoding or "utf-8"


def _is_one_value(path: Path, file: io.TextIOWrapper, limit: int) -> bool:
    """Whether a file holds one JSON value and not one a line; only a list may stand in a file of lines."""
    # Of a packed file that is cut off no more can be read than is there.
    is_json = ".json" in (suffix.lower() for suffix in path.suffixes)
    size = _SAMPLE_BYTES if is_json else 64
    start = file.read(size).lstrip()
    if start.startswith("[") or not start or not is_json:
        return start.startswith("[")
    first, end, rest = start.partition("\n")
    if not end:
        first += file.readline(limit)
        rest = file.read(_SAMPLE_BYTES)
    if len(first) > limit:
        return False  # Read by lines, it costs itself.
    try:
        json.loads(first)
    except RecursionError:
        return False
    except ValueError:
        return True
    return not rest.strip()


def _parse_json(text: str) -> object:
    try:
        value: object = json.loads(text)
    except (ValueError, RecursionError) as failure:
        raise UnreadableDocumentError("not JSON", f"not JSON ({failure})") from failure
    if _is_damaged(text):
        raise UnreadableDocumentError("wrong encoding", "not UTF-8; set corpus.encoding")
    return value


def _rows_of_value(value: object) -> list[object]:
    """Return the rows of a JSON list, of the list in `{"data": [...]}`, or the one row that there is."""
    if isinstance(value, dict):
        lists = [value[key] for key in _HOLDERS & {*value} if isinstance(value[key], list)]
        value = lists[0] if len(lists) == 1 else [value]
    if not isinstance(value, list):
        detail = f"holds a JSON {type(value).__name__}; expected a list of rows"
        raise UnreadableDocumentError("not a list", detail)
    return value


def _read_csv(path: Path, settings: CorpusSettings) -> Iterator[Placed[object]]:
    csv.field_size_limit(min(settings.max_file_bytes, 2**31 - 1))
    with path.open("rb") as raw:
        sample = raw.read(_SAMPLE_BYTES)
        raw.seek(0)
        if len(sample) == _SAMPLE_BYTES:  # It may end within a character.
            sample = sample[: sample.rfind(b"\n") + 1] or sample
        encoding = settings.encoding or find_encoding(sample)
        file = _decoded(raw, encoding, "")
        opening = list(islice(file, _SAMPLE_LINES))
        if opening:
            opening[0] = opening[0].removeprefix("\ufeff")
        delimiter = settings.delimiter or ("\t" if path.suffix.lower() == ".tsv" else _delimiter_of(opening))
        first = list(islice(_records(iter(opening), delimiter, settings.quote), _MAX_LINES_BEFORE_HEADER))
        wanted = {settings.text_column} if settings.text_column else _COLUMNS
        # Lines of remarks may stand before the header, as in FreshQA's table.
        header_end, header = next(
            (record for record in first if wanted & {cell.strip() for cell in record[1]}),
            first[0] if first else (0, []),
        )
        names = [cell.strip() for cell in header]
        for name in sorted(wanted):
            if names.count(name) > 1:
                detail = (
                    f"has {names.count(name)} columns {name!r}; expected one, give the others another name"
                )
                raise UnreadableDocumentError("columns of one name", detail)
        below = chain(opening[header_end:], file)
        is_spaced = len(header) > 1 and all(cell[:1] == " " for cell in header[1:])
        for number, cells in _records(below, delimiter, settings.quote, header_end, len(names), is_spaced):
            if any(cells):
                yield f"line {number}", partial(_row_of_cells, names, cells)


def _delimiter_of(lines: list[str]) -> str:
    """Return the sign that cuts most lines into as many cells as the header, and into more than one."""
    header = lines[0] if lines else ""

    def score(delimiter: str) -> tuple[int, int]:
        rows: list[int] = []
        with suppress(csv.Error):  # A cell that is too large costs its row, not the table.
            rows.extend(len(row) for row in csv.reader(lines, delimiter=delimiter))
        return sum(count == rows[0] for count in rows) if rows and rows[0] > 1 else 0, header.count(delimiter)

    return max(_DELIMITERS, key=score)


def _records(
    lines: Iterator[str],
    delimiter: str,
    quote: str,
    number: int = 0,
    width: int = 0,
    is_spaced: bool = False,
) -> Iterator[tuple[int, list[str]]]:
    """Yield the records of CSV lines, each with the number of its last line.

    Where a quotation mark is never closed, or closed by one of another row, its line is a row of its own and the mark
    a character, so that it costs none of the rows that follow.

    Args:
        lines: The lines.
        delimiter: Between the cells.
        quote: Around cells; none where empty.
        number: Of the line before the first.
        width: Number of columns; 0 where it is not known yet.
        is_spaced: A space behind a delimiter is none of the cell's.
    """
    ahead: deque[str] = deque()
    taken: list[str] = []

    def take() -> Iterator[str]:
        while len(taken) < _MAX_RECORD_LINES:
            line = ahead.popleft() if ahead else next(lines, None)
            if line is None:
                return
            taken.append(line)
            yield line

    quoting = {"quotechar": quote or None, "quoting": csv.QUOTE_MINIMAL if quote else csv.QUOTE_NONE}
    quoting["skipinitialspace"] = is_spaced
    while True:
        taken.clear()
        try:
            cells = next(csv.reader(take(), delimiter=delimiter, strict=True, **quoting), None)  # type: ignore[arg-type]
            if cells is not None and width and _swallows_rows(taken, cells, delimiter, width):
                raise csv.Error("a quotation mark is closed by one of another row")
        except csv.Error:
            ahead.extendleft(reversed(taken[1:]))
            del taken[1:]
            try:
                cells = next(csv.reader(taken, delimiter=delimiter, quoting=csv.QUOTE_NONE), [])
            except csv.Error:
                cells = ["a cell that is too large"]
        if cells is None:
            return
        number += len(taken)
        yield number, cells


def _swallows_rows(lines: list[str], cells: list[str], delimiter: str, width: int) -> bool:
    """Whether a record of several lines is as many rows, of which the first opens a quotation mark."""
    if len(lines) < 2 or len(cells) != width:
        return len(lines) > 1
    if delimiter == ",":
        lines = [_THOUSANDS.sub("0", line) for line in lines]
    parts = [line.rstrip("\r\n").split(delimiter) for line in lines]
    # Verses in a cell may have a comma each; unlike a delimiter, it is followed by a space.
    are_rows = all(len(each) == width and not any(cell[:1] == " " for cell in each[1:]) for each in parts)
    return width > 1 and are_rows


def _row_of_cells(names: list[str], cells: list[str]) -> object:
    if len(cells) != len(names):
        raise UnreadableDocumentError("uneven row", f"has {len(cells)} cells; there are {len(names)} columns")
    if any(map(_is_damaged, cells)):
        raise UnreadableDocumentError("wrong encoding", "not UTF-8; set corpus.encoding")
    return dict(zip(names, cells, strict=True))


TABLE_READERS: Mapping[str, Callable[[Path, CorpusSettings], Iterator[Placed[object]]]] = {
    **dict.fromkeys((".jsonl", ".jsonl.gz", ".ndjson", ".json", ".json.gz"), _read_json),
    **dict.fromkeys((".csv", ".tsv"), _read_csv),
    ".parquet": read_parquet,
}
"""One reader per file name ending."""


def table_ending(file: Path) -> str:
    """Return the ending of a file name by which its reader is known: `.jsonl`, or both parts of `.jsonl.gz`."""
    name = file.name.lower()
    return next(
        (ending for ending in TABLE_READERS if ending.endswith(".gz") and name.endswith(ending)),
        file.suffix.lower(),
    )
