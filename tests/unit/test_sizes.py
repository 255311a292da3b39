"""No module is too long to be read at once, and no function too long to be seen at once."""

from __future__ import annotations

import ast
from pathlib import Path
from statistics import median

import masksearch_agent

ROOT = Path(masksearch_agent.__file__).parent
LINES = {path: len(path.read_text(encoding="utf-8").splitlines()) for path in ROOT.rglob("*.py")}


def test_modules_are_short() -> None:
    assert {str(path.relative_to(ROOT)): lines for path, lines in LINES.items() if lines > 350} == {}
    assert median(LINES.values()) <= 110


def test_functions_are_short() -> None:
    long = [
        f"{path.relative_to(ROOT)}: {node.name}"
        for path in LINES
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and node.end_lineno is not None
        and node.end_lineno - node.lineno >= 60
    ]
    assert long == []
