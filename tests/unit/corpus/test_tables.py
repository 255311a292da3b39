from __future__ import annotations

import gzip
import json
import random
import sys
from collections.abc import Iterator
from datetime import date
from pathlib import Path

import pytest

from masksearch_agent.config.corpus import CorpusSettings
from masksearch_agent.corpus import tables
from masksearch_agent.corpus.readers import read_passages
from masksearch_agent.corpus.report import CorpusReport
from masksearch_agent.errors import CorpusError, MissingExtraError
from masksearch_agent.records import content_id

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
    assert (passages[0].title, passages[0].text) == ("A", "two\nlines")
    assert [(each.title, each.document_id) for each in passages[1:]] == [
        ("E", content_id("E", "x" * 200_000))
    ]
    assert report.skipped == {"wrong encoding": 1, "uneven row": 2}
    assert report.examples[0] == "c.csv, line 4: not UTF-8; set corpus.encoding"


def test_a_missing_column_is_named_with_those_there_are(tmp_path: Path):
    (tmp_path / "c.csv").write_text("title,text\nA,x\n")
    with pytest.raises(
        CorpusError, match=r"line 2: has no column 'body'; its columns are \['text', 'title'\]"
    ):
        list(read_passages(tmp_path / "c.csv", BODY))


def test_whose_text_column_has_another_name_hears_how_to_name_it(tmp_path: Path):
    (tmp_path / "prices.csv").write_text("product,price\nDrill,129\n")
    with pytest.raises(CorpusError, match=r"keys \['price', 'product'\];.*corpus\.text_column"):
        list(read_passages(tmp_path / "prices.csv"))
    (tmp_path / "note.txt").write_text("A note.")
    report = CorpusReport()
    assert [each.text for each in read_passages(tmp_path, report=report)] == ["A note."]
    assert report.examples[0].startswith("prices.csv: none of its rows has one of the keys contents, ")
    assert "corpus.text_column" in report.examples[0]


def test_a_folder_of_other_formats_hears_which_are_read(tmp_path: Path):
    (tmp_path / "offer.msg").write_text("Dear Ada")
    with pytest.raises(CorpusError, match=r"offer\.msg: not read as a document; .*\.pdf"):
        list(read_passages(tmp_path))


def test_a_value_that_python_has_nothing_for_costs_its_row_at_most(tmp_path: Path):
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    texts = pyarrow.array([b"The pier.", b"Caf\xe9.", b"The mole.", b"The quay."])
    times = pyarrow.array([2**62, 0, 1, None], pyarrow.timestamp("us"))
    table = pyarrow.table({"text": texts.view(pyarrow.string()), "seen": times})
    parquet.write_table(table, tmp_path / "a.parquet")
    report = CorpusReport()
    found = [passage.text for passage in read_passages(tmp_path / "a.parquet", report=report)]
    assert found == ["The pier.", "The mole.", "The quay."]
    assert report.examples[0].startswith("a.parquet, row 2: text is not UTF-8")


def test_a_space_behind_each_comma_is_no_part_of_a_cell(tmp_path: Path):
    (tmp_path / "c.csv").write_text('title, text\nPier, "Old, of stone."\nMole, New.\n')
    found = [(passage.title, passage.text) for passage in read_passages(tmp_path / "c.csv")]
    assert found == [("Pier", "Old, of stone."), ("Mole", "New.")]


def test_parquet_rows_are_read_and_a_damaged_file_is_reported(tmp_path: Path):
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    rows = [{"title": "A", "text": "one"}, {"title": "B", "text": None}, {"title": "C", "text": "three"}]
    parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "a.parquet")
    (tmp_path / "b.parquet").write_bytes(b"garbage")
    report = CorpusReport()
    assert [each.title for each in read_passages(tmp_path, report=report)] == ["A", "C"]
    assert report.as_dict()["reasons"] == {"no text": 1, "damaged Parquet": 1}


def test_text_that_a_parquet_file_has_as_bytes_is_read(tmp_path: Path):
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    table = pyarrow.table({"text": ["Käse".encode(), b"an \xff"], "title": [b"A", None]})
    parquet.write_table(table, tmp_path / "a.parquet")
    found = [(each.title, each.text) for each in read_passages(tmp_path / "a.parquet")]
    assert found == [("A", "Käse"), ("", "an \ufffd")]


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
        ("resiliparse", "corpus", "a.html"),
        ("semantic_text_splitter", "corpus", "a.txt"),
        ("mammoth", "corpus", "a.docx"),
        ("fastwarc", "corpus", "a.warc.gz"),
        ("mwparserfromhell", "corpus", "dump.xml.bz2"),
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


@pytest.mark.parametrize(
    ("content", "texts"),
    [
        (
            'title,text\nA,"unclosed quote here\nB,second row\nC,third row\n',
            ['"unclosed quote here', "second row", "third row"],
        ),
        ('title,text\nA,"open\nB,"x" y\nC,"good, one"\n', ['"open', '"x" y', "good, one"]),
        ('title,text\nA,5" pipe\nB,"two\nlines"\n', ['5" pipe', "two\nlines"]),
        ("title;text\nA;one, two\nB;three\n", ["one, two", "three"]),
        ("title|text\rA|one\rB|three\r", ["one", "three"]),
        ("\ufefftitle\ttext\nA\tone\n", ["one"]),
    ],
)
def test_a_table_is_read_as_it_was_written(tmp_path: Path, content: str, texts: list[str]) -> None:
    (tmp_path / "c.csv").write_text(content, encoding="utf-8", newline="")
    assert [each.text for each in read_passages(tmp_path / "c.csv")] == texts


def test_delimiter_quote_and_encoding_can_be_set(tmp_path: Path) -> None:
    (tmp_path / "c.csv").write_bytes("title:text\nA:'über: drei'\n".encode("cp850"))
    settings = CorpusSettings(delimiter=":", quote="'", encoding="cp850")
    assert [each.text for each in read_passages(tmp_path / "c.csv", settings)] == ["über: drei"]
    (tmp_path / "d.csv").write_text('title,text\nA,"x\nB,y\n')
    assert [each.text for each in read_passages(tmp_path / "d.csv", CorpusSettings(quote=""))] == ['"x', "y"]


def test_a_quote_that_nobody_closes_costs_its_row_in_a_long_file_too(tmp_path: Path) -> None:
    rows = ['T0,"open', *(f"T{number},row {number}" for number in range(1, 12_000))]
    (tmp_path / "c.csv").write_text("title,text\n" + "\n".join(rows))
    passages = list(read_passages(tmp_path / "c.csv"))
    assert [each.text for each in passages] == ['"open', *(f"row {number}" for number in range(1, 12_000))]


def test_ids_and_titles_are_read_as_what_they_mean(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    columns = {
        "id": pyarrow.array([1.0, None, 2.5]),
        "title": pyarrow.array([date(2024, 5, 1), None, date(2024, 5, 2)]),
        "text": pyarrow.array(["one", "two", "three"]),
    }
    parquet.write_table(pyarrow.table(columns), tmp_path / "a.parquet")
    first, second, third = read_passages(tmp_path / "a.parquet")
    assert (first.id, first.title) == ("1", "2024-05-01")
    assert (second.id, second.title) == (content_id("", "two"), "")
    assert (third.id, third.title) == ("2.5", "2024-05-02")
    lines = [
        '{"id": 7.0, "title": null, "text": "a"}', '{"id": null, "title": NaN, "text": "b"}',
        '{"id": true, "title": 1932, "text": "c"}', '{"title": ["x"], "text": "d"}',
    ]  # fmt: skip
    (tmp_path / "b.jsonl").write_text("\n".join(lines))
    report = CorpusReport()
    passages = list(read_passages(tmp_path / "b.jsonl", report=report))
    assert [(each.id, each.title) for each in passages] == [
        ("7", ""),
        (content_id("", "b"), ""),
        ("true", "1932"),
    ]
    assert report.examples == ["b.jsonl, line 4: title is a list; expected text"]


def test_half_a_surrogate_pair_costs_a_character(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text(
        '{"title": "P\\ud83d", "text": "We love \\ud83d the ferry \\ud83d\\ude00"}\n'
    )
    (passage,) = read_passages(tmp_path / "a.jsonl")
    assert (passage.title, passage.text) == ("P\ufffd", "We love \ufffd the ferry \U0001f600")


def test_a_row_that_is_too_long_is_cut_and_one_that_is_far_too_long_is_skipped(tmp_path: Path) -> None:
    rows = [
        {"id": 1, "text": " ".join(f"word{n}" for n in range(1_000))},
        {"text": "x" * 20_000},
        {"text": "The rest."},
    ]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    report = CorpusReport()
    settings = CorpusSettings(max_row_chars=4_000, max_file_bytes=10_000)
    *pieces, last = read_passages(tmp_path / "a.jsonl", settings, report)
    assert max(len(piece.text.split()) for piece in pieces) == 100
    assert " ".join(piece.text for piece in pieces) == rows[0]["text"]
    assert {piece.document_id for piece in pieces} == {"1"}
    assert last.text == "The rest."
    assert report.failures == {"too large": 1}


def test_an_id_that_two_rows_share_costs_the_second(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text(
        '{"id": 1, "text": "a"}\n{"id": 1, "text": "b"}\n{"id": 1, "text": "a"}\n'
    )
    report = CorpusReport()
    assert [each.text for each in read_passages(tmp_path / "a.jsonl", report=report)] == ["a"]
    assert report.skipped == {"id used twice": 1, "repeated": 1}
    assert report.failed == 1


@pytest.mark.parametrize(
    ("content", "texts"),
    [
        (
            'id,text\n1,"an unclosed one\n2,second row\n3,pipe of 5"\n4,fourth\n',
            ['"an unclosed one', "second row", 'pipe of 5"', "fourth"],
        ),
        # Closed by the quotation mark of a later row, the record has a cell too many.
        ('id,text\n1,"open\n2,x\n3,"a, b"\n4,y\n', ['"open', "x", "a, b", "y"]),
        ('id,title,text\n1,"open\n2,T,x\n3,T,5"\n4,T,y\n', ["x", '5"', "y"]),
        # Cells of several lines stay whole, whatever commas they hold.
        ('id,text\n1,"Roses are red, and\nviolets, blue"\n2,x\n', ["Roses are red, and\nviolets, blue", "x"]),
        ('id,text\n1,"one\ntwo, three"\n2,x\n', ["one\ntwo, three", "x"]),
        ('text\n"one\ntwo"\nthree\n', ["one\ntwo", "three"]),
        ('id,text\n1,"Since 1950.\nIt has 10,000 men."\n2,x\n', ["Since 1950.\nIt has 10,000 men.", "x"]),
        ('id,text\n1,"It costs\n(2,500,000 euro)"\n2,x\n', ["It costs\n(2,500,000 euro)", "x"]),
        ('remarks, of\n\n"id\n(number)",text\n1,"one\ntwo"\n', ["one\ntwo"]),
    ],
)
def test_an_unclosed_quotation_mark_costs_no_other_row(tmp_path: Path, content: str, texts: list[str]):
    (tmp_path / "c.csv").write_text(content, encoding="utf-8", newline="")
    assert [each.text for each in read_passages(tmp_path / "c.csv")] == texts


def test_the_line_of_a_bad_row_is_counted_over_what_stands_before_the_header(tmp_path: Path):
    (tmp_path / "c.csv").write_text('remark\nid,text\n1,"one\ntwo"\n2\n')
    report = CorpusReport()
    assert [each.text for each in read_passages(tmp_path / "c.csv", report=report)] == ["one\ntwo"]
    assert report.examples == ["c.csv, line 5: has 1 cells; there are 2 columns"]


@pytest.mark.parametrize(
    ("encoding", "setting"),
    [("utf-16", ""), ("utf-16-le", "utf-16-le"), ("latin-1", "latin-1"), ("utf-8-sig", "latin-1")],
)
@pytest.mark.parametrize("is_list", [False, True])
def test_json_is_read_by_its_byte_order_mark_or_the_setting(
    tmp_path: Path, encoding: str, setting: str, is_list: bool
):
    rows = [{"text": "Ærø ist grün"}, {"text": "Zwei"}]
    lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    content = json.dumps(rows, ensure_ascii=False) if is_list else lines
    (tmp_path / "c.json").write_bytes(content.encode(encoding))
    (tmp_path / "c.jsonl.gz").write_bytes(gzip.compress(lines.encode(encoding)))
    settings = CorpusSettings(encoding=setting)
    for name in ("c.json", "c.jsonl.gz"):
        texts = [each.text for each in read_passages(tmp_path / name, settings)]
        assert texts == ["Ærø ist grün", "Zwei"]


def test_titles_of_rows_are_no_longer_than_those_of_documents(tmp_path: Path):
    long = "T" * 300
    short = "T" * 199 + "…"
    rows = [
        {"title": long, "text": "one"},
        {"id": "2", "contents": f'"{long}"\nmore'},
        {"title": long, "text": "two " * 6000},
    ]
    (tmp_path / "c.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    first, second, *pieces = read_passages(tmp_path / "c.jsonl")
    assert (first.id, first.title) == (content_id(long, "one"), short)
    assert (second.title, second.text) == (short, f'"{long}"\nmore')
    assert {each.title for each in pieces} == {short}
    (tmp_path / "d.jsonl").write_text(json.dumps({"headline": long, "body": "text"}))
    assert [each.title for each in read_passages(tmp_path / "d.jsonl", BODY)] == [short]


def test_records_without_an_id_get_one_of_their_content(tmp_path: Path):
    empty = {"document_id": "", "position": 0, "source": ""}
    rows = [{"id": "", "title": "", "text": text, **empty} for text in ("one", "two")]
    rows += [{"id": None, "text": text} for text in ("three", "four")]
    (tmp_path / "c.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    texts = ("one", "two", "three", "four")
    assert [each.id for each in read_passages(tmp_path / "c.jsonl")] == [
        content_id("", text) for text in texts
    ]


def test_a_first_line_of_json_that_is_nested_too_deeply_costs_that_line(tmp_path: Path):
    deep = '{"text": ' + "[" * 100_000 + "]" * 100_000 + "}"
    (tmp_path / "c.json").write_text(f'{deep}\n{{"text": "fine"}}\n')
    report = CorpusReport()
    assert [each.text for each in read_passages(tmp_path / "c.json", report=report)] == ["fine"]
    assert report.failures == {"not JSON": 1}


def test_a_first_line_of_json_that_is_longer_than_the_sample_is_a_line(tmp_path: Path):
    rows = [
        json.dumps({"title": title, "text": "word " * count}) for title, count in (("A", 300_000), ("B", 1))
    ]
    for name, lines, titles in (("lines", rows, {"A", "B"}), ("one", rows[:1], {"A"})):
        (tmp_path / f"{name}.json").write_text("\n".join(lines))
        assert {each.title for each in read_passages(tmp_path / f"{name}.json")} == titles


def test_two_columns_of_one_name_are_refused_and_not_read_as_the_last(tmp_path: Path):
    (tmp_path / "c.csv").write_text("note,note,text\na,b,one\n")
    (tmp_path / "d.csv").write_text("text,title,text\nfirst,T,second\n")
    report = CorpusReport()
    assert [each.text for each in read_passages(tmp_path, report=report)] == ["one"]
    assert report.failures == {"columns of one name": 1}
    assert "has 2 columns 'text'" in report.examples[0]


def test_a_cell_that_is_too_large_costs_its_row(tmp_path: Path):
    (tmp_path / "c.csv").write_text(f"title,text\nT,{'x' * 300}\nU,fine\n")
    report = CorpusReport()
    passages = read_passages(tmp_path / "c.csv", CorpusSettings(max_file_bytes=200), report)
    assert [each.text for each in passages] == ["fine"]
    assert report.failures == {"uneven row": 1}


@pytest.mark.parametrize("encoding", ["hex", "rot13", "no-such"])
def test_an_encoding_that_is_none_of_text_is_refused(encoding: str):
    with pytest.raises(ValueError, match=f"unknown text encoding '{encoding}'"):
        CorpusSettings(encoding=encoding)


def test_a_dataset_that_breaks_halfway_keeps_its_rows(monkeypatch: pytest.MonkeyPatch):
    def rows(name: str, split: str) -> Iterator[dict[str, str]]:
        yield {"text": "one"}
        raise ConnectionError("gone")

    monkeypatch.setattr(tables, "open_hf_dataset", rows)
    report = CorpusReport()
    assert [each.text for each in read_passages("hf:a/b", report=report)] == ["one"]
    assert report.examples == ["a/b: gone"]
    assert report.failed == 1


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be"])
def test_a_table_of_wide_characters_is_read_with_and_without_a_mark(tmp_path: Path, encoding: str):
    rows = "".join(f"T{number},The harbour of town {number}\n" for number in range(40))
    (tmp_path / "c.csv").write_bytes(("title,text\n" + rows).encode(encoding))
    assert len(list(read_passages(tmp_path / "c.csv"))) == 40
