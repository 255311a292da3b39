"""Files that appear only when they are complete, so that a killed process leaves the old one or none."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ("replace_text", "replacing")


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a path to write to, which takes the place of `path` once the block ends without an error."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    yield partial
    os.replace(partial, path)


def replace_text(path: Path, text: str) -> None:
    """Write a text file in one step; half a surrogate pair in it becomes a question mark."""
    with replacing(path) as partial:
        partial.write_text(text, encoding="utf-8", errors="replace")
