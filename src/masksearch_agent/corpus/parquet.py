"""Rows of Parquet files. A value that Python has nothing for costs its row at most, and not the table."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

from masksearch_agent.config.corpus import CorpusSettings
from masksearch_agent.corpus.placed import Placed, given
from masksearch_agent.errors import UnreadableDocumentError, needs_extra

__all__ = ("read_parquet",)

_BATCH_ROWS = 512


def read_parquet(path: Path, settings: CorpusSettings) -> Iterator[Placed[object]]:
    """Yield the rows of a Parquet file.

    Raises:
        MissingExtraError: pyarrow is not installed.
        UnreadableDocumentError: While iterating, where the file is damaged.
    """
    with needs_extra("corpus"):
        import pyarrow
        import pyarrow.parquet
    number = 0
    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            batches = map(_rows_of_batch, file.iter_batches(batch_size=_BATCH_ROWS))
            for number, read in enumerate(chain.from_iterable(batches), start=1):
                yield f"row {number}", read
    except (pyarrow.ArrowException, OSError) as failure:
        detail = f"after row {number}: not readable as Parquet ({failure})"
        raise UnreadableDocumentError("damaged Parquet", detail) from failure


def _rows_of_batch(batch: Any) -> list[Callable[[], object]]:
    try:
        return list(map(given, batch.to_pylist()))
    except (ValueError, OverflowError):
        return [partial(_row_of_batch, batch, place) for place in range(batch.num_rows)]


def _row_of_batch(batch: Any, place: int) -> object:
    columns = zip(batch.schema.names, batch.columns, strict=True)
    return {name: _value_of(name, column[place]) for name, column in columns}


def _value_of(name: str, cell: Any) -> object:
    """Return the value of a cell; as text where it is a time of nanoseconds, or one in the year 300,000."""
    try:
        return cell.as_py()
    except UnicodeDecodeError as failure:
        raise UnreadableDocumentError("wrong encoding", f"{name} is not UTF-8 ({failure})") from failure
    except (ValueError, OverflowError):
        try:
            return cell.cast("string").as_py()
        except (ValueError, NotImplementedError) as failure:
            detail = f"{name} holds what cannot be read ({failure})"
            raise UnreadableDocumentError("malformed row", detail) from failure
