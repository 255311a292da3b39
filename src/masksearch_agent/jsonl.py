"""Records as JSON and as files of JSON lines."""

from __future__ import annotations

import dataclasses
import functools
import json
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from masksearch_agent.errors import MaskSearchError
from masksearch_agent.files import replacing

__all__ = ("dump_record", "load_record", "read_jsonl", "read_lines", "write_jsonl")

RecordT = TypeVar("RecordT")


_adapter: Callable[[Any], TypeAdapter[Any]] = functools.cache(TypeAdapter)


def dump_record(record: Any) -> dict[str, Any]:
    """Return a record as a JSON-compatible dictionary."""
    return dict(_adapter(type(record)).dump_python(record, mode="json"))


def load_record(record_type: type[RecordT], data: dict[str, Any], error: type[MaskSearchError]) -> RecordT:
    """Build a record from what `dump_record` returned; raise an error of the calling room where it does not fit."""
    try:
        loaded: RecordT = _adapter(record_type).validate_python(data)
    except ValidationError as failure:
        first = failure.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "the record"
        raise error(f"not a valid {record_type.__name__}: {where}: {first['msg']}") from failure
    return loaded


def write_jsonl(path: Path, records: Iterable[Any]) -> int:
    """Write records as JSON lines and return how many; the file appears only when all are written.

    Half a surrogate pair, which cannot be written, becomes a question mark.
    """
    count = 0
    with replacing(path) as partial, partial.open("w", encoding="utf-8", errors="replace") as file:
        for record in records:
            data = dump_record(record) if dataclasses.is_dataclass(record) else record
            file.write(json.dumps(data, ensure_ascii=False) + "\n")
            count += 1
    return count


def read_jsonl(path: Path, record_type: type[RecordT], error: type[MaskSearchError]) -> Iterator[RecordT]:
    """Yield the records of a JSON-lines file, one line at a time.

    A line that does not fit raises an error of the calling room, with the line's number.
    """
    for number, data in read_lines(path, error):
        try:
            record = load_record(record_type, data, error)
        except MaskSearchError as failure:
            raise error(f"{path}, line {number}: {failure}") from failure
        yield record


def read_lines(path: Path, error: type[MaskSearchError]) -> Iterator[tuple[int, Any]]:
    """Yield what the lines of a file hold, each with its number; blank ones are left out."""
    if not path.is_file():
        raise error(f"no file at {path}")
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            try:
                data = json.loads(line.decode())
            except UnicodeDecodeError as failure:
                raise error(f"{path}, line {number}: not UTF-8 ({failure.reason})") from failure
            except (json.JSONDecodeError, RecursionError) as failure:
                why = getattr(failure, "msg", failure)
                raise error(f"{path}, line {number}: not JSON ({why})") from failure
            yield number, data
