"""The command line, run inside the test's own process."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from masksearch_agent.cli import main


@dataclass(frozen=True)
class Ran:
    """What a command did."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        assert self.code == 0, self.err
        return json.loads(self.out)


CommandLine = Callable[..., Ran]


def make_command_line(capsys: Any, monkeypatch: pytest.MonkeyPatch) -> CommandLine:
    """Return a function that runs `masksearch` with its arguments and does not let its exit end the test."""
    monkeypatch.setenv("COLUMNS", "200")

    def run(*arguments: object) -> Ran:
        monkeypatch.setattr(sys, "argv", ["masksearch", *map(str, arguments)])
        capsys.readouterr()
        code: object = 0
        try:
            main()
        except SystemExit as ended:
            code = ended.code or 0
        written = capsys.readouterr()
        assert isinstance(code, int)
        return Ran(code, written.out, written.err)

    return run
