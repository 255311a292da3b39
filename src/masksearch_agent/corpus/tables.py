"""Rows of tables, one at a time: JSON lines, JSON lists, CSV, Parquet and Hugging Face datasets.

A reader yields where each row stands (`line 7`) and a function that returns the row or raises
`UnreadableDocumentError`; so a bad row costs itself and not the rest of the table.
"""

from __future__ import annotations

import csv
import gzip
import json
import re
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

from masksearch_agent.errors import CorpusError, UnreadableDocumentError, needs_extra

__all__ = ("TABLE_READERS", "Row", "open_hf_dataset", "read_hf_dataset", "table_ending")

Row = tuple[str, Callable[[], object]]
"""Where a row stands, and a function that returns it."""

_CSV_FIELD_LIMIT = 2**31 - 1
"""Characters; Python's default of 131,072 is less than a long article."""
_PARQUET_BATCH_ROWS = 512
_DATASET = re.compile(r"(?P<name>[^@:]+)(?:@(?P<config>[^:]+))?(?::(?P<split>.+))?")


def read_hf_dataset(name: str) -> Iterator[Row]:
    """Stream the rows of a Hugging Face dataset; arguments and errors are those of `open_hf_dataset`."""
    return _numbered(open_hf_dataset(name, "train"))


def _numbered(rows: Iterable[object]) -> Iterator[Row]:
    return ((f"row {number}", partial(_same, row)) for number, row in enumerate(rows, start=1))


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


def _read_json_lines(path: Path) -> Iterator[Row]:
    # Bytes are decoded by json, so that a line with a wrong encoding is reported with its number.
    number = 0
    try:
        with gzip.open(path) if path.suffix.lower() == ".gz" else path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                if line.strip():
                    yield f"line {number}", partial(_parse_json, line)
    except (EOFError, gzip.BadGzipFile, zlib.error) as failure:
        detail = f"after line {number}: not readable as gzip ({failure})"
        raise UnreadableDocumentError("damaged gzip", detail) from failure


def _parse_json(line: bytes) -> object:
    try:
        return json.loads(line)
    except (ValueError, RecursionError) as failure:
        raise UnreadableDocumentError("not JSON", f"not JSON ({failure})") from failure


def _read_json_list(path: Path) -> Iterator[Row]:
    rows = _parse_json(path.read_bytes())
    if not isinstance(rows, list):
        detail = f"holds a JSON {type(rows).__name__}; expected a list of rows"
        raise UnreadableDocumentError("not a list", detail)
    yield from _numbered(rows)


def _read_csv(path: Path) -> Iterator[Row]:
    csv.field_size_limit(_CSV_FIELD_LIMIT)
    # Wrong bytes become surrogates, so that they cost their row and not the rest of the file.
    with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
        rows = csv.DictReader(file, delimiter="\t" if path.suffix.lower() == ".tsv" else ",")
        try:
            for row in rows:
                yield f"line {rows.line_num}", partial(_checked_csv_row, row)
        except csv.Error as failure:
            detail = f"line {rows.line_num}: not CSV ({failure})"
            raise UnreadableDocumentError("not CSV", detail) from failure


def _checked_csv_row(row: dict[Any, Any]) -> object:
    if None in row or None in row.values():
        raise UnreadableDocumentError("uneven row", "has more or fewer cells than there are columns")
    if any("\udc80" <= char <= "\udcff" for cell in row.values() for char in cell):
        raise UnreadableDocumentError("wrong encoding", "not UTF-8")
    return row


def _read_parquet(path: Path) -> Iterator[Row]:
    with needs_extra("corpus"):
        import pyarrow
        import pyarrow.parquet
    number = 0
    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            batches = (batch.to_pylist() for batch in file.iter_batches(batch_size=_PARQUET_BATCH_ROWS))
            for number, row in enumerate(chain.from_iterable(batches), start=1):
                yield f"row {number}", partial(_same, row)
    except (pyarrow.ArrowException, OSError) as failure:
        detail = f"after row {number}: not readable as Parquet ({failure})"
        raise UnreadableDocumentError("damaged Parquet", detail) from failure


def _same(row: object) -> object:
    return row


TABLE_READERS: Mapping[str, Callable[[Path], Iterator[Row]]] = {
    ".jsonl": _read_json_lines,
    ".jsonl.gz": _read_json_lines,
    ".json": _read_json_list,
    ".csv": _read_csv,
    ".tsv": _read_csv,
    ".parquet": _read_parquet,
}
"""One reader per file name ending."""


def table_ending(file: Path) -> str:
    """Return the ending of a file name by which its reader is known: `.jsonl`, or both parts of `.jsonl.gz`."""
    name = file.name.lower()
    return next((f"{inner}.gz" for inner in (".jsonl",) if name.endswith(f"{inner}.gz")), file.suffix.lower())
