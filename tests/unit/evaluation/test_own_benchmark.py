"""A benchmark from outside the package: the example of the docs, registered in Python and as an entry point."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from fakes.command_line import CommandLine

from masksearch_agent.corpus.readers import read_passages
from masksearch_agent.errors import EvaluationError
from masksearch_agent.evaluation.sources import read_tasks
from masksearch_agent.plugins import BENCHMARKS

DOCS = Path(__file__).resolve().parents[3] / "docs" / "extending.md"
ROW = {
    "ticket": 7,
    "asked": "How is the pump primed?",
    "solved_by": "with the red valve",
    "page": {"title": "Pump", "text": "The pump is primed with the red valve."},
}
OTHER = {
    **ROW,
    "ticket": 8,
    "asked": "Where is the fuse?",
    "page": {"title": "Fuse", "text": "Behind the lid."},
}


def example() -> str:
    """Return the first Python block of the section on benchmarks."""
    section = DOCS.read_text(encoding="utf-8").split("## A benchmark\n")[1]
    found = re.search(r"```python\n(.*?)```", section, re.DOTALL)
    assert found
    return found[1]


def forget() -> None:
    """Make the registry look again at what there is."""
    for cached in ("_entry_points", "_all"):
        BENCHMARKS.__dict__.pop(cached, None)
    sys.modules.pop("helpdesk_benchmark", None)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Return a folder on the path that holds the example; nothing of it is known afterwards."""
    (tmp_path / "helpdesk_benchmark.py").write_text(example(), encoding="utf-8")
    (tmp_path / "tickets.jsonl").write_text("".join(json.dumps(row) + "\n" for row in (ROW, OTHER)))
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(BENCHMARKS, "_registered", {})
    forget()
    yield tmp_path
    forget()


def install(folder: Path) -> None:
    info = folder / "helpdesk-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: helpdesk\nVersion: 1.0\n")
    line = "helpdesk = helpdesk_benchmark:BENCHMARK"
    (info / "entry_points.txt").write_text(f"[masksearch_agent.benchmarks]\n{line}\n")


def check(file: Path) -> None:
    """Its questions and its passages are read by whoever reads those of other benchmarks."""
    first, second = read_tasks(file)
    assert (first.id, first.question, first.answers) == ("7", ROW["asked"], (("with the red valve",),))
    pages = {passage.id: passage.title for passage in read_passages(file)}
    assert [pages[gold] for task in (first, second) for gold in task.gold_passage_ids] == ["Pump", "Fuse"]


def test_its_rows_fit_nothing_before(folder: Path) -> None:
    with pytest.raises(EvaluationError, match="fits no benchmark"):
        list(read_tasks(folder / "tickets.jsonl"))


def test_an_application_registers_a_benchmark(folder: Path) -> None:
    BENCHMARKS.register("helpdesk", __import__("helpdesk_benchmark").BENCHMARK)
    check(folder / "tickets.jsonl")


def test_an_installed_package_brings_a_benchmark_that_is_indexed_by_its_file(
    folder: Path, run: CommandLine
) -> None:
    pytest.importorskip("tantivy")
    install(folder)
    check(folder / "tickets.jsonl")
    indexed = run(
        "index", folder / "tickets.jsonl", "--out", "index", "--set", "retrieval.mode=bm25", "--json"
    )
    assert indexed.json["passages"] == 2
