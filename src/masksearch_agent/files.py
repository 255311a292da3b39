"""Files that appear only when they are complete, so that a killed process leaves the old one or none.

And folders that one process works in at a time.
"""

from __future__ import annotations

import os
import threading
import time
import weakref
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from masksearch_agent.errors import ConfigError

__all__ = (
    *("FolderHold", "append_bytes", "holding", "holding_once_free", "is_held", "open_locked", "replace_text"),
    "replacing",
)

_POLL_S = 0.2

_lock = threading.Lock()
_held: dict[Path, tuple[int | None, int]] = {}
"""What this process holds: the locked file's descriptor, and how many blocks are in it."""


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a path to write to, which takes the place of `path` once the block ends; after an error it is deleted."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    try:
        yield partial
        os.replace(partial, path)
    except BaseException:
        if partial.is_file():
            partial.unlink()
        raise


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


@contextmanager
def holding(path: Path, is_folder: bool = False) -> Iterator[None]:
    """Keep other processes from writing to a folder, or to a file, until the block ends or this process does.

    Blocks of one process share what it holds. A folder is created; a file has a `.lock` beside it meanwhile.

    Raises:
        ConfigError: Another process holds it.
    """
    target = path if is_folder else path.with_name(path.name + ".lock")
    key = target.resolve()
    with _lock:
        handle, users = _held[key] if key in _held else (_lock_file(target, path), 0)
        _held[key] = handle, users + 1
    try:
        yield
    finally:
        with _lock:
            handle, users = _held.pop(key)
            if users > 1:
                _held[key] = handle, users - 1
            elif handle is not None:
                if target != path:
                    target.unlink(missing_ok=True)
                os.close(handle)


@contextmanager
def holding_once_free(path: Path) -> Iterator[None]:
    """Do what `holding` does to a file, once no other process holds it."""
    with ExitStack() as held:
        while True:
            try:
                held.enter_context(holding(path))
                break
            except ConfigError:
                time.sleep(_POLL_S)
        yield


def _lock_file(target: Path, path: Path) -> int | None:
    """Lock a folder or file, which is created; return its descriptor."""
    (target if target == path else target.parent).mkdir(parents=True, exist_ok=True)
    try:
        if target == path:
            return open_locked(target)
        while True:
            handle = open_locked(target, os.O_RDWR | os.O_CREAT)
            if handle is None or _is_at(target, handle):
                return handle
            os.close(handle)  # Its holder let it go, and deleted it, after it was opened here.
    except BlockingIOError as failure:
        raise ConfigError(
            f"another process is writing to {path}; wait for it to end, or choose another path"
        ) from failure


def _is_at(path: Path, handle: int) -> bool:
    with suppress(FileNotFoundError):
        return os.path.samestat(os.fstat(handle), path.stat())
    return False


def replace_text(path: Path, text: str) -> None:
    """Write a text file in one step; half a surrogate pair in it becomes a question mark."""
    with replacing(path) as partial:
        partial.write_text(text, encoding="utf-8", errors="replace")


def open_locked(path: Path, flags: int = os.O_RDONLY, is_shared: bool = False) -> int | None:
    """Open a folder or file and lock it until it is closed, for its holder alone or for all who share it.

    Returns:
        The descriptor; None where the system or its file system has no locks.

    Raises:
        BlockingIOError: Another has locked it; another holder in this process is one, too.
    """
    try:
        import fcntl
    except ImportError:  # Windows.
        return None
    handle = os.open(path, flags, 0o644)
    try:
        fcntl.flock(handle, (fcntl.LOCK_SH if is_shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except OSError as failure:
        os.close(handle)
        if isinstance(failure, BlockingIOError):
            raise
        return None  # Some network file systems lock nothing.
    return handle


class FolderHold:
    """Keeps a folder from being removed by who asks `is_held`, as long as the object lives.

    The end of a process lets go too. Where the system or its file system has no locks, nothing is held.

    Raises:
        OSError: There is no such folder, or it is being removed.
    """

    def __init__(self, folder: Path) -> None:
        handle = open_locked(folder, is_shared=True)
        if handle is not None:
            weakref.finalize(self, os.close, handle)


def is_held(folder: Path) -> bool:
    """Tell whether a `FolderHold` keeps a folder."""
    try:
        handle = open_locked(folder)
    except BlockingIOError:
        return True
    if handle is not None:
        os.close(handle)
    return False
