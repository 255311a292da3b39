from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from masksearch_agent.config.corpus import CorpusSettings
from masksearch_agent.config.retrieval import RetrievalSettings
from masksearch_agent.corpus import tables
from masksearch_agent.corpus.readers import read_passages
from masksearch_agent.corpus.report import CorpusReport
from masksearch_agent.corpus.rows import passages_from_row, split_contents
from masksearch_agent.errors import CorpusError
from masksearch_agent.jsonl import write_jsonl
from masksearch_agent.records import Passage, content_id
from masksearch_agent.retrieval.index import build_index


def write_lines(path: Path, *rows: object) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def test_our_own_records_come_back_unchanged(tmp_path: Path):
    passages = [
        Passage("a", "Ærø", "An island.", document_id="d", position=3, source="s"),
        Passage("b", "", "No title."),
    ]
    write_jsonl(tmp_path / "c.jsonl", passages)
    assert list(read_passages(tmp_path / "c.jsonl")) == passages


def test_rows_of_title_and_text_get_content_ids(tmp_path: Path):
    path = write_lines(tmp_path / "c.jsonl", {"title": "A", "text": "x", "url": "ignored"}, {"text": "y"})
    assert list(read_passages(path)) == [
        Passage(content_id("A", "x"), "A", "x", source="c.jsonl"),
        Passage(content_id("", "y"), "", "y", source="c.jsonl"),
    ]


def test_flashrag_contents_are_title_and_text(tmp_path: Path):
    path = write_lines(tmp_path / "c.jsonl", {"id": 7, "contents": '"The Title"\nFirst line.\nSecond.'})
    assert list(read_passages(path)) == [Passage("7", "The Title", "First line.\nSecond.", source="c.jsonl")]


def test_flashrag_contents_of_one_line_have_no_title():
    (passage,) = passages_from_row({"id": "7", "contents": "only text"})
    assert (passage.title, passage.text) == ("", "only text")


@pytest.mark.parametrize(
    ("contents", "expected"),
    [
        ('"T"\nbody', ("T", "body")),
        ('\n "T" \n\nbody\n', ("T", "body")),
        ("T\nbody\nmore", ("T", "body\nmore")),
        ("one line\n", ("", "one line")),
        ('"a quotation"', ("", '"a quotation"')),
        ('"T"\n ', ("T", "")),
        (" ", ("", "")),
    ],
)
def test_contents_are_a_title_and_a_text_or_a_text_alone(contents: str, expected: tuple[str, str]):
    assert split_contents(contents) == expected


def test_hotpotqa_contexts_become_distinct_passages(tmp_path: Path):
    shared = ["A", ["One. ", " Two."]]
    rows = [{"question": "?", "context": [shared, ["B", ["Three."]]]}, {"question": "?", "context": [shared]}]
    (tmp_path / "h.json").write_text(json.dumps(rows), encoding="utf-8")
    passages = list(read_passages(tmp_path / "h.json"))
    assert [(each.title, each.text) for each in passages] == [("A", "One. Two."), ("B", "Three.")]
    assert passages[0].id == content_id("A", "One. Two.")


def test_musique_paragraphs_become_passages(tmp_path: Path):
    row = {
        "id": "2hop",
        "paragraphs": [{"idx": 0, "title": "A", "paragraph_text": "x", "is_supporting": True}],
    }
    path = write_lines(tmp_path / "m.jsonl", row)
    assert list(read_passages(path)) == [Passage(content_id("A", "x"), "A", "x", source="m.jsonl")]


def test_a_folder_is_read_in_path_order_with_titles(tmp_path: Path):
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "notes.md").write_text("intro\n\n# Real Title #\n\nbody", encoding="utf-8")
    (tmp_path / "a.txt").write_text(" ".join(f"w{n}" for n in range(12)), encoding="utf-8")
    (tmp_path / "other.xyz").write_text("x", encoding="utf-8")
    (tmp_path / ".git").mkdir()
    (tmp_path / ".git" / "hidden.txt").write_text("not a document", encoding="utf-8")
    report = CorpusReport()
    passages = list(read_passages(tmp_path, CorpusSettings(max_words=10), report))
    assert (report.read, report.kept, report.skipped) == (3, 2, {"other format (.xyz)": 1})
    assert [(each.title, each.text, each.document_id, each.position) for each in passages] == [
        ("a", "w0 w1 w2 w3 w4 w5 w6 w7 w8 w9", "a.txt", 0),
        ("a", "w10 w11", "a.txt", 1),
        ("Real Title", "intro\n\nbody", "b/notes.md", 0),
    ]


def test_a_byte_order_mark_is_no_text(tmp_path: Path):
    (tmp_path / "a.txt").write_bytes(b"\xef\xbb\xbfhello")
    assert next(read_passages(tmp_path / "a.txt")).text == "hello"


def test_passages_without_text_are_left_out(tmp_path: Path):
    path = write_lines(tmp_path / "c.jsonl", {"title": "A", "text": " "}, {"title": "B", "text": "x"})
    assert [each.title for each in read_passages(path)] == ["B"]


def test_reading_is_lazy(tmp_path: Path):
    path = write_lines(tmp_path / "c.jsonl", {"text": "good"}, {"text": 1}, {"text": "better"})
    report = CorpusReport()
    stream = read_passages(path, report=report)
    assert next(stream).text == "good"
    assert (report.read, report.passages) == (1, 1)


def test_a_bad_row_is_counted_with_its_reason_and_the_rest_goes_on(tmp_path: Path):
    rows = [{"text": "good"}, {"text": 1}, {"text": " "}, {"text": "good"}, {"text": "better"}]
    report = CorpusReport()
    stream = read_passages(write_lines(tmp_path / "c.jsonl", *rows), report=report)
    assert [passage.text for passage in stream] == ["good", "better"]
    assert report.as_dict() == {
        "read": 5,
        "kept": 2,
        "skipped": 3,
        "failed": 1,
        "reasons": {"malformed row": 1, "no text": 1, "repeated": 1},
        "passages": 2,
    }
    assert report.examples[0] == "c.jsonl, line 2: text is a int; expected a str"


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"question": "?", "golden_answers": []}, "line 1: found no passage in a row with the keys"),
        (["a list"], "row 1: the row is a str; expected a dict"),
        ({"text": "x", "id": [1.5]}, "line 1: id is a list"),
        ({"context": [["title only"]]}, "line 1: an entry of context"),
        ({"paragraphs": [{"title": "A"}]}, "line 1: paragraph_text is a NoneType"),
        ({"contents": None}, "line 1: contents is a NoneType"),
    ],
)
def test_a_malformed_row_is_reported_with_its_line(tmp_path: Path, row: object, message: str):
    with pytest.raises(CorpusError, match=message):
        list(read_passages(write_lines(tmp_path / "c.jsonl", row)))


def test_a_line_that_is_not_json_is_reported_with_its_number(tmp_path: Path):
    (tmp_path / "c.jsonl").write_bytes(b'{"text": "x"}\n\n{"text": \xff}\n')
    report = CorpusReport()
    assert [each.text for each in read_passages(tmp_path / "c.jsonl", report=report)] == ["x"]
    assert report.examples[0].startswith("c.jsonl, line 3: not JSON")


@pytest.mark.parametrize(
    "content",
    [
        ' [{"text": "x"},\n {"text": "y"}]',
        '{"data": [{"text": "x"}, {"text": "y"}]}',
        '{"text": "x"}\n{"text": "y"}\n',
    ],
)
def test_a_json_file_is_a_list_or_lines(tmp_path: Path, content: str):
    (tmp_path / "c.json").write_text(content, encoding="utf-8")
    assert [each.text for each in read_passages(tmp_path / "c.json")] == ["x", "y"]


def test_a_json_file_of_no_rows_is_refused(tmp_path: Path):
    (tmp_path / "c.json").write_text("17", encoding="utf-8")
    with pytest.raises(CorpusError, match="holds a JSON int; expected a list"):
        list(read_passages(tmp_path / "c.json"))


def test_a_missing_path_and_an_unknown_format_are_errors_at_once(tmp_path: Path):
    with pytest.raises(CorpusError, match="no corpus at"):
        read_passages(tmp_path / "nothing.jsonl")
    (tmp_path / "c.xyz").write_text("x", encoding="utf-8")
    with pytest.raises(
        CorpusError, match=r"unknown format '.xyz'; expected a folder or one of .jsonl, .json"
    ):
        read_passages(tmp_path / "c.xyz")


def test_an_empty_corpus_is_an_error(tmp_path: Path):
    with pytest.raises(CorpusError, match="found no passage in"):
        list(read_passages(tmp_path))


def test_a_document_of_another_encoding_is_read_or_skipped_with_its_reason(tmp_path: Path):
    text = "港口于1932年开放。它很大。"
    (tmp_path / "a.txt").write_bytes(text.encode("gb18030"))
    (tmp_path / "b.txt").write_bytes(b"plain")
    assert [each.text for each in read_passages(tmp_path)] == [text, "plain"]
    report = CorpusReport()
    assert [each.text for each in read_passages(tmp_path, CorpusSettings(encoding="utf-8"), report)] == [
        "plain"
    ]
    assert report.skipped == {"wrong encoding": 1}
    assert report.examples[0].startswith("a.txt: not UTF-8")


def test_a_file_whose_name_is_not_utf_8_is_read(tmp_path: Path):
    path = os.path.join(os.fsencode(tmp_path), b"caf\xe9.txt")
    try:
        with open(path, "wb") as file:
            file.write(b"Coffee.")
    except OSError:
        pytest.skip("this file system has no such names")
    (passage,) = read_passages(tmp_path)
    assert (passage.title, passage.source, passage.text) == ("caf\\xe9", "caf\\xe9.txt", "Coffee.")
    write_jsonl(tmp_path / "out.jsonl", [passage])


def test_a_table_or_an_archive_of_nothing_is_told_of(tmp_path: Path):
    (tmp_path / "a.txt").write_text("The harbour.")
    for name in ("b.jsonl", "c.json", "d.csv", "e.jsonl.gz", "f.warc.gz"):
        (tmp_path / name).write_bytes(b"")
    (tmp_path / "g.csv").write_text("title,text\n")
    report = CorpusReport()
    assert [passage.text for passage in read_passages(tmp_path, report=report)] == ["The harbour."]
    assert (report.read, dict(report.skipped), report.failed) == (7, {"no text": 6}, 0)


def test_data_beside_a_readme_is_read(tmp_path: Path):
    (tmp_path / "README.md").write_text("# A data set")
    (tmp_path / "LICENSE.txt").write_text("Free.")
    (tmp_path / "data").mkdir()
    write_lines(tmp_path / "data" / "part-0.jsonl", {"title": "T", "text": "A passage."})
    report = CorpusReport()
    assert [each.text for each in read_passages(tmp_path, report=report)] == ["A passage."]
    assert report.skipped == {"about the data": 2}


def test_documents_and_tables_of_one_folder_are_read_and_other_data_is_left_out(tmp_path: Path):
    (tmp_path / "README.md").write_text("# Notes\n\nRead me.")
    (tmp_path / "a.txt").write_text("A document.")
    write_lines(tmp_path / "b.jsonl", {"title": "T", "text": "A passage."})
    (tmp_path / "package.json").write_text('{"name": "site",\n "version": 1}')
    (tmp_path / "sitemap.xml").write_text("<urlset/>")
    report = CorpusReport()
    texts = [each.text for each in read_passages(tmp_path, report=report)]
    assert texts == ["Read me.", "A document.", "A passage."]
    assert report.skipped == {"no passages": 1, "not a dump": 1}
    assert report.failures == {"not a dump": 1}


def test_an_index_inside_the_corpus_is_left_out(tmp_path: Path):
    write_lines(tmp_path / "a.jsonl", {"title": "T", "text": "A passage."})
    build_index(read_passages(tmp_path), tmp_path / "runs" / "index", RetrievalSettings(mode="bm25"))
    assert [each.text for each in read_passages(tmp_path)] == ["A passage."]


def test_a_folder_without_documents_is_read_as_tables(tmp_path: Path):
    write_lines(tmp_path / "b.jsonl", {"text": "second"})
    (tmp_path / "a.csv").write_text("title,text\nT,first\n", encoding="utf-8")
    passages = list(read_passages(tmp_path))
    assert [(each.text, each.source) for each in passages] == [("first", "a.csv"), ("second", "b.jsonl")]


@pytest.mark.parametrize(
    ("file", "count"),
    [
        ("2wikimultihopqa/corpus.json", 6119),
        ("hotpotqa/distractor_50.json", 494),
        ("musique/ans_50.jsonl", 952),
    ],
)
def test_public_datasets_are_read_whole(shared_data: Path, file: str, count: int):
    passages = list(read_passages(shared_data / file))
    assert len(passages) == len({each.id for each in passages}) == count


def test_a_table_that_breaks_its_reader_halfway_keeps_its_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read(path: Path, settings: CorpusSettings) -> Iterator[tuple[str, Any]]:
        yield "row 1", lambda: {"text": "one"}
        raise ValueError("row 2 is no row")

    monkeypatch.setitem(tables.TABLE_READERS, ".jsonl", read)  # type: ignore[arg-type]
    (tmp_path / "t.jsonl").write_text("")
    report = CorpusReport()
    assert [passage.text for passage in read_passages(tmp_path / "t.jsonl", report=report)] == ["one"]
    assert report.failures == {"breaks its parser (ValueError)": 1}
