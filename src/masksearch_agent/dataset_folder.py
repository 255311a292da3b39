"""A folder that `datasets` loads as it is, and that can go to the Hugging Face hub unchanged.

    folder/README.md            the dataset card: YAML front matter, then Markdown
    folder/data/train.parquet   or train.jsonl; one file per split

Invariants: a file appears under its name only when it is whole; what another wrote into the folder stays as it is.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import yaml

from masksearch_agent.errors import ConfigError, needs_extra
from masksearch_agent.files import replace_text
from masksearch_agent.jsonl import dump_record, write_jsonl

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ("ExportFormat", "markdown_table", "write_card", "write_splits")

ExportFormat = Literal["jsonl", "parquet"]

_CARD = "README.md"
_TAG = "masksearch"
"""By which a card is known for one of ours."""
_UNFINISHED = "unfinished-export"
"""Stands among the data from before they are written until the card is, so that an export may be done again."""
_ROWS_PER_GROUP = 1000
_SIZES = {"n<1K": 10**3, "1K<n<10K": 10**4, "10K<n<100K": 10**5, "100K<n<1M": 10**6, "1M<n<10M": 10**7}
"""The hub's names for sizes, each with the number of rows that it ends before."""


def write_splits(
    folder: Path,
    file_format: ExportFormat,
    splits: Mapping[str, Iterable[Any]],
    columns: Mapping[str, Any],
) -> dict[str, int]:
    """Write the data of a dataset, in place of what an earlier card of ours lists; return the rows of each split.

    Args:
        splits: The rows of each split, as records or as dictionaries; read once and not held in memory.
        columns: What each column holds, as Parquet needs it, where an empty list has a type: `str`, `bool`, a list of
            what its one entry says, or a dictionary, a structure of such.

    Raises:
        ConfigError: The folder has a card or data of somebody else.
        MissingExtraError: Parquet was asked for and pyarrow is not installed.
    """
    earlier, data = _earlier_files(folder), folder / "data"
    data.mkdir(parents=True, exist_ok=True)
    (data / _UNFINISHED).touch()
    counts, partials = {}, []
    for split, rows in splits.items():
        partial = data / f"new-{split}.{file_format}"
        is_jsonl = file_format == "jsonl"
        counts[split] = write_jsonl(partial, rows) if is_jsonl else _write_parquet(partial, rows, columns)
        partials.append(partial)
    for old in set(earlier).difference(partials):
        old.unlink(missing_ok=True)
    for partial in partials:
        os.replace(partial, data / partial.name.removeprefix("new-"))
    return counts


def write_card(
    folder: Path,
    title: str,
    file_format: ExportFormat,
    counts: Mapping[str, int],
    tags: Sequence[str],
    body: str,
) -> None:
    """Write the dataset card: how the dataset is called, how large it is, where its data lie, and the body.

    It names no licence: that of the text it quotes is known to who collected it.
    """
    rows = sum(counts.values())
    files = [{"split": split, "path": f"data/{split}.{file_format}"} for split in counts]
    head = {
        "pretty_name": title,
        "task_categories": ["text-generation"],
        "size_categories": [next((name for name, end in _SIZES.items() if rows < end), "n>10M")],
        "tags": [_TAG, *tags],
        "configs": [{"config_name": "default", "data_files": files}],
    }
    yaml_head = yaml.safe_dump(head, sort_keys=False, allow_unicode=True)
    replace_text(folder / _CARD, f"---\n{yaml_head}---\n\n{body}")
    (folder / "data" / _UNFINISHED).unlink(missing_ok=True)


def markdown_table(name: str, counted: str, rows: Iterable[tuple[Any, int]]) -> str:
    """Return a table of values and how often each occurs."""
    # A bar in a value would end its cell.
    lines = [f"| {str(value).replace('|', '¦')} | {count} |" for value, count in rows]
    return "\n".join([f"| {name} | {counted} |", "| --- | --- |", *lines])


def _earlier_files(folder: Path) -> list[Path]:
    """Return the data files that a card of ours in the folder lists, and those that an unfinished export left.

    Raises:
        ConfigError: The card is not ours, or there are data without one.
    """
    card, data = folder / _CARD, folder / "data"
    if card.exists():
        listed = _listed_files(card)
        if listed is None:
            raise ConfigError(f"{card} is not of a dataset that was exported here; choose another folder")
        if not (data / _UNFINISHED).exists():
            return [data / Path(path).name for path in listed]
    found = list(data.iterdir()) if data.exists() else []
    if found and data / _UNFINISHED not in found:
        raise ConfigError(
            f"{data} holds files, and no {_CARD} beside it says that an export wrote them; choose another folder, or "
            f"move them away"
        )
    return [file for file in found if file.name != _UNFINISHED]


def _listed_files(card: Path) -> list[str] | None:
    """Return the paths of the data files in a card's front matter; None for a card that `write_card` did not write."""
    head = card.read_text(encoding="utf-8", errors="replace").split("---\n")
    try:
        said: Any = yaml.safe_load(head[1]) if len(head) > 2 and not head[0] else None
        return [file["path"] for file in said["configs"][0]["data_files"]] if _TAG in said["tags"] else None
    except (yaml.YAMLError, TypeError, KeyError, IndexError):
        return None


def _write_parquet(path: Path, rows: Iterable[Any], columns: Mapping[str, Any]) -> int:
    with needs_extra("corpus"):
        import pyarrow as pa
        import pyarrow.parquet as pq
    schema = pa.schema([(name, _arrow_type(kind)) for name, kind in columns.items()])
    path.parent.mkdir(parents=True, exist_ok=True)
    count = 0
    stream = iter(rows)
    with pq.ParquetWriter(path, schema) as writer:
        while group := [
            row if isinstance(row, dict) else dump_record(row) for row in islice(stream, _ROWS_PER_GROUP)
        ]:
            writer.write_table(pa.Table.from_pylist(group, schema=schema))
            count += len(group)
    return count


def _arrow_type(kind: Any) -> pa.DataType:
    import pyarrow as pa

    if isinstance(kind, list):
        return pa.list_(_arrow_type(kind[0]))
    if isinstance(kind, dict):
        return pa.struct([(name, _arrow_type(part)) for name, part in kind.items()])
    return pa.bool_() if kind is bool else pa.string()
