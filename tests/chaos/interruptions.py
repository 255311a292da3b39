"""Kills, signals, full disks, and two at once; each time the same command has to come to what it comes to alone."""

from __future__ import annotations

import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from commands import Command, Fault
from processes import Ended, run, start

__all__ = ("Found", "full_disks", "kills", "pairs", "scarce", "signals")

_MOST_IN_A_ROW = 10
"""Kills of one run: each start goes on where the last one was killed, until one comes to the end."""
_MOST_TRIES = 6
"""Starts per kill that is to hit a running command: some hit one that has just ended."""


@dataclass
class Found:
    """What a part came to."""

    rows: list[tuple[str, int, str]] = field(default_factory=list)
    """What was done, how often, and with what result."""
    faults: list[str] = field(default_factory=list)

    @contextmanager
    def watch(self, what: str) -> Iterator[None]:
        """Note a fault of the block."""
        try:
            yield
        except Fault as fault:
            self.faults.append(f"{what}: {fault}")

    def add(self, what: str, times: int, told: str) -> None:
        """Add a row, with its faults."""
        faults = sum(fault.startswith(what) for fault in self.faults)
        self.rows.append((what, times, told if not faults else f"{told}; {faults} FAULTS"))
        sys.stderr.write(f"{what}: {times}, {faults} faults\n")


@dataclass(frozen=True)
class _Whole:
    """What a command that nothing stops comes to."""

    result: Any
    seconds: float
    size: int
    """Of what it writes, in bytes."""


def _run_whole(command: Command, folder: Path) -> _Whole:
    out = folder / "whole" / command.name
    if out.exists():
        shutil.rmtree(out)
    out.mkdir(parents=True)
    ended = run(command.arguments(out), folder / "log", out)
    if ended.code:
        raise Fault(f"{command.name} fails by itself: {ended.output[-2000:]}")
    size = sum(path.stat().st_size for path in out.rglob("*") if path.is_file())
    return _Whole(command.read(out), ended.seconds, size)


def _fresh(folder: Path, name: str) -> Path:
    out = folder / name
    if out.exists():
        shutil.rmtree(out)
    out.mkdir(parents=True)
    return out


def _finish(command: Command, out: Path, log: Path, whole: _Whole) -> None:
    """Run a command again where it was stopped, and compare what it came to."""
    ended = run(command.arguments(out), log, out)
    if ended.code:
        raise Fault(f"the next start ended with {ended.code}: {ended.output[-1500:]}")
    if command.read(out) != whole.result:
        raise Fault("it came to something else than a run that was not stopped")


def kills(commands: Sequence[Command], folder: Path, times: int, seed: int) -> Found:
    """Kill each command so many times, at random moments, each start going on where the last one was killed."""
    found, draw = Found(), random.Random(seed)
    for command in commands:
        what, whole = f"`kill -9` of `{command.name}`", _run_whole(command, folder)
        hits, starts, rounds = 0, 0, 0
        while hits < times and starts < _MOST_TRIES * times:
            out = _fresh(folder, "killed")
            rounds += 1
            with found.watch(what):
                is_over = False
                for _ in range(draw.randint(1, _MOST_IN_A_ROW)):
                    running = start(command.arguments(out), folder / "log")
                    time.sleep(draw.uniform(0.0, 0.7 * whole.seconds))
                    running.signal(signal.SIGKILL)
                    ended = running.wait()
                    starts += 1
                    is_over = ended.code != -signal.SIGKILL
                    hits += not is_over
                    command.check(out)
                    if is_over or hits == times:
                        break
                _finish(command, out, folder / "log", whole)
        if hits < times:
            found.faults.append(f"{what}: only {hits} kills hit a running command")
        told = f"in {rounds} runs of {whole.seconds:.1f} s; each ended as one that was not killed"
        found.add(what, hits, told)
    return found


def signals(commands: Sequence[Command], folder: Path, times: int, seed: int) -> Found:
    """Send each command SIGINT and SIGTERM."""
    found, draw = Found(), random.Random(seed)
    for command in commands:
        whole = _run_whole(command, folder)
        for number, code in ((signal.SIGINT, 130), (signal.SIGTERM, 143)):
            what = f"{number.name} to `{command.name}`"
            codes: Counter[int] = Counter()
            slowest_s = 0.0
            while codes.total() - codes[0] < times and codes.total() < _MOST_TRIES * times:
                out = _fresh(folder, "signalled")
                with found.watch(what):
                    running = start(command.arguments(out), folder / "log", out)
                    time.sleep(draw.uniform(0.0, 0.7 * whole.seconds))
                    sent_s = time.monotonic()
                    running.signal(number)
                    ended = running.wait()
                    codes[ended.code] += 1
                    if ended.code != 0:
                        slowest_s = max(slowest_s, time.monotonic() - sent_s)
                        _check_stop(ended, code)
                    command.check(out)
                    _finish(command, out, folder / "log", whole)
            stopped = codes.total() - codes[0]
            found.add(
                what, stopped, f"exit code {code}, its message, nothing left; at most {slowest_s:.1f} s later"
            )
    return found


def _check_stop(ended: Ended, code: int) -> None:
    if ended.code != code:
        raise Fault(f"exit code {ended.code}, not {code}: {ended.output[-1500:]}")
    if "Run the same command again" not in ended.output or "Traceback" in ended.output:
        raise Fault(f"it says {ended.output[-1500:]!r}")
    for name, what in ended.left.items():
        if what:
            raise Fault(f"{name} after the return: {what}")
    if ended.processes:
        raise Fault(f"processes {ended.processes} go on")


def full_disks(commands: Sequence[Command], folder: Path, times: int, seed: int) -> Found:
    """Run each command on disks that are too small, then make room and run it again."""
    found, draw = Found(), random.Random(seed)
    disk = folder / "disk"
    disk.mkdir(exist_ok=True)
    if not _mount(disk, 1024):
        found.rows.append(("full disk", 0, "left out: no tmpfs can be mounted here"))
        return found
    _unmount(disk)
    for command in commands:
        what, whole = f"full disk under `{command.name}`", _run_whole(command, folder)
        full = 0
        for _ in range(times):
            _mount(disk, max(4, int(whole.size * draw.uniform(0.0, 1.0)) // 1024))
            try:
                with found.watch(what):
                    ended = run(command.arguments(disk), folder / "log", disk)
                    if ended.code:
                        full += 1
                        _check_full(ended)
                    subprocess.run(["mount", "-o", "remount,size=1g", disk], check=True)
                    command.check(disk)
                    _finish(command, disk, folder / "log", whole)
            finally:
                _unmount(disk)
        found.add(
            what, full, f"of {times} sizes up to what it needs; exit code 1 and a message, then as ever"
        )
    return found


def scarce(commands: Sequence[Command], folder: Path, times: int, seed: int) -> Found:
    """Run each command with nobody at the other end of its pipe, and with too little memory."""
    found, draw = Found(), random.Random(seed)
    for command in commands:
        whole = _run_whole(command, folder)
        what = f"closed pipe of `{command.name}`"
        with found.watch(what):
            out = _fresh(folder, "unread")
            ended = run(command.arguments(out), folder / "log", out, is_read=False)
            if ended.code != 1 or "Traceback" in ended.output or ended.left.get("written"):
                raise Fault(f"exit code {ended.code}: {ended.output[-1500:]}, {ended.left}")
            _finish(command, out, folder / "log", whole)
        found.add(what, 1, "exit code 1, nothing lost")
        what, codes = f"too little memory for `{command.name}`", Counter[int]()
        for _ in range(times):
            with found.watch(what):
                out = _fresh(folder, "starved")
                memory = int(2**20 * draw.uniform(0.0, 24.0))
                ended = run(command.arguments(out), folder / "log", out, more_memory=memory)
                codes[ended.code] += 1
                if ended.code == 1:
                    _check_full(ended)
                elif ended.code not in (0, -signal.SIGABRT, -signal.SIGSEGV):
                    raise Fault(f"exit code {ended.code}: {ended.output[-1500:]}")
                command.check(out)
                _finish(command, out, folder / "log", whole)
        dead = codes[-signal.SIGABRT] + codes[-signal.SIGSEGV]
        told = f"{codes[1]} ended with a message, {dead} by the abort of a library, {codes[0]} had enough; then as ever"
        found.add(what, times, told)
    return found


def _mount(disk: Path, kilobytes: int) -> bool:
    options = ["-t", "tmpfs", "-o", f"size={kilobytes}k", "tmpfs", str(disk)]
    return subprocess.run(["mount", *options], capture_output=True).returncode == 0


def _unmount(disk: Path) -> None:
    # Lazily: what was read from it may still be mapped.
    subprocess.run(["umount", "-l", str(disk)], check=True)


def _check_full(ended: Ended) -> None:
    if (
        ended.code != 1
        or "Traceback" in ended.output
        or "Make room and run the same command again" not in ended.output
    ):
        raise Fault(f"exit code {ended.code}: {ended.output[-1500:]}")
    if ended.left.get("written") or ended.processes:
        raise Fault(f"left behind: {ended.left}, {ended.processes}")


def pairs(commands: Sequence[Command], folder: Path, times: int, seed: int) -> Found:
    """Start each command twice at almost the same time, with one place to write to."""
    found, draw = Found(), random.Random(seed)
    for command in commands:
        what, whole = f"two `{command.name}` at once", _run_whole(command, folder)
        refused = both = 0
        for _ in range(times):
            out = _fresh(folder, "shared")
            with found.watch(what):
                one = start(command.arguments(out), folder / "log-1")
                time.sleep(draw.uniform(0.0, 0.5) * whole.seconds)
                other = start(command.arguments(out), folder / "log-2")
                ends = [one.wait(), other.wait()]
                refusals = [ended for ended in ends if ended.code == 1 and "another process" in ended.output]
                if len(refusals) == 2 or any(ended.code for ended in ends if ended not in refusals):
                    raise Fault(f"exit codes {[e.code for e in ends]}: {[e.output[-700:] for e in ends]}")
                refused, both = refused + len(refusals), both + (not refusals)
                if command.read(out) != whole.result:
                    raise Fault("they came to something else than one does")
        found.add(what, times, f"{refused} refused in words, {both} ended both; always as one alone")
    return found
