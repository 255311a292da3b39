from __future__ import annotations

from pathlib import Path

import pytest

from masksearch_agent.corpus.documents import DOCUMENT_PARSERS
from masksearch_agent.corpus.readers import read_passages
from masksearch_agent.corpus.report import CorpusReport

PAGE = """<!doctype html><html><head><title>The  Page</title><style>p {}</style></head>
<body><nav>Home</nav><main><h1>Heading</h1>
<p>A <b>bold</b>
word.<br>New line &amp; more.</p><script>alert(1)</script>
<ul>
 <li>one</li>
 <li>two</li>
</ul>
<table><tr><td>1</td><td>2</td></tr></table></main><footer>Imprint</footer></body></html>"""


def make_pdf(text: str) -> bytes:
    """Write a PDF file of one page by hand."""
    content = f"BT /F1 12 Tf 72 720 Td ({text}) Tj ET".encode()
    objects = [
        b"<</Type/Catalog/Pages 2 0 R>>",
        b"<</Type/Pages/Kids[3 0 R]/Count 1>>",
        b"<</Type/Page/Parent 2 0 R/MediaBox[0 0 612 792]/Contents 4 0 R/Resources<</Font<</F1 5 0 R>>>>>>",
        b"<</Length %d>>stream\n%s\nendstream" % (len(content), content),
        b"<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>",
        b"<</Title(A Small File)>>",
    ]
    pdf, offsets = b"%PDF-1.4\n", []
    for number, each in enumerate(objects, start=1):
        offsets.append(len(pdf))
        pdf += b"%d 0 obj%s endobj\n" % (number, each)
    start = len(pdf)
    pdf += b"xref\n0 7\n0000000000 65535 f \n" + b"".join(b"%010d 00000 n \n" % each for each in offsets)
    return pdf + b"trailer<</Size 7/Root 1 0 R/Info 6 0 R>>\nstartxref\n%d\n%%%%EOF" % start


def test_the_main_part_of_a_web_page_is_read_in_paragraphs():
    pytest.importorskip("bs4")
    title, text = DOCUMENT_PARSERS[".html"](PAGE.encode(), "utf-8")
    assert title == "The Page"
    assert text == "Heading\n\nA bold word. New line & more.\n\none\ntwo\n\n1 2"


def test_a_web_page_says_its_own_encoding():
    pytest.importorskip("bs4")
    page = '<html><head><meta charset="gb18030"><title>标题</title></head><body><p>正文</p></body></html>'
    assert DOCUMENT_PARSERS[".html"](page.encode("gb18030"), "utf-8") == ("标题", "正文")


def test_pdf_files_are_read_and_broken_ones_skipped(tmp_path: Path):
    pytest.importorskip("pypdf")
    (tmp_path / "a.pdf").write_bytes(make_pdf("Facts in a file."))
    (tmp_path / "b.pdf").write_bytes(b"%PDF-1.4 nothing that follows")
    (tmp_path / "c.pdf").write_bytes(make_pdf(""))
    report = CorpusReport()
    (passage,) = read_passages(tmp_path, report=report)
    assert (passage.title, passage.text, passage.source) == ("A Small File", "Facts in a file.", "a.pdf")
    assert report.skipped == {"broken PDF": 1, "no text": 1}
    assert report.examples[0].startswith("b.pdf: pypdf cannot read the PDF file")


def test_navigation_without_the_tag_for_it_is_left_out() -> None:
    page = b"""<html><head><title>Pages</title></head><body>
    <div class="navheader"><a href="a">Prev</a> <a href="b">Up</a></div>
    <div class="toc"><dl><dt>12.1. RAID</dt></dl></div>
    <div role="navigation">Menu</div>
    <div class="sect1 related-work" id="contents"><p>A navigator reads the table.</p></div>
    <div class="navfooter">Next</div></body></html>"""
    assert DOCUMENT_PARSERS[".html"](page, "utf-8") == ("Pages", "A navigator reads the table.")
