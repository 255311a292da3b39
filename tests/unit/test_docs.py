"""What the documents say of the tree is so."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import masksearch_agent

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = Path(masksearch_agent.__file__).parent
_CODE = re.compile(r"`([^`]+)`")


def rows_of(document: str, heading: str) -> list[list[str]]:
    """Return the cells of a table's rows below a heading."""
    section = (ROOT / document).read_text(encoding="utf-8").split(f"## {heading}\n")[1].split("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


@pytest.mark.parametrize(("what", "where"), rows_of("CONTRIBUTING.md", "Where is what"))
def test_what_contributors_look_for_is_where_they_are_sent(what: str, where: str) -> None:
    named = _CODE.findall(where)
    assert named, f"nothing is named for {what}"
    assert [place for place in named if not (PACKAGE / place).exists()] == []


def test_methods_are_where_the_table_of_papers_says() -> None:
    text = (ROOT / "docs" / "papers.md").read_text(encoding="utf-8")
    rows = [line.strip("|").split("|") for line in text.splitlines() if line.startswith("|")][2:]
    named = [place for row in rows for place in _CODE.findall(row[2])]
    assert len(named) > 20
    assert [place for place in named if not (PACKAGE / place).exists()] == []


def test_the_readme_names_every_room_and_no_other() -> None:
    tree = (ROOT / "README.md").read_text(encoding="utf-8").split("## The tree\n")[1].split("```")[1]
    library = tree.split("\ngraphs/")[0]
    named = {name for line in library.splitlines()[1:] for name in re.findall(r"^  ([\w/]+?)/ ", line)}
    rooms = {path.parent.name for path in PACKAGE.glob("*/__init__.py")}
    assert named == rooms
