from __future__ import annotations

import gzip
import json
import random
import sys
from pathlib import Path

import pytest

from masksearch_agent.config.corpus import CorpusSettings
from masksearch_agent.corpus.readers import read_passages
from masksearch_agent.corpus.report import CorpusReport
from masksearch_agent.errors import CorpusError, MissingExtraError

BODY = CorpusSettings(text_column="body", title_column="headline", id_column="key", max_words=10)
WORDS = " ".join(f"w{number}" for number in range(15))


def test_a_named_column_holds_documents_that_are_cut(tmp_path: Path):
    (tmp_path / "c.csv").write_text(f"key,headline,body\n7,Title,{WORDS}\n", encoding="utf-8")
    first, second = read_passages(tmp_path / "c.csv", BODY)
    assert (first.title, first.document_id, first.position, first.source) == ("Title", "7", 0, "c.csv")
    assert (second.text, second.document_id, second.position) == ("w10 w11 w12 w13 w14", "7", 1)


def test_a_document_without_an_id_is_known_by_its_place(tmp_path: Path):
    (tmp_path / "c.jsonl").write_text(json.dumps({"body": "text", "headline": None}) + "\n")
    (passage,) = read_passages(tmp_path / "c.jsonl", BODY)
    assert (passage.title, passage.document_id) == ("", "c.jsonl, line 1")


def test_bad_rows_of_a_csv_file_cost_themselves_only(tmp_path: Path):
    (tmp_path / "c.csv").write_bytes(
        "﻿title,text\n".encode() + b'A,"two\nlines"\nB,caf\xe9\nC\nD,1,2\nE,' + b"x" * 200_000 + b"\n"
    )
    report = CorpusReport()
    passages = list(read_passages(tmp_path / "c.csv", report=report))
    assert [(each.title, len(each.text)) for each in passages] == [("A", 9), ("E", 200_000)]
    assert report.skipped == {"wrong encoding": 1, "uneven row": 2}
    assert report.examples[0] == "c.csv, line 4: not UTF-8"


def test_a_missing_column_is_named_with_those_there_are(tmp_path: Path):
    (tmp_path / "c.csv").write_text("title,text\nA,x\n")
    with pytest.raises(
        CorpusError, match=r"line 2: has no column 'body'; its columns are \['text', 'title'\]"
    ):
        list(read_passages(tmp_path / "c.csv", BODY))


def test_parquet_rows_are_read_and_a_damaged_file_is_reported(tmp_path: Path):
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    rows = [{"title": "A", "text": "one"}, {"title": "B", "text": None}, {"title": "C", "text": "three"}]
    parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "a.parquet")
    (tmp_path / "b.parquet").write_bytes(b"garbage")
    report = CorpusReport()
    assert [each.title for each in read_passages(tmp_path, report=report)] == ["A", "C"]
    assert report.as_dict()["reasons"] == {"malformed row": 1, "damaged Parquet": 1}


def test_a_saved_and_a_file_dataset_are_read(tmp_path: Path):
    datasets = pytest.importorskip("datasets")
    rows = {"headline": ["A", "B"], "body": ["one", "two"]}
    datasets.Dataset.from_dict(rows).save_to_disk(str(tmp_path / "saved"))
    passages = list(read_passages(f"hf:{tmp_path / 'saved'}", BODY))
    assert [(each.title, each.text) for each in passages] == [("A", "one"), ("B", "two")]
    (tmp_path / "files").mkdir()
    (tmp_path / "files" / "train.jsonl").write_text('{"text": "streamed"}\n')
    assert [each.text for each in read_passages(Path(f"hf:{tmp_path / 'files'}"))] == ["streamed"]
    with pytest.raises(CorpusError, match="cannot open the dataset"):
        read_passages(f"hf:{tmp_path / 'nowhere'}")


@pytest.mark.parametrize(
    ("package", "extra", "corpus"),
    [
        ("pypdf", "corpus", "a.pdf"),
        ("bs4", "corpus", "a.html"),
        ("mwxml", "corpus", "dump.xml.bz2"),
        ("pyarrow", "corpus", "a.parquet"),
        ("datasets", "datasets", "hf:owner/name"),
    ],
)
def test_a_missing_parser_names_its_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, package: str, extra: str, corpus: str
):
    monkeypatch.setitem(sys.modules, package, None)
    source: Path | str = corpus
    if not corpus.startswith("hf:"):
        source = tmp_path
        (tmp_path / corpus).write_bytes(b"")
    with pytest.raises(MissingExtraError, match=rf"{package} is not installed; .*\[{extra}\]"):
        list(read_passages(source))


def test_compressed_lines_are_read_alone_and_in_a_folder(tmp_path: Path):
    line = json.dumps({"title": "A", "text": "One."}) + "\n"
    (tmp_path / "c.jsonl.gz").write_bytes(gzip.compress((line + "broken\n").encode()))
    report = CorpusReport()
    assert [passage.title for passage in read_passages(tmp_path / "c.jsonl.gz", report=report)] == ["A"]
    assert report.skipped == {"not JSON": 1}
    assert [passage.title for passage in read_passages(tmp_path)] == ["A"]


def test_a_compressed_file_that_was_cut_costs_what_is_missing(tmp_path: Path):
    rows = [
        json.dumps({"title": f"T{number}", "text": random.Random(number).randbytes(40).hex()})
        for number in range(500)
    ]
    whole = gzip.compress("\n".join(rows).encode())
    (tmp_path / "c.jsonl.gz").write_bytes(whole[: len(whole) // 2])
    report = CorpusReport()
    passages = list(read_passages(tmp_path / "c.jsonl.gz", report=report))
    assert 0 < len(passages) < 500
    assert report.skipped["damaged gzip"] == 1
