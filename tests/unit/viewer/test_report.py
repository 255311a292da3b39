from __future__ import annotations

import base64
import hashlib
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from fakes.run_report import run_report

from masksearch_agent.viewer.report import render_html, write_report

BLOCKS = (*run_report(),)
FORGED = "</script></title></table><script>alert(1)</script><!-- $body ${data}"


class Outline(HTMLParser):
    """Collects elements and attributes, and checks that every element is closed."""

    VOID = frozenset({"link", "meta"})

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.headings: list[str] = []
        self._open: list[str] = []
        self.feed(page)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in self.VOID:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self._open and self._open[-1] == "h2":
            self.headings.append(data)


def forge(value: Any) -> Any:
    """Replace every string in a report, keys of named things included, by a forged one."""
    match value:
        case str():
            return FORGED
        case list():
            return [forge(item) for item in value]
        case dict():
            return {key: forge(item) for key, item in value.items()}
    return value


def hover_data_of(page: str) -> Any:
    found = re.search(r'id="hover-data">(.*?)</script>', page)
    assert found is not None
    return json.loads(found[1])


def test_sections_come_in_the_order_of_interest() -> None:
    assert Outline(render_html(run_report())).headings == [
        *("Scores", "Comparisons", "Training", "Sample trajectories"),
        *("Time and memory", "Generation", "Retrieval", "Next steps"),
    ]


def test_no_text_of_a_report_becomes_markup() -> None:
    honest, report = run_report(), forge(run_report())
    report["evals"] = {FORGED: {FORGED: honest["evals"]["final"]["ramp"]}}
    report["retrieval"] = {FORGED: {FORGED: 0.5}}
    report["versions"] = {FORGED: FORGED}
    report["generation"][0]["reasons"] = {FORGED: 3}
    page = render_html(report)
    assert Outline(page).tags.count("script") == 2
    assert "<!-- " not in page
    assert "<script>alert" not in page
    assert "$body ${data}" in page, "placeholders in outside text stay text"
    assert hover_data_of(page)[0][0]["stage"] == FORGED


@pytest.mark.parametrize("missing", BLOCKS)
def test_every_block_may_be_missing(missing: str) -> None:
    report = run_report()
    del report[missing]
    assert Outline(render_html(report)).tags.count("script") == 2


def test_an_empty_report_has_a_page() -> None:
    assert "Nothing was evaluated" in render_html({})
    assert Outline(render_html(dict.fromkeys(BLOCKS))).headings == []


def test_the_page_loads_nothing() -> None:
    page = render_html(run_report())
    outline = Outline(page)
    assert {value for name, value in outline.attributes if name in ("src", "href")} == {"data:,"}
    assert not {"img", "iframe", "object", "embed", "base"} & set(outline.tags)
    assert not re.search(r"https?://|url\(|@import", page)
    assert "default-src 'none'" in page


def test_no_script_but_the_pages_own_may_run() -> None:
    page = render_html(run_report())
    policy = re.search(r"script-src ([^;]*);", page)
    code = re.search(r"<script>(.*?)</script>", page, re.DOTALL)
    assert policy is not None
    assert code is not None
    assert policy[1] == f"'sha256-{base64.b64encode(hashlib.sha256(code[1].encode()).digest()).decode()}'"


def test_tables_and_charts_can_be_read_aloud() -> None:
    outline = Outline(render_html(run_report()))
    assert outline.tags.count("caption") == outline.tags.count("table") == 6
    assert outline.attributes.count(("role", "img")) == outline.tags.count("svg") == 2
    assert ("lang", "en") in outline.attributes


def test_points_under_the_pointer_are_the_measured_ones() -> None:
    loss, reward = hover_data_of(render_html(run_report()))
    assert [point[2:] for point in loss[0]["points"]] == [[0, 3.0], [50, 1.5], [100, 0.5]]
    assert [point[2:] for point in reward[0]["points"]] == [[0, 0.25], [10, 0.75]]


def test_both_files_are_written_whole(tmp_path: Path) -> None:
    write_report(run_report(), tmp_path / "runs" / "first")
    folder = tmp_path / "runs" / "first"
    assert {path.name for path in folder.iterdir()} == {"report.json", "report.html"}
    assert json.loads((folder / "report.json").read_text(encoding="utf-8")) == run_report()
    assert (folder / "report.html").read_text(encoding="utf-8") == render_html(run_report())


def test_a_report_that_cannot_be_written_leaves_the_old_one(tmp_path: Path) -> None:
    write_report(run_report(), tmp_path)
    with pytest.raises(TypeError):
        write_report(run_report() | {"seed": object()}, tmp_path)
    assert json.loads((tmp_path / "report.json").read_text(encoding="utf-8")) == run_report()
    assert (tmp_path / "report.html").read_text(encoding="utf-8") == render_html(run_report())
