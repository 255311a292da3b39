"""Documents with a fault in one place, or of an unusual form, are read as far as they go."""

from __future__ import annotations

import gzip
import time
import zipfile
import zlib
from io import BytesIO
from pathlib import Path

import pptx
import pytest

from masksearch_agent.corpus.archives import read_archive
from masksearch_agent.corpus.documents import DOCUMENT_PARSERS
from masksearch_agent.corpus.encodings import decode_text
from masksearch_agent.corpus.pages import HEADINGS_END
from masksearch_agent.corpus.readers import read_passages
from masksearch_agent.corpus.report import CorpusReport
from masksearch_agent.errors import UnreadableDocumentError
from masksearch_agent.text.cleaning import clean_text


def text_of(kind: str, raw: bytes) -> str:
    return "\n".join(text for _, text in DOCUMENT_PARSERS[kind](raw, "").sections)


@pytest.mark.parametrize(
    "deep",
    [
        "\n".join("  " * level + f"- item {level}" for level in range(60)) + "\n",
        "> " * 200 + "item 59",
    ],
)
def test_markdown_loses_nothing_however_deep_it_is_nested(deep: str) -> None:
    assert "item 59" in text_of(".md", f"{deep}\n\nThe end.".encode())
    assert "The end." in text_of(".md", f"{deep}\n\nThe end.".encode())


def test_a_list_of_fifteen_levels_is_read_without_its_marks() -> None:
    text = text_of(".md", "\n".join("  " * level + f"- item {level}" for level in range(15)).encode())
    assert "item 14" in text
    assert "- item" not in text


def test_twenty_thousand_levels_of_markdown_take_seconds_at_most() -> None:
    start = time.monotonic()
    assert "deep" in text_of(".md", ("- " * 20_000 + "deep").encode())
    assert time.monotonic() - start < 20


@pytest.mark.parametrize(
    ("front", "title"), [("date: 2024-13-45", ""), ("title: [a, b]", ""), ("title: A Harbour", "A Harbour")]
)
def test_front_matter_that_makes_no_sense_costs_the_title_alone(front: str, title: str) -> None:
    read = DOCUMENT_PARSERS[".md"](f"---\n{front}\n---\n\nThe text.".encode(), "")
    assert read.title == title
    assert "The text." in "\n".join(text for _, text in read.sections)


def test_a_nul_byte_in_utf_8_is_damage() -> None:
    raw = ("Zażółć gęślą jaźń. " * 10 + "\0" + "The end.").encode()
    assert clean_text(decode_text(raw)) == "Zażółć gęślą jaźń. " * 10 + "The end."
    assert decode_text(("The harbour opened in 1932. " * 20).encode("utf-16-le")).startswith("The harbour")
    with pytest.raises(UnreadableDocumentError, match="bytes that no text has"):
        decode_text(b"\x89PNG\x00\x00\x01\x02" * 50)


def make_book(*packed: str) -> bytes:
    opf = (
        '<package><manifest><item id="one" href="one.xhtml"/><item id="two" href="two.xhtml"/></manifest>'
        '<spine><itemref idref="one"/><itemref idref="two"/><itemref idref="three"/></spine></package>'
    )
    file = BytesIO()
    with zipfile.ZipFile(file, "w") as book:
        book.writestr("META-INF/container.xml", '<c><rootfile full-path="b/book.opf"/></c>')
        book.writestr("b/book.opf", opf)
        for name in packed:
            book.writestr(f"b/{name}.xhtml", f"<html><body><p>Chapter {name}.</p></body></html>")
    return file.getvalue()


def test_a_missing_chapter_costs_that_chapter() -> None:
    assert text_of(".epub", make_book("two")).strip() == "Chapter two."
    with pytest.raises(UnreadableDocumentError, match="none of the chapters"):
        text_of(".epub", make_book())


def test_a_chapter_is_found_in_another_folder_and_by_a_place_in_it() -> None:
    opf = (
        '<package><manifest><item id="one" href="../text/one.xhtml#start"/></manifest>'
        '<spine><itemref idref="one"/></spine></package>'
    )
    file = BytesIO()
    with zipfile.ZipFile(file, "w") as book:
        book.writestr("META-INF/container.xml", '<c><rootfile full-path="b/book.opf"/></c>')
        book.writestr("b/book.opf", opf)
        book.writestr("text/one.xhtml", "<html><body><p>Chapter one.</p></body></html>")
    assert text_of(".epub", file.getvalue()).strip() == "Chapter one."


def write_archive(path: Path, content_type: str, body: bytes) -> Path:
    path.write_bytes(record_of(f"Content-Type: {content_type}", body))
    return path


def record_of(header: str, body: bytes, address: str = "http://a.example/") -> bytes:
    http = f"HTTP/1.1 200 OK\r\n{header}\r\n\r\n".encode() + body
    head = (
        f"WARC/1.0\r\nWARC-Type: response\r\nWARC-Target-URI: {address}\r\n"
        "WARC-Record-ID: <urn:uuid:1>\r\nWARC-Date: 2024-01-01T00:00:00Z\r\n"
        f"Content-Type: application/http; msgtype=response\r\nContent-Length: {len(http)}\r\n\r\n"
    )
    return head.encode() + http + b"\r\n\r\n"


def test_a_page_that_is_not_packed_as_its_server_says_costs_no_other(tmp_path: Path) -> None:
    page, html = b"<p>Open.</p>", "Content-Type: text/html\r\n"
    records = {
        "gzip": (f"{html}Content-Encoding: gzip", gzip.compress(page)),
        "deflate": (f"{html}Content-Encoding: deflate", zlib.compress(page)),
        "parts": (f"{html}Transfer-Encoding: chunked", b"5\r\n<p>Op\r\n7\r\nen.</p>\r\n0\r\n\r\n"),
        "kept unpacked": (f"{html}Content-Encoding: gzip", page),
        "kept whole": (f"{html}Transfer-Encoding: chunked", page),
        "unknown": (f"{html}Content-Encoding: zstd", b"\x00\x01\x02"),
        "last": (html.strip(), page),
    }
    raw = b"".join(record_of(*record, f"http://a/{name}") for name, record in records.items())
    (tmp_path / "a.warc").write_bytes(raw + record_of(html.strip(), page, "http://a/cut")[:-12])
    report = CorpusReport()
    found = [each.document_id for each in read_passages(tmp_path, report=report) if each.text == "Open."]
    assert found == [f"http://a/{name}" for name in records if name != "unknown"]
    assert report.failures == {"not text": 1, "damaged archive": 1}


@pytest.mark.parametrize(
    ("content_type", "text", "encoding"),
    [
        ("text/html; charset=iso-8859-2", "Żółć i gęś", "iso-8859-2"),
        ('text/plain; charset="Shift_JIS"', "港は1932年", "shift_jis"),
        ("text/html; charset=ascii", "Gęś", "utf-8"),
        ("text/html; charset=no-such", "Gęś", "utf-8"),
        ("text/html", "Gęś", "utf-8"),
        ("text/html; charset=iso-8859-1", "Gęś", "utf-8"),
        ("text/html; charset=iso-8859-1", "“Café”", "cp1252"),
    ],
)
def test_an_archived_page_is_decoded_as_its_server_says_where_that_fits(
    tmp_path: Path, content_type: str, text: str, encoding: str
) -> None:
    body = text if "plain" in content_type else f"<html><body><p>{text}</p></body></html>"
    [(_, read)] = read_archive(write_archive(tmp_path / "a.warc", content_type, body.encode(encoding)), 10**6)
    assert text_of(*read()).strip() == text


@pytest.mark.parametrize(
    ("part", "is_kept"),
    [
        ('<div class="menu"><p>Soup of the day, with <a href="b">bread</a>.</p></div>', True),
        ('<article class="related"><p>Soup of the day.</p></article>', True),
        ('<section id="sidebar"><p>Soup of the day.</p></section>', True),
        ('<div class="menu"><a href="s">Soup</a> | <a href="f">Fish</a></div>', False),
        ('<ul class="menu"><li>Soup</li></ul>', False),
        ('<div class="sidebar"><p>Soup</p></div>', False),
        ("<form><textarea>Soup</textarea></form>", False),
    ],
)
def test_a_name_for_navigation_leaves_out_navigation_alone(part: str, is_kept: bool) -> None:
    text = text_of(".html", f"<html><body><p>Welcome.</p>{part}</body></html>".encode())
    assert "Welcome." in text
    assert ("Soup" in text) == is_kept


def test_a_placeholder_in_markdown_is_text() -> None:
    assert (
        text_of(".md", b"Set it to <your-token> and <b>go</b>.").strip() == "Set it to <your-token> and go."
    )


def test_a_line_break_on_a_slide_is_a_line_break() -> None:
    slides = pptx.Presentation()
    box = slides.slides.add_slide(slides.slide_layouts[6]).shapes.add_textbox(0, 0, 10**6, 10**6)
    box.text_frame.text = "one\vtwo"
    file = BytesIO()
    slides.save(file)
    assert text_of(".pptx", file.getvalue()) == "one\ntwo"


def test_an_office_file_with_a_password_says_so_and_a_lock_is_no_document(tmp_path: Path) -> None:
    locked = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(1000) + "EncryptedPackage".encode("utf-16-le")
    for kind in ("docx", "xlsx", "pptx"):
        (tmp_path / f"a.{kind}").write_bytes(locked)
    (tmp_path / "~$b.docx").write_bytes(b"\x03Ada" + bytes(150))
    (tmp_path / "c.txt").write_text("PKI is made of keys.")
    report = CorpusReport()
    assert [each.text for each in read_passages(tmp_path, report=report)] == ["PKI is made of keys."]
    assert (report.failures, report.skipped["a lock"]) == ({"password": 3}, 1)


def test_a_page_that_is_called_a_sheet_is_read() -> None:
    page = b"<html><table><tr><th>Name</th><th>Price</th></tr><tr><td>Tea</td><td>3</td></tr></table></html>"
    assert text_of(".xls", page).split() == ["Name", f"Price{HEADINGS_END}", "Tea", "3"]


def test_what_docutils_says_of_an_error_is_no_text_of_the_document() -> None:
    assert text_of(".rst", b"* a\n b\n\nSee `it`_.\n").split() == ["a", "b", "See", "`it`_."]


def test_a_formula_of_restructured_text_is_read_as_it_is_written() -> None:
    assert text_of(".rst", rb"Say :math:`\frac{` and :math:`a^2`.").strip() == r"Say \frac{ and a^2."


def test_a_word_of_japanese_is_whole_under_its_reading() -> None:
    assert (
        text_of(".html", "<p><ruby>東<rp>(</rp><rt>とう</rt>京<rt>きょう</rt></ruby>へ</p>".encode())
        == "東京へ"
    )


@pytest.mark.parametrize("order", ["", "<spine/>"])
def test_a_book_without_an_order_is_read_in_that_of_its_files(order: str) -> None:
    opf = (
        '<package><manifest><item id="n" href="toc.ncx"/><item id="a" href="a.xhtml"/><item id="b" href="b.html"/>'
        f"</manifest>{order}</package>"
    )
    file = BytesIO()
    with zipfile.ZipFile(file, "w") as book:
        book.writestr("META-INF/container.xml", '<c><rootfile full-path="book.opf"/></c>')
        book.writestr("book.opf", opf)
        book.writestr("toc.ncx", "<ncx>Contents</ncx>")
        book.writestr("a.xhtml", "<html><body><p>One.</p></body></html>")
        book.writestr("b.html", "<html><body><p>Two.</p></body></html>")
    assert text_of(".epub", file.getvalue()).split() == ["One.", "Two."]
