"""Runs a command and ends it, with everything it started, once nobody wants it any more.

Called as a script, `python watchdog.py COMMAND...`, with a pipe as its standard input. The kernel closes the pipe's
other end however its owner dies, a SIGKILL included; the command's process group is then ended. It uses the standard
library only, so that any interpreter runs it at once.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from contextlib import suppress

_GRACE_S = 5.0
"""How long a command has, in seconds, to end by itself once it is asked to."""


def main() -> int:
    """Run the command of the command line and return its exit code."""
    command = subprocess.Popen(sys.argv[1:], stdin=subprocess.DEVNULL, start_new_session=True)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: _signal_group(command, signal.SIGTERM))
    threading.Thread(target=_end_when_abandoned, args=(command,), daemon=True).start()
    code = command.wait()
    # What it started may outlive it.
    _signal_group(command, signal.SIGKILL)
    return code


def _end_when_abandoned(command: subprocess.Popen[bytes]) -> None:
    while os.read(sys.stdin.fileno(), 1):
        pass
    _signal_group(command, signal.SIGTERM)
    with suppress(subprocess.TimeoutExpired):
        command.wait(_GRACE_S)
    _signal_group(command, signal.SIGKILL)


def _signal_group(command: subprocess.Popen[bytes], number: signal.Signals) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(command.pid, number)


if __name__ == "__main__":
    sys.exit(main())
