"""Every format to passages, through the process that parses."""

from __future__ import annotations

import io
import os
import signal
import threading
import zipfile
from pathlib import Path

import pytest

from masksearch_agent.config.corpus import CorpusSettings
from masksearch_agent.corpus.documents import DOCUMENT_PARSERS
from masksearch_agent.corpus.encodings import decode_text
from masksearch_agent.corpus.process import ParserProcess
from masksearch_agent.corpus.readers import read_passages
from masksearch_agent.corpus.report import CorpusReport
from masksearch_agent.errors import UnreadableDocumentError
from masksearch_agent.records import Passage

PAGE = """<!doctype html><html><head><title>The  Page</title><style>p {}</style></head>
<body><nav>Home</nav><main><h1>Heading</h1>
<p>A <b>bold</b>
word.<br>New line &amp; more.</p><script>alert(1)</script>
<ul>
 <li>one</li>
 <li>two</li>
</ul>
<table><tr><td>1</td><td>2</td></tr></table></main><footer>Imprint</footer></body></html>"""


def make_pdf(*pages: str, title: str = "A Small File", to_unicode: str = "") -> bytes:
    """Write a PDF file by hand; `to_unicode` maps the letter A to code units in hexadecimal."""
    count = len(pages)
    cmap = (
        "/CIDInit /ProcSet findresource begin 12 dict begin begincmap /CMapName /X def /CMapType 2 def "
        f"1 begincodespacerange <00> <FF> endcodespacerange 1 beginbfchar <41> <{to_unicode}> endbfchar endcmap"
    )
    font = "<</Type/Font/Subtype/Type1/BaseFont/Helvetica/Encoding/WinAnsiEncoding"
    objects = [
        "<</Type/Catalog/Pages 2 0 R>>",
        f"<</Type/Pages/Kids[{' '.join(f'{6 + 2 * n} 0 R' for n in range(count))}]/Count {count}>>",
        f"{font}{'/ToUnicode 5 0 R' if to_unicode else ''}>>",
        f"<</Title({title})>>",
        f"<</Length {len(cmap)}>>stream\n{cmap}\nendstream",
    ]
    for number, text in enumerate(pages):
        content = f"BT /F1 12 Tf 72 720 Td ({text}) Tj ET"
        box = "/MediaBox[0 0 612 792]"
        contents = f"/Contents {7 + 2 * number} 0 R/Resources<</Font<</F1 3 0 R>>>>"
        objects.append(f"<</Type/Page/Parent 2 0 R{box}{contents}>>")
        objects.append(f"<</Length {len(content)}>>stream\n{content}\nendstream")
    pdf, offsets = b"%PDF-1.4\n", []
    for number, each in enumerate(objects, start=1):
        offsets.append(len(pdf))
        pdf += f"{number} 0 obj{each} endobj\n".encode()
    start, size = len(pdf), len(objects) + 1
    pdf += f"xref\n0 {size}\n0000000000 65535 f \n".encode()
    pdf += b"".join(b"%010d 00000 n \n" % each for each in offsets)
    return pdf + f"trailer<</Size {size}/Root 1 0 R/Info 4 0 R>>\nstartxref\n{start}\n%%EOF".encode()


def pack(files: dict[str, str]) -> bytes:
    """Return a ZIP file."""
    raw = io.BytesIO()
    with zipfile.ZipFile(raw, "w") as packed:
        for name, content in files.items():
            packed.writestr(name, content)
    return raw.getvalue()


def make_docx() -> bytes:
    """Write a Word file by hand: a heading of each of two levels, a paragraph below each, and a table."""
    space = "http://schemas.openxmlformats.org"

    def paragraph(text: str, style: str = "") -> str:
        look = f'<w:pPr><w:pStyle w:val="{style}"/></w:pPr>' if style else ""
        return f"<w:p>{look}<w:r><w:t>{text}</w:t></w:r></w:p>"

    cells = "".join(f"<w:tc>{paragraph(text)}</w:tc>" for text in ("Bridge", "1932"))
    body = (
        paragraph("Guide", "Heading1") + paragraph("What it is.") + paragraph("Install", "Heading2")
        + paragraph("Run it.") + f"<w:tbl><w:tr>{cells}</w:tr></w:tbl>"
    )  # fmt: skip
    kind = "application/vnd.openxmlformats-officedocument.wordprocessingml.document.main+xml"
    office = f"{space}/officeDocument/2006/relationships"
    styles = "".join(
        f'<w:style w:type="paragraph" w:styleId="Heading{n}"><w:name w:val="heading {n}"/></w:style>'
        for n in (1, 2)
    )
    main = f'xmlns:w="{space}/wordprocessingml/2006/main"'

    def relation(part: str, target: str) -> str:
        one = f'<Relationship Id="r" Type="{office}/{part}" Target="{target}"/>'
        return f'<Relationships xmlns="{space}/package/2006/relationships">{one}</Relationships>'

    return pack(
        {
            "[Content_Types].xml": f'<Types xmlns="{space}/package/2006/content-types">'
            '<Default Extension="xml" ContentType="application/xml"/>'
            f'<Override PartName="/word/document.xml" ContentType="{kind}"/></Types>',
            "_rels/.rels": relation("officeDocument", "word/document.xml"),
            "word/_rels/document.xml.rels": relation("styles", "styles.xml"),
            "word/document.xml": f"<w:document {main}><w:body>{body}</w:body></w:document>",
            "word/styles.xml": f"<w:styles {main}>{styles}</w:styles>",
        }
    )


def make_epub() -> bytes:
    """Write an e-book by hand whose chapters are not in the order of their names."""
    container = '<rootfiles><rootfile full-path="OEBPS/book.opf"/></rootfiles>'
    opf = (
        '<package xmlns="http://www.idpf.org/2007/opf" xmlns:dc="http://purl.org/dc/elements/1.1/">'
        "<metadata><dc:title>The Harbour</dc:title></metadata><manifest>"
        '<item id="one" href="z%20first.xhtml"/><item id="two" href="a.xhtml"/></manifest>'
        '<spine><itemref idref="one"/><itemref idref="two"/></spine></package>'
    )
    return pack(
        {
            "META-INF/container.xml": f"<container>{container}</container>",
            "OEBPS/book.opf": opf,
            "OEBPS/z first.xhtml": "<html><title/><body><h1>Building</h1><p>It took years.</p></body></html>",
            "OEBPS/a.xhtml": "<html><body><h1>Opening</h1><p>In 1932.</p></body></html>",
        }
    )


@pytest.fixture(scope="module")
def parsed() -> dict[str, list[tuple[str, str]]]:
    """What each document below gives, as title and text of its passages; all are read by one process."""
    pptx, xlsxwriter = pytest.importorskip("pptx"), pytest.importorskip("xlsxwriter")
    slides = pptx.Presentation()
    for title, text in (("Plan", "Build it."), ("Cost", "A lot.")):
        slide = slides.slides.add_slide(slides.slide_layouts[1])
        slide.shapes.title.text, slide.placeholders[1].text = title, text
    slides.slides[1].notes_slide.notes_text_frame.text = "Say it softly."
    table = slides.slides[1].shapes.add_table(1, 2, 0, 0, 9, 9).table
    table.cell(0, 0).text, table.cell(0, 1).text = "Steel", "3 t"
    pptx_file, xlsx_file = io.BytesIO(), io.BytesIO()
    slides.save(pptx_file)
    with xlsxwriter.Workbook(xlsx_file) as book:
        for name, rows in (
            ("Bridges", [["Name", "Opened"], ["Old", 1932.0]]),
            ("Piers", [["None", None, 2.5]]),
            ("Sheet3", []),
        ):
            sheet = book.add_worksheet(name)
            for number, row in enumerate(rows):
                sheet.write_row(number, 0, row)
    documents = {
        "page.html": PAGE.encode(),
        "gb.html": '<meta charset="gb18030"><title>标题</title><p>正文</p>'.encode("gb18030"),
        "aspnet.html": b'<title>Harbour</title><form id="f" action="x"><h1>Harbour</h1><p>Since 1932.</p></form>',
        "empty_main.html": b"<title>Harbour</title><main></main><div><p>Since 1932.</p></div>",
        "header.html": b"<article><header><h1>Harbour</h1><p>Since 1932.</p></header><p>Two piers.</p></article>",
        "only_nav.html": b"<title>Harbour</title><div class=menu><p>Soup, fish.</p></div>",
        "noscript.html": b"<title>Harbour</title><noscript><p>Since 1932.</p></noscript><script>x()</script>",
        "docbook.html": b"""<title>Pages</title><div class="navheader"><a href="a">Prev</a></div>
            <div class="toc"><dl><dt>12.1. RAID</dt></dl></div><div role="navigation">Menu</div>
            <div class="sect1 related-work" id="contents"><p>A navigator reads the table.</p></div>
            <div class="navfooter">Next</div>""",
        "figure.html": b"""<title>Harbour</title><p>Run:</p><figure><pre>dig --deep</pre></figure>
            <figure><img src="a" alt="Picture"><video>No video.</video><figcaption>By Anna Holm.</figcaption></figure>
            <figure><table><tr><td>Mole</td><td>9 m</td></tr></table></figure>
            <form><label>Open: 9 to 5 <input value="typed"></label><button>Send</button></form>""",
        "page.xhtml": b"""<?xml version="1.0"?><html><head><title/><script src="a > b"/><link href="c"/></head>
            <body><aside class="break"/><p>Since<br/>1932.</p></body></html>""",
        "guide.html": b"<title>Guide</title><h1>Guide</h1><p>Intro.</p><h2>Install</h2><p>Run.</p><h3>Linux</h3>"
        b"<pre>a\n  b</pre><h2>Use</h2><p>Use it.</p>",
        "front.md": b"---\ntitle: Harbour of Aldin\n# draft: remove before launch\n---\n\nIt opened in 1932.\n",
        "fence.md": b"First:\n\n```bash\n# remove the old data\nrm -r data\n\nls\n```\n\n# Harbour\n\nOpen.\n",
        "crlf.md": b"# Harbour\r\n\r\nIt opened\r\nin 1932.\r\n",
        "setext.md": b"Guide\n=====\n\nIntro *here*.\n\nInstall\n-------\n\n| a | b |\n|---|---|\n| 1 | 2 |\n",
        "no_front.md": b"---\na: [\n---\n\nText stays.\n",
        "picture.md": b"# Harbour\n\nOpen.\n\n![plan](data:image/png;base64," + b"QUJD" * 50_000 + b")\n",
        "headings.md": b"# Report\n\n## Revenue was 5 million\n\n## Costs\n\nThey fell.\n",
        "guide.rst": b"Guide\n=====\n\nIntro.\n\nInstall\n-------\n\nRun :func:`it`.\n\n"
        b".. versionadded:: 2\n   More.\n",
        "guide.docx": make_docx(),
        "slides.pptx": pptx_file.getvalue(),
        "sheets.xlsx": xlsx_file.getvalue(),
        "book.epub": make_epub(),
        "small.pdf": make_pdf("Facts in a file."),
        "half.pdf": make_pdf("Facts about A here.", to_unicode="D835"),
        "latin.txt": "Der Müller fährt über die Brücke. Das Café öffnet früh, außer am Sonntag.".encode("cp1252"),
        "russian.txt": "Мост был открыт в 1932 году. Он находится в городе.".encode("koi8-r"),
        "utf16.txt": "\ufeffThe harbour.".encode("utf-16-le"),
        "mojibake.txt": "Der Müller fährt.".encode().decode("cp1252").encode(),
        "damaged.txt": "Größe über Äpfel für süße Bären und Öl".encode() + b"\xff",
    }  # fmt: skip
    process = ParserProcess(60, 100)
    try:
        return {
            name: [
                (piece.title, piece.text)
                for piece in process.read(f".{name.split('.')[1]}", raw, "stem", "", 10**8)
            ]
            for name, raw in documents.items()
        }
    finally:
        process.close()


@pytest.mark.parametrize(
    ("name", "passages"),
    [
        ("page.html", [("The Page › Heading", "A bold word.\nNew line & more.\n\none\ntwo\n1 2")]),
        ("gb.html", [("标题", "正文")]),
        ("aspnet.html", [("Harbour", "Since 1932.")]),
        ("empty_main.html", [("Harbour", "Since 1932.")]),
        ("header.html", [("Harbour", "Since 1932.\n\nTwo piers.")]),
        ("only_nav.html", [("Harbour", "Soup, fish.")]),
        ("noscript.html", [("Harbour", "Since 1932.")]),
        ("docbook.html", [("Pages", "A navigator reads the table.")]),
        ("figure.html", [("Harbour", "Run:\n\ndig --deep\nBy Anna Holm.\nMole 9 m\nOpen: 9 to 5")]),
        ("page.xhtml", [("stem", "Since\n1932.")]),
        (
            "guide.html",
            [
                ("Guide", "Intro."),
                ("Guide › Install", "Run."),
                ("Guide › Install › Linux", "a\n  b"),
                ("Guide › Use", "Use it."),
            ],
        ),
        ("front.md", [("Harbour of Aldin", "It opened in 1932.")]),
        ("fence.md", [("Harbour", "First:\n\n# remove the old data\nrm -r data\n\nls\n\nOpen.")]),
        ("crlf.md", [("Harbour", "It opened in 1932.")]),
        ("setext.md", [("Guide", "Intro here."), ("Guide › Install", "a b\n1 2")]),
        ("no_front.md", [("a: [", "Text stays.")]),
        (
            "headings.md",
            [
                ("Report › Revenue was 5 million", "Revenue was 5 million"),
                ("Report › Costs", "They fell."),
            ],
        ),
        ("picture.md", [("Harbour", "Open.")]),
        ("guide.rst", [("Guide", "Intro."), ("Guide › Install", "Run :func:`it`.\n\n.. versionadded:: 2\n   More.")]),
        ("guide.docx", [("Guide", "What it is."), ("Guide › Install", "Run it.\n\nBridge 1932")]),
        ("slides.pptx", [("Plan", "Build it."), ("Cost", "A lot.\n\nSteel | 3 t\n\nSay it softly.")]),
        ("sheets.xlsx", [("Bridges", "Name | Opened\nOld | 1932"), ("Piers", "None | 2.5")]),
        ("book.epub", [("The Harbour › Building", "It took years."), ("The Harbour › Opening", "In 1932.")]),
        ("small.pdf", [("A Small File", "Facts in a file.")]),
        ("half.pdf", [("A Small File", "Facts about \ufffd here.")]),
        ("latin.txt", [("stem", "Der Müller fährt über die Brücke. Das Café öffnet früh, außer am Sonntag.")]),
        ("russian.txt", [("stem", "Мост был открыт в 1932 году. Он находится в городе.")]),
        ("utf16.txt", [("stem", "The harbour.")]),
        ("mojibake.txt", [("stem", "Der Müller fährt.")]),
        ("damaged.txt", [("stem", "Größe über Äpfel für süße Bären und Öl\ufffd")]),
    ],
)  # fmt: skip
def test_a_document_is_read_under_its_headings(
    parsed: dict[str, list[tuple[str, str]]], name: str, passages: list[tuple[str, str]]
) -> None:
    assert parsed[name] == passages


def test_a_passage_of_a_pdf_file_knows_its_page(tmp_path: Path) -> None:
    words = " ".join(["word"] * 8)
    (tmp_path / "a.pdf").write_bytes(make_pdf(f"One {words}.", f"Two {words}.", f"Three {words}."))
    passages = list(read_passages(tmp_path / "a.pdf", CorpusSettings(max_words=10)))
    assert [(each.text.split()[0], each.metadata) for each in passages] == [
        ("One", {"page": 1}),
        ("Two", {"page": 2}),
        ("Three", {"page": 3}),
    ]


def test_a_passage_knows_its_headings_and_where_it_stands(tmp_path: Path) -> None:
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "g.md").write_text("# Guide\n\nIntro.\n\n## Install\n\nRun it.")
    first, second = read_passages(tmp_path)
    assert (first.source, first.document_id, first.metadata) == (
        "docs/g.md",
        "docs/g.md",
        {"headings": ("Guide",)},
    )
    assert (second.title, second.position) == ("Guide › Install", 1)
    assert second.metadata == {"headings": ("Guide", "Install")}
    assert isinstance(second, Passage)


def test_a_broken_file_of_any_format_costs_that_file(tmp_path: Path) -> None:
    for suffix in sorted(
        set(DOCUMENT_PARSERS) - {".txt", ".md", ".markdown", ".html", ".htm", ".xhtml", ".rst"}
    ):
        (tmp_path / f"broken{suffix}").write_bytes(b"PK\x03\x04 this is no such file")
    (tmp_path / "b.pdf").write_bytes(b"%PDF-1.4 nothing that follows")
    (tmp_path / "c.pdf").write_bytes(make_pdf(""))
    (tmp_path / "image.txt").write_bytes(b"\x89PNG\x00\x00\x01\x02" * 50)
    (tmp_path / "z.txt").write_text("The rest.")
    report = CorpusReport()
    assert [each.text for each in read_passages(tmp_path, report=report)] == ["The rest."]
    assert report.failures == {
        **{f"broken {kind}": 1 for kind in ("docx", "eml", "epub", "ods", "pptx", "xls", "xlsx")},
        **{"broken pdf": 2, "not text": 1},
    }
    assert report.skipped["no text"] == 1


def test_a_packed_file_is_held_to_what_it_holds_unpacked(tmp_path: Path) -> None:
    raw = io.BytesIO()
    with zipfile.ZipFile(raw, "w", zipfile.ZIP_DEFLATED) as packed:
        packed.writestr("word/document.xml", " " * 5_000_000)
    (tmp_path / "bomb.docx").write_bytes(raw.getvalue())
    (tmp_path / "a.txt").write_text("x" * 100_001)
    (tmp_path / "z.txt").write_text("The rest.")
    report = CorpusReport()
    settings = CorpusSettings(max_file_bytes=100_000)
    assert [each.text for each in read_passages(tmp_path, settings, report)] == ["The rest."]
    assert report.failures == {"too large": 2}
    assert "100,000 bytes (corpus.max_file_bytes)" in report.examples[0]


def test_a_document_that_takes_too_long_costs_that_document() -> None:
    process = ParserProcess(0.001, 100)  # Less than it takes to import the parser.
    try:
        with pytest.raises(UnreadableDocumentError, match=r"took longer than 0\.001 s to read") as failure:
            process.read(".html", b"<p>One.</p>" * 1000, "a", "", 10**6)
        assert failure.value.reason == "takes too long"
        process.max_seconds = 60
        assert [piece.text for piece in process.read(".html", b"<p>Two.</p>", "b", "", 10**6)] == ["Two."]
    finally:
        process.close()


def test_the_time_of_a_busy_machine_is_no_document_s() -> None:
    process = ParserProcess(3, 100)
    try:
        process.read(".html", b"<p>One.</p>", "a", "", 10**6)
        assert process._process is not None
        pid = process._process.pid
        # The parser stands still for longer than it may work.
        pauses = [
            threading.Timer(0.1, os.kill, (pid, signal.SIGSTOP)),
            threading.Timer(4, os.kill, (pid, signal.SIGCONT)),
        ]
        for pause in pauses:
            pause.start()
        page = "".join(f"<p>Paragraph {n} about a harbour.</p>" for n in range(10_000)).encode()
        pieces = process.read(".html", page, "p", "", 10**8)
        for pause in pauses:
            pause.join()
    finally:
        process.close()
    assert sum(piece.text.count("Paragraph") for piece in pieces) == 10_000


def test_a_parser_that_crashes_costs_that_document(monkeypatch: pytest.MonkeyPatch) -> None:
    process = ParserProcess(60, 100)
    assert [piece.text for piece in process.read(".txt", b"One.", "a", "", 10**6)] == ["One."]
    assert process._process is not None
    first = process._process
    first.kill()
    first.wait()
    with pytest.raises(UnreadableDocumentError, match="its parser ended with status -9"):
        process.read(".txt", b"Two.", "b", "", 10**6)
    assert [piece.text for piece in process.read(".txt", b"Three.", "c", "", 10**6)] == ["Three."]
    process.close()
    assert first.poll() is not None
    assert process._process is None


@pytest.mark.parametrize("count", [2_500, 10_000])
def test_time_grows_with_the_size_of_a_page_and_no_faster(count: int) -> None:
    # 10,000 paragraphs take a quarter of a second; a quadratic parser took minutes.
    page = (
        "<html><body>"
        + "".join(f"<p>Paragraph {n} about a harbour.</p>" for n in range(count))
        + "</body></html>"
    )
    process = ParserProcess(30, 100)
    try:
        pieces = process.read(".html", page.encode(), "p", "", 10**8)
    finally:
        process.close()
    assert sum(piece.text.count("Paragraph") for piece in pieces) == count


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        (".md", "#" * 50_000 + " x"),
        (".md", "# " + "x " * 50_000 + "\n\ntext"),
        (".md", "# Title\n\n" + "a" * 300_000),
        (".txt", "function(){" + "a=b;" * 50_000 + "}"),
        (".txt", "QUJD" * 50_000),
        (".txt", "word" + " " * 100_000 + "\n" * 100_000 + "word"),
        (".txt", "長" * 20_000),
        (".html", "<p>" + "&amp;" * 50_000),
        (".xhtml", "<p>text</p>" + "<a" * 50_000 + "a" * 100_000 + " '" * 50_000 + "/" * 100_000),
        (".rst", "=" * 20_000 + "\n\n" + "*" * 20_000),
    ],
)
def test_no_passage_exceeds_its_bound(kind: str, text: str, parser: ParserProcess) -> None:
    pieces = parser.read(kind, text.encode(), "name", "", 10**8)
    assert pieces
    assert max(len(piece.text) for piece in pieces) <= 20 * 100
    assert max(len(piece.title) for piece in pieces) <= 200


@pytest.fixture(scope="module")
def parser() -> ParserProcess:
    return ParserProcess(30, 100)


def test_an_encoding_that_is_named_is_the_one_that_is_read() -> None:
    assert decode_text("中文".encode("gb18030"), "gb18030") == "中文"
    with pytest.raises(UnreadableDocumentError, match=r"not ASCII .*set corpus.encoding"):
        decode_text("é".encode(), "ascii")
