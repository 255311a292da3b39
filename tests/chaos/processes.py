"""Commands of the command line as processes that can be killed.

Each is a fork of a process that has imported everything and started no thread, so a command begins at once and a
hundred of them are affordable. It runs in a session of its own, with its output in a file, and tells through a pipe
when it begins. Once the command has returned it looks what it left behind.
"""

from __future__ import annotations

import hashlib
import json
import os
import resource
import signal
import sys
import threading
import time
import traceback
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from masksearch_agent.cli import main

__all__ = ("Ended", "Running", "run", "snapshot", "start")

_LOOK_AGAIN_S = 0.25
"""How long after its return a command is watched for writes."""


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    code: int
    """Negative: the number of the signal that ended it."""
    output: str
    seconds: float
    left: dict[str, Any] = field(default_factory=dict)
    """`threads` that went on, and files `written` after the return; empty where it was killed."""
    processes: tuple[int, ...] = ()
    """Of its session, that outlived it."""


class Running:
    """A command that has begun."""

    def __init__(self, pid: int, folder: Path) -> None:
        self.pid, self.folder = pid, folder
        self.started_s = time.monotonic()

    def signal(self, number: int) -> None:
        """Send it a signal."""
        os.kill(self.pid, number)

    def wait(self, limit_s: float = 300.0) -> Ended:
        """Wait for its end; one that takes longer is killed."""
        code = None
        while code is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                code = os.waitstatus_to_exitcode(status)
            elif time.monotonic() - self.started_s > limit_s:
                os.kill(self.pid, signal.SIGKILL)
                limit_s = float("inf")
            else:
                time.sleep(0.002)
        seconds = time.monotonic() - self.started_s
        left_file = self.folder / "left.json"
        left = json.loads(left_file.read_text()) if left_file.is_file() else {}
        seconds -= _LOOK_AGAIN_S if left else 0.0
        return Ended(code, (self.folder / "output").read_text(), seconds, left, _session(self.pid))


def start(
    arguments: Sequence[object],
    folder: Path,
    watched: Path | None = None,
    is_read: bool = True,
    more_memory: int | None = None,
) -> Running:
    """Begin a command.

    Args:
        arguments: Of `masksearch`.
        folder: For its output.
        watched: Where it writes, to see what it writes after its return.
        is_read: Whether somebody reads what it prints; else its pipe is closed.
        more_memory: Bytes that it may take beyond what it begins with.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("output", "left.json"):
        (folder / name).unlink(missing_ok=True)
    begun, say_begun = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(begun)
        if more_memory is not None:
            pages = int(Path("/proc/self/statm").read_text().split()[0])
            most = pages * resource.getpagesize() + more_memory
            resource.setrlimit(resource.RLIMIT_AS, (most, most))
        _run_command(list(map(str, arguments)), folder, watched, say_begun, is_read)
    os.close(say_begun)
    os.read(begun, 1)
    os.close(begun)
    return Running(pid, folder)


def run(arguments: Sequence[object], folder: Path, watched: Path | None = None, **limits: Any) -> Ended:
    """Run a command to its end; see `start`."""
    return start(arguments, folder, watched, **limits).wait()


def _run_command(
    arguments: list[str], folder: Path, watched: Path | None, say_begun: int, is_read: bool
) -> None:
    code = 70
    try:
        os.setsid()
        output = os.open(folder / "output", os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o644)
        if not is_read:
            nobody, closed = os.pipe()
            os.close(nobody)
        os.dup2(output if is_read else closed, 1)
        os.dup2(output, 2)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        sys.argv = ["masksearch", *arguments]
        os.write(say_begun, b".")
        code = _code_of_main()
        if watched is not None:
            before = snapshot(watched)
            time.sleep(_LOOK_AGAIN_S)
            after = snapshot(watched)
            written = sorted(
                name for name in before.keys() | after.keys() if before.get(name) != after.get(name)
            )
            threads = [
                each.name
                for each in threading.enumerate()
                if each is not threading.main_thread() and not each.daemon
            ]
            (folder / "left.json").write_text(json.dumps({"threads": threads, "written": written}))
    except BaseException:  # noqa: BLE001 (it is shown)
        traceback.print_exc()
    finally:
        for stream in (sys.stdout, sys.stderr):
            with suppress(OSError):
                stream.flush()
        os._exit(code)


def _code_of_main() -> int:
    try:
        main()
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    except BaseException:  # noqa: BLE001 (it is shown)
        traceback.print_exc()
        return 70
    return 0


def snapshot(folder: Path) -> dict[str, str]:
    """Return a hash of each file of a folder."""
    hashes = {}
    for path in sorted(folder.rglob("*")):
        try:
            if path.is_file():
                hashes[str(path.relative_to(folder))] = hashlib.sha256(path.read_bytes()).hexdigest()
        except FileNotFoundError:
            hashes[str(path)] = "gone meanwhile"
    return hashes


def _session(leader: int) -> tuple[int, ...]:
    """Return the living processes of a session."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            _, _, rest = stat.read_text().rpartition(")")
        except OSError:
            continue
        state, _, _, session, *_ = rest.split()
        if int(session) == leader and state != "Z":
            found.append(int(stat.parent.name))
    return tuple(found)
