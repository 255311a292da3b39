from __future__ import annotations

import bz2
import json
import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from masksearch_agent.config.retrieval import RetrievalSettings
from masksearch_agent.corpus.readers import read_passages
from masksearch_agent.corpus.report import CorpusReport
from masksearch_agent.errors import CorpusError
from masksearch_agent.retrieval.index import build_index


def texts_of(folder: Path) -> tuple[list[str], CorpusReport]:
    report = CorpusReport()
    return [each.text for each in read_passages(folder, report=report)], report


def test_a_table_whose_first_row_has_no_text_keeps_its_other_rows(tmp_path: Path):
    rows = [{"id": 1, "title": "omitted"}, *({"id": n, "text": f"text {n}"} for n in range(2, 501))]
    (tmp_path / "c.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "n.txt").write_text("A note.")
    texts, report = texts_of(tmp_path)
    assert texts == [*(f"text {n}" for n in range(2, 501)), "A note."]
    assert report.skipped == {"malformed row": 1}


@pytest.mark.parametrize("manifest", ['{"name": "site"}', "[]", "not JSON"])
def test_a_folder_with_an_index_json_of_others_is_read(tmp_path: Path, manifest: str):
    (tmp_path / "site" / "build-1").mkdir(parents=True)
    (tmp_path / "site" / "index.json").write_text(manifest)
    (tmp_path / "site" / "build-1" / "a.txt").write_text("A document.")
    assert texts_of(tmp_path)[0] == ["A document."]


def test_an_index_is_left_out_while_it_is_built_and_after(tmp_path: Path):
    for name in ("a.txt", "b.txt"):
        (tmp_path / name).write_text(f"Document {name}.")
    expected = ["Document a.txt.", "Document b.txt."]
    index = tmp_path / "index"
    report = CorpusReport()
    build_index(read_passages(tmp_path, report=report), index, RetrievalSettings(mode="bm25"))
    assert (report.kept, report.failed) == (2, 0)
    assert set(report.skipped) <= {"an index"}
    texts, report = texts_of(tmp_path)
    assert (texts, report.skipped) == (expected, {"an index": 1})
    (index / "index.json").unlink()
    texts, report = texts_of(tmp_path)
    assert (texts, report.skipped["an index"], report.failed) == (expected, 1, 0)


def test_a_linked_folder_is_reported(tmp_path: Path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "b.txt").write_text("Beyond the link.")
    (tmp_path / "corpus").mkdir()
    (tmp_path / "corpus" / "a.txt").write_text("A document.")
    (tmp_path / "corpus" / "link").symlink_to(tmp_path / "elsewhere")
    texts, report = texts_of(tmp_path / "corpus")
    assert (texts, report.skipped, report.failed) == (["A document."], {"linked folder": 1}, 0)
    assert report.examples == ["link: a link to a folder, which is not followed; index its target"]


def test_a_folder_that_cannot_be_opened_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "a.txt").write_text("A document.")
    (tmp_path / "closed").mkdir()
    scan: Callable[[object], object] = os.scandir

    def refuse(place: object) -> object:
        if str(place).endswith("closed"):
            raise PermissionError(13, "Permission denied", str(place))
        return scan(place)

    # Rights do not stop a superuser, who may run the tests.
    monkeypatch.setattr(os, "scandir", refuse)
    texts, report = texts_of(tmp_path)
    assert (texts, report.failures) == (["A document."], {"folder cannot be opened": 1})
    assert report.examples[0].startswith("closed: ")


def test_a_pipe_is_not_waited_for(tmp_path: Path):
    (tmp_path / "a.txt").write_text("A document.")
    os.mkfifo(tmp_path / "b.txt")
    texts, report = texts_of(tmp_path)
    assert (texts, report.skipped) == (["A document."], {"no regular file": 1})


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("package.json", '{"name": "site"}'),
        ("people.csv", "name,age\nA,1\n"),
        ("sitemap.xml", "<urlset/>"),
        ("broken.json", "{broken"),
    ],
)
def test_a_readme_beside_other_data_is_read(tmp_path: Path, name: str, content: str):
    (tmp_path / "README.md").write_text("Read me.")
    (tmp_path / name).write_text(content)
    assert texts_of(tmp_path)[0] == ["Read me."]


@pytest.mark.parametrize("name", ["pipe.txt", "pipe.jsonl", "pipe.xml", "pipe.warc", "pipe"])
def test_a_pipe_as_the_source_is_refused(tmp_path: Path, name: str):
    os.mkfifo(tmp_path / name)
    with pytest.raises(CorpusError, match="a pipe, a socket or a device; expected a file or a folder"):
        read_passages(tmp_path / name)


def test_a_name_that_no_file_can_have_is_refused():
    with pytest.raises(CorpusError, match="no corpus at"):
        read_passages("What is asked, in place of a path. " * 100)


ABOUT_DATA = [
    *("README.md", "readme.zh-CN.md", "README_de.md", "CHANGELOG.md", "README", "CHANGELOG"),
    *("LICENSE", "LICENSE.txt", "LICENSE-MIT", "LICENSE-MIT.txt", "LICENSE-APACHE.md", "LICENSE-APACHE-2.0"),
    *("LICENCE_CC-BY-SA-4.0.txt", "COPYING", "COPYING.md", "COPYING.LESSER", "COPYING.LESSER.txt"),
]


def test_a_long_number_in_a_name_costs_no_time(tmp_path: Path):
    (tmp_path / f"license{28 * '.1'}.x!.txt").write_text("Text.")  # Once, each digit doubled the time.
    (tmp_path / "c.csv").write_text("title,text\nT,A passage.\n")
    begun = time.process_time()
    texts_of(tmp_path)
    assert time.process_time() - begun < 5


@pytest.mark.parametrize("name", ABOUT_DATA)
def test_what_tells_about_passages_is_left_out(tmp_path: Path, name: str):
    (tmp_path / name).write_text("About.")
    (tmp_path / "c.csv").write_text("title,text\nT,A passage.\n")
    texts, report = texts_of(tmp_path)
    assert (texts, report.skipped) == (["A passage."], {"about the data": 1})


@pytest.mark.parametrize("name", [name for name in ABOUT_DATA if name.endswith((".md", ".txt"))])
def test_what_tells_about_documents_is_one_of_them(tmp_path: Path, name: str):
    (tmp_path / name).write_text("About.")
    (tmp_path / "a.txt").write_text("A document.")
    (tmp_path / "c.csv").write_text("title,text\nT,A passage.\n")
    assert sorted(texts_of(tmp_path)[0]) == ["A document.", "A passage.", "About."]


@pytest.mark.parametrize(
    "name",
    ["notice-period.md", "licensees.md", "Citation_rules.md", "LICENSE-plates.md", "copying-machines.md"],
)
def test_a_name_that_only_begins_like_a_readme_is_a_document(tmp_path: Path, name: str):
    (tmp_path / name).write_text("A document.")
    (tmp_path / "z.csv").write_text("title,text\nT,A passage.\n")
    assert sorted(texts_of(tmp_path)[0]) == ["A document.", "A passage."]


def test_a_dump_with_a_name_in_upper_case_is_unpacked(tmp_path: Path):
    page = "<page><title>T</title><ns>0</ns><id>1</id><revision><text>An article.</text></revision></page>"
    (tmp_path / "D.XML.BZ2").write_bytes(bz2.compress(f"<mediawiki>{page}</mediawiki>".encode()))
    (passage,) = read_passages(tmp_path / "D.XML.BZ2")
    assert (passage.title, passage.text) == ("T", "An article.")


def test_an_index_of_an_earlier_version_is_no_document_either(tmp_path: Path):
    index = tmp_path / "index"
    index.mkdir()
    (index / "index.json").write_text('{"format_version": 1, "folder": "passages-1"}')
    (index / "passages.jsonl").write_text('{"id": "a", "title": "A", "text": "A passage of the index."}\n')
    (tmp_path / "a.txt").write_text("A document.")
    assert texts_of(tmp_path)[0] == ["A document."]
