"""The package's floor plan: who may import whom, and what may be imported when."""

from __future__ import annotations

import ast
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import masksearch_agent

PACKAGE = "masksearch_agent"
ROOT = Path(masksearch_agent.__file__).parent
ROWS = (
    (
        "records",
        "record_base",
        "turns",
        "cited_text",
        "errors",
        "failures",
        "files",
        "jsonl",
        "plugins",
        "dataset_folder",
        "concurrency",
        "environment",
    ),
    *(
        (room,)
        for room in (
            *(
                "text",
                "config",
                "calls",
                "benchmarks",
                "corpus",
                "retrieval",
                "ramp",
                "traces",
                "models",
                "agent",
            ),
            *("judging", "generator", "rewards", "trainers", "serving", "evaluation", "reports"),
            *("stages", "runs", "cluster", "lab", "cli", "__main__", "pytest_plugin"),
        )
    ),
)
RANKS = {room: rank for rank, row in enumerate(ROWS) for room in row}

RAMP = ("spans", "hops", "lexicon", "questions", "extraction", "two_passages")
"""The order within `ramp/`; its other modules come last and may import all of them."""

HEAVY = {
    *("accelerate", "chromadb", "datasets", "gguf", "matplotlib", "onnxruntime", "peft", "tantivy"),
    *("docutils", "fastwarc", "ftfy", "gliner", "mammoth", "mwparserfromhell", "pptx", "pyarrow", "pypdf"),
    *("resiliparse", "semantic_text_splitter"),
    *("ray", "safetensors", "sentence_transformers", "spacy", "torch", "transformers", "trl", "vllm"),
}
MAY_IMPORT_HEAVY = (
    *("models/batch", "models/engine", "models/held_answers", "models/prefixes", "models/sampling"),
    *("models/slots", "trainers/", "lab/muon"),
)
"""Modules that nothing loads unless someone trains or runs local weights; their names begin so."""

MODULES = sorted(path for path in ROOT.rglob("*.py") if path != ROOT / "__init__.py")


def room_of(path: Path) -> str:
    return path.relative_to(ROOT).with_suffix("").parts[0]


def imported_modules(tree: ast.AST, path: Path) -> Iterator[str]:
    """Yield the dotted name of every import in the tree, lazy and type-only ones included."""
    package = [PACKAGE, *path.relative_to(ROOT).parent.parts]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(package[: len(package) - node.level + 1]) if node.level else ""
            module = ".".join(part for part in (base, node.module) if part)
            yield from (f"{module}.{alias.name}" for alias in node.names)


def imported_rooms(tree: ast.AST, path: Path) -> set[str]:
    names = [name.split(".") for name in imported_modules(tree, path)]
    rooms = {parts[1] for parts in names if parts[0] == PACKAGE and len(parts) > 1}
    homes = {name: home.split(".")[1] for name, home in masksearch_agent._HOMES.items()}
    return {homes.get(room, room) for room in rooms} - {"__version__"}


def import_time_nodes(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    """Yield the statements that run when a module is imported."""
    for node in body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            yield from import_time_nodes(node.orelse)
            continue
        yield node
        for field in ("body", "orelse", "finalbody"):
            yield from import_time_nodes(getattr(node, field, []))
        for handler in getattr(node, "handlers", []):
            yield from import_time_nodes(handler.body)


def heavy_imports(tree: ast.Module, path: Path) -> set[str]:
    nodes = [node for node in import_time_nodes(tree.body) if isinstance(node, ast.Import | ast.ImportFrom)]
    names = {name.split(".")[0] for node in nodes for name in imported_modules(node, path)}
    return names & HEAVY


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_room_imports_only_rooms_before_it(path: Path) -> None:
    room = room_of(path)
    assert room in RANKS, f"{room} has no place in the table of rooms"
    rooms = imported_rooms(ast.parse(path.read_text(encoding="utf-8")), path) - {room}
    assert rooms <= RANKS.keys(), f"not rooms: {rooms - RANKS.keys()}"
    allowed = {other for other, rank in RANKS.items() if rank < RANKS[room]}
    if RANKS[room] == 0:
        allowed = set(ROWS[0])
    assert rooms <= allowed, f"{room} comes before {sorted(rooms - allowed)}"


@pytest.mark.parametrize("part", RAMP)
def test_part_of_ramp_imports_only_parts_before_it(part: str) -> None:
    paths = [path for path in MODULES if path.relative_to(ROOT).with_suffix("").parts[:2] == ("ramp", part)]
    assert paths
    for path in paths:
        names = imported_modules(ast.parse(path.read_text(encoding="utf-8")), path)
        others = {name.split(".")[2] for name in names if name.startswith(f"{PACKAGE}.ramp.")} - {part}
        allowed = set(RAMP[: RAMP.index(part)])
        assert others <= allowed, f"{path.relative_to(ROOT)} comes before {sorted(others - allowed)}"


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_heavy_packages_are_imported_where_they_are_used(path: Path) -> None:
    if path.relative_to(ROOT).as_posix().startswith(MAY_IMPORT_HEAVY):
        pytest.skip("loaded only for training or for local weights")
    assert heavy_imports(ast.parse(path.read_text(encoding="utf-8")), path) == set()


@pytest.mark.parametrize(
    ("source", "rooms", "heavy"),
    [
        ("from masksearch_agent.cli import main", {"cli"}, set()),
        ("from masksearch_agent import records, cli", {"records", "cli"}, set()),
        ("from masksearch_agent import MaskSearchAgent", {"agent"}, set()),
        ("import masksearch_agent.trainers.dapo", {"trainers"}, set()),
        ("from ..trainers import dapo", {"trainers"}, set()),
        ("from . import store", {"traces"}, set()),
        ("def f():\n    import torch\n    from masksearch_agent.serving import x", {"serving"}, set()),
        ("import torch.nn as nn", set(), {"torch"}),
        (
            "class A:\n    try:\n        from trl import X\n    except ImportError:\n        pass",
            set(),
            {"trl"},
        ),
        ("try:\n    pass\nexcept ImportError:\n    import spacy", set(), {"spacy"}),
        ("if TYPE_CHECKING:\n    import torch\nelse:\n    import trl", set(), {"trl"}),
    ],
)
def test_imports_are_found_however_written(source: str, rooms: set[str], heavy: set[str]) -> None:
    tree, path = ast.parse(source), ROOT / "traces" / "module.py"
    assert imported_rooms(tree, path) == rooms
    assert heavy_imports(tree, path) == heavy


def loaded_heavy_packages(statement: str) -> set[str]:
    code = f"{statement}\nimport sys\nprint(*{{name.split('.')[0] for name in sys.modules}})"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    return set(run.stdout.split()) & HEAVY


@pytest.mark.parametrize(
    "statement", ["import masksearch_agent", "from masksearch_agent import MaskSearchAgent"]
)
def test_package_and_agent_load_no_heavy_package(statement: str) -> None:
    assert loaded_heavy_packages(statement) == set()


def test_package_imports_in_under_a_second() -> None:
    times_s = []
    for _ in range(3):
        started = time.perf_counter()
        subprocess.run([sys.executable, "-c", "import masksearch_agent"], check=True)
        times_s.append(time.perf_counter() - started)
    assert min(times_s) < 1.0
