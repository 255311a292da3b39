"""Files that appear only when they are complete, so that a killed process leaves the old one or none."""

from __future__ import annotations

import os
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ("FolderHold", "append_bytes", "is_held", "replace_text", "replacing")


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


class FolderHold:
    """Keeps a folder from being removed by who asks `is_held`, as long as the object lives.

    The end of a process lets go too. Where the system or its file system has no locks, nothing is held.

    Raises:
        OSError: There is no such folder, or it is being removed.
    """

    def __init__(self, folder: Path) -> None:
        try:
            import fcntl
        except ImportError:  # Windows does not remove what is open.
            return
        handle = os.open(folder, os.O_RDONLY)
        weakref.finalize(self, os.close, handle)
        try:
            fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            raise
        except OSError:
            pass  # Some network file systems lock nothing.


def is_held(folder: Path) -> bool:
    """Tell whether a `FolderHold` keeps a folder."""
    try:
        import fcntl
    except ImportError:
        return False
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    finally:
        os.close(handle)
    return False
