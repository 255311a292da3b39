"""Files that appear only when they are complete, so that a killed process leaves the old one or none."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ("append_bytes", "replace_text", "replacing")


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a path to write to, which takes the place of `path` once the block ends; after an error it is deleted."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    try:
        yield partial
    except BaseException:
        if partial.is_file():
            partial.unlink()
        raise
    os.replace(partial, path)


def append_bytes(path: Path, data: bytes) -> None:
    """Add to a file, on disk when this returns; on a full disk the file is left as it was."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab", buffering=0) as file:
        size, left = file.seek(0, os.SEEK_END), memoryview(data)
        try:
            while left:
                left = left[file.write(left) :]
            os.fsync(file.fileno())
        except OSError:
            file.truncate(size)
            raise


def replace_text(path: Path, text: str) -> None:
    """Write a text file in one step; half a surrogate pair in it becomes a question mark."""
    with replacing(path) as partial:
        partial.write_text(text, encoding="utf-8", errors="replace")
