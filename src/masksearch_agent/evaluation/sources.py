"""Questions out of a local file or a dataset on the Hugging Face hub, whatever benchmark they are of."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from masksearch_agent.benchmarks import Benchmark, PlacedRow, expect, recognise
from masksearch_agent.config.corpus import CorpusSettings
from masksearch_agent.corpus.tables import TABLE_READERS, open_hf_dataset, read_table, table_ending
from masksearch_agent.errors import ConfigError, CorpusError, EvaluationError, MaskSearchError
from masksearch_agent.plugins import BENCHMARKS
from masksearch_agent.records import SearchTask

__all__ = (
    *("HUB_PREFIX", "Questions", "open_questions", "read_good_tasks", "read_rows", "read_tasks"),
    "source_name",
)


HUB_PREFIX = "hf:"
_DEFAULT_SPLIT = "validation"


@dataclass(frozen=True, slots=True)
class Questions:
    """The questions of a source."""

    benchmark: Benchmark
    tasks: Iterator[SearchTask]
    """Read one by one; those of a public benchmark are of the test split."""


def read_tasks(source: Path | str, benchmark: str | None = None) -> Iterator[SearchTask]:
    """Stream the tasks of a source; see `open_questions`."""
    return open_questions(source, benchmark).tasks


def read_good_tasks(source: Path | str, skipped: list[str]) -> Iterator[SearchTask]:
    """Stream the tasks of the rows that can be read; what is wrong with the others is added to `skipped`.

    For training, where one row more or less changes nothing; an evaluation has to score all of them.

    Raises:
        EvaluationError: The source is missing, empty or of no known format.
    """
    rows, chosen = _open(source)
    for row in rows:
        try:
            yield from _convert(iter([row]), chosen)
        except EvaluationError as failure:
            skipped.append(str(failure))


def open_questions(source: Path | str, benchmark: str | None = None) -> Questions:
    """Open a file or a dataset of questions.

    Args:
        source: A file, or `hf:owner/name[@config][:split]` for a dataset of the hub (`read_rows`), in the format of any
            of the benchmarks (`benchmarks`) or of our own tasks.
        benchmark: Name of the format, one of `plugins.BENCHMARKS`; recognised by the first row where None.

    Raises:
        EvaluationError: At once where the source is missing, empty or of no known format; while iterating
            where a row is malformed.
        MissingExtraError: A dataset of the hub is asked for, and `datasets` is not installed.
    """
    rows, chosen = _open(source, benchmark)
    return Questions(chosen, _convert(rows, chosen))


def _open(source: Path | str, benchmark: str | None = None) -> tuple[Iterator[PlacedRow], Benchmark]:
    try:
        given: Benchmark | None = BENCHMARKS.get(benchmark) if benchmark is not None else None
    except ConfigError as failure:
        raise EvaluationError(str(failure)) from failure
    rows = read_rows(source)
    first = next(rows, None)
    if first is None:
        raise EvaluationError(f"{source} holds no questions")
    chosen = given or recognise(first[1], source)
    return chosen.prepare(chain([first], rows), source), chosen


def _convert(rows: Iterator[PlacedRow], benchmark: Benchmark) -> Iterator[SearchTask]:
    for where, row in rows:
        try:
            task = benchmark.task(expect(row, dict, "it"))
        except KeyError as failure:
            raise EvaluationError(f"{where}: the row has no {failure}") from failure
        except (AttributeError, IndexError, TypeError, ValueError, MaskSearchError) as failure:
            raise EvaluationError(f"{where}: not a row of this benchmark ({failure})") from failure
        if task is not None:
            yield task


def read_rows(source: Path | str) -> Iterator[PlacedRow]:
    """Yield each row with where it stands.

    Args:
        source: A table as `masksearch index` reads it (JSON list, JSON lines, CSV, TSV, Parquet), or
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
    if table_ending(path) not in TABLE_READERS:
        raise EvaluationError(f"cannot read {path}: expected one of {', '.join(TABLE_READERS)}")
    return _read_file(path)


def source_name(source: Path | str) -> str:
    """Return a short name of a source that can be part of a file name."""
    text = str(source)
    return (
        re.sub(r"[/:@]+", "-", text.removeprefix(HUB_PREFIX))
        if text.startswith(HUB_PREFIX)
        else Path(text).stem
    )


def _read_file(path: Path) -> Iterator[PlacedRow]:
    try:
        for where, read in read_table(path, CorpusSettings()):
            try:
                row = read()
            except CorpusError as failure:
                raise EvaluationError(f"{path}, {where}: {failure}") from failure
            yield f"{path}, {where}", row
    except (CorpusError, OSError) as failure:
        raise EvaluationError(f"{path}: {failure}") from failure


def _read_hub(source: str) -> Iterator[PlacedRow]:
    try:
        rows = open_hf_dataset(source.removeprefix(HUB_PREFIX), _DEFAULT_SPLIT)
    except CorpusError as failure:
        raise EvaluationError(f"{failure}; or pass a local file") from failure
    return ((f"{source}, row {number}", row) for number, row in enumerate(rows, start=1))
