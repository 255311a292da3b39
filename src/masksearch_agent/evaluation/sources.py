"""Where the rows of a benchmark come from: a local file, or a dataset on the Hugging Face hub."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from masksearch_agent.corpus.tables import open_hf_dataset
from masksearch_agent.errors import CorpusError, EvaluationError

__all__ = ("HUB_PREFIX", "read_rows", "source_name")

HUB_PREFIX = "hf:"
_DEFAULT_SPLIT = "validation"
_TABLES = {".csv": ",", ".tsv": "\t"}
_MAX_LINES_BEFORE_HEADER = 10


def read_rows(source: Path | str) -> Iterator[tuple[str, Any]]:
    """Yield each row with where it stands.

    Args:
        source: A JSON list, JSON lines, a CSV or TSV table (FreshQA's has two lines of remarks before its header), or
            `hf:owner/name[@config][:split]`, a dataset of the hub, which is streamed; the split is `validation` where
            none is named.

    Raises:
        EvaluationError: The source is missing or cannot be read.
        MissingExtraError: A dataset of the hub is asked for, and `datasets` is not installed.
    """
    if str(source).startswith(HUB_PREFIX):
        return _read_hub(str(source))
    path = Path(source)
    if not path.is_file():
        raise EvaluationError(f"no benchmark file at {path}")
    if path.suffix.lower() in _TABLES:
        return _read_table(path, _TABLES[path.suffix.lower()])
    return _read_json(path)


def source_name(source: Path | str) -> str:
    """Return a short name of a source that can be part of a file name."""
    text = str(source)
    return (
        re.sub(r"[/:@]+", "-", text.removeprefix(HUB_PREFIX))
        if text.startswith(HUB_PREFIX)
        else Path(text).stem
    )


def _read_json(path: Path) -> Iterator[tuple[str, Any]]:
    with path.open(encoding="utf-8-sig") as file:
        try:
            if file.read(1) == "[":
                file.seek(0)
                for number, row in enumerate(json.load(file), start=1):
                    yield f"{path}, row {number}", row
                return
            file.seek(0)
            for number, line in enumerate(file, start=1):
                if line.strip():
                    yield f"{path}, line {number}", json.loads(line)
        except ValueError as failure:
            raise EvaluationError(f"{path}: not UTF-8 JSON or JSON lines ({failure})") from failure


def _read_table(path: Path, delimiter: str) -> Iterator[tuple[str, Any]]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        try:
            lines = csv.reader(file, delimiter=delimiter)
            header = next(
                (
                    line
                    for line in islice(lines, _MAX_LINES_BEFORE_HEADER)
                    if "question" in {cell.strip().lower() for cell in line}
                ),
                None,
            )
            if header is None:
                raise EvaluationError(
                    f"{path} has no column `question` in its first {_MAX_LINES_BEFORE_HEADER} lines; expected a table "
                    f"such as FreshQA's or Bamboogle's"
                )
            names = [name.strip() for name in header]
            for cells in lines:
                if any(cell.strip() for cell in cells):
                    yield f"{path}, line {lines.line_num}", dict(zip(names, cells, strict=False))
        except (csv.Error, UnicodeDecodeError) as failure:
            raise EvaluationError(f"{path}: not a UTF-8 table ({failure})") from failure


def _read_hub(source: str) -> Iterator[tuple[str, Any]]:
    try:
        rows = open_hf_dataset(source.removeprefix(HUB_PREFIX), _DEFAULT_SPLIT)
    except CorpusError as failure:
        raise EvaluationError(f"{failure}; or pass a local file") from failure
    return ((f"{source}, row {number}", row) for number, row in enumerate(rows, start=1))
