"""Documents to plain text in sections: text, Markdown, reStructuredText, web pages, PDF, office files, e-books.

What has headings becomes HTML by the library of its format, and one function reads the sections off it; so code stays
whole, pictures are left out, and a section is known by its headings, whatever the format. A file that cannot be read
is an `UnreadableDocumentError`. Which library and why: docs/documents.md.
"""

from __future__ import annotations

import html
import re
import zipfile
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from importlib.util import find_spec
from io import BytesIO
from pathlib import PurePosixPath
from typing import Any, NamedTuple
from urllib.parse import unquote
from xml.etree import ElementTree

from masksearch_agent.errors import MissingExtraError, UnreadableDocumentError, needs_extra
from masksearch_agent.text.values import as_text

__all__ = (
    "DOCUMENT_PARSERS",
    "PAGE_BREAK",
    "Document",
    "Section",
    "decode_text",
    "find_encoding",
    "require_parser",
)

Section = tuple[tuple[str, ...], str]
"""The headings over a section, from the outermost on, and its text."""
PAGE_BREAK = "\f"


class Document(NamedTuple):
    """What a file says."""

    title: str
    """What the file itself calls it; empty where it says nothing."""
    sections: list[Section]
    """Text in paragraphs, with an empty line between them; a PDF file has page breaks in it."""


_NOT_CONTENT = (
    *("nav", "navbar", "navigation", "navheader", "navfooter", "toc", "sidebar", "sphinxsidebar"),
    *("breadcrumb", "breadcrumbs", "pagination", "skip-link", "skiplink", "headerlink", "footer"),
    *("indexterms", "genindextable", "indexdiv", "contents-list"),
)
"""Classes and ids of what leads to other pages and tells nothing itself (DocBook, Sphinx, Publican, MkDocs, …)."""
_CONTENT = ":not(article, main, section, body)"
_NOT_SAID = (
    "input, button, select, datalist, textarea",  # What a reader fills in is not what the page says.
    "img, area, svg, video, audio, object",  # Their text is for browsers that can't show them.
)
_SKIPPED = (
    *_NOT_SAID,
    "nav, footer, aside, script, style, template, iframe, [role=navigation], [role=search]",
    '[hidden], [style*="display:none"], [style*="display: none"]',
    *(f"{mark}{name}{_CONTENT}" for mark in ".#" for name in _NOT_CONTENT),
    "ul.menu, ol.menu, ul.related, ol.related",
    # Of docutils; what a directive of Sphinx's says stays, as it is written.
    ".system-messages, [id^=system-message], .system-message p",
)
_LINK_LISTS = "div.menu, div.related"
"""Called so by navigation, where most of the text is links, and by what a restaurant serves."""
_HEADING = re.compile(r"<h([1-6])>(.*?)</h\1>", re.DOTALL)
_PLACEHOLDER = re.compile(r"<[A-Za-z]\w*(?:-\w+)+>")
"""What stands for a word of the reader's, `<your-token>`; no tag of HTML's has a hyphen in it."""
_TAG = re.compile(r"<[^>]*>")
_VOID = "area|base|br|col|embed|hr|img|input|link|meta|source|track|wbr"
_SELF_CLOSED = re.compile(
    rf"""<(?!(?:{_VOID})[\s/])([A-Za-z][^\s<>/]*+)(?:[^<>"']|"[^"<]*"|'[^'<]*')*+(?<=/)>"""
)
"""A tag of XHTML's that is its own end; HTML knows that of the void ones alone, and takes `<title/>` for a start."""
_CELL_GAP = re.compile(r"(?<=\S)\t+")
_BREAK = re.compile(r"\n\s*\n")
# A word that a line end cut in two; `1990-\n1995` and `Jean-\nPaul` keep their hyphen.
_CUT_WORD = re.compile(r"(?<=[a-z])-\n(?=[a-z])")
_MARKS = {b"\xef\xbb\xbf": "utf-8-sig", b"\xff\xfe": "utf-16", b"\xfe\xff": "utf-16"}
_NOT_ASCII = re.compile(r"[^\x00-\x7f]+")
_GUESSED_BYTES = 100_000
_NESTING = 40
"""Lists and quotations in one another that Markdown is read with; brackets take time in proportion to it."""
_NULS = 100
"""Bytes to a NUL byte that make a text UTF-8 with damage and not one of wide characters, or no text."""
_MOSTLY = 4
"""Good characters to a bad one that make a text UTF-8 with damage and not another encoding."""


def decode_text(raw: bytes, encoding: str = "", is_web_page: bool = False) -> str:
    """Return the text of a file, without a byte order mark; `encoding` is found where empty.

    Raises:
        UnreadableDocumentError: It is in another encoding, or no text.
    """
    found = encoding or find_encoding(raw, is_web_page)
    errors = "replace" if found == "utf-8" and not encoding else "strict"
    try:
        return raw.decode(found, errors).removeprefix("\ufeff")
    except (UnicodeDecodeError, LookupError) as failure:
        detail = f"not {found.upper()} ({failure}); set corpus.encoding"
        raise UnreadableDocumentError("wrong encoding", detail) from failure


def find_encoding(raw: bytes, is_web_page: bool = False) -> str:
    """Return the encoding of a text: that of its byte order mark, UTF-8, what a web page says, or a guess.

    Raises:
        UnreadableDocumentError: It is no text, or of no known encoding.
    """
    for mark, name in _MARKS.items():
        if raw.startswith(mark):
            return name
    if raw.count(0) * _NULS <= len(raw):
        text = raw.decode(errors="replace")
        damaged = text.count("\ufffd")
        if not damaged or (b"\0" not in raw and damaged * _MOSTLY < sum(map(len, _NOT_ASCII.findall(text)))):
            return "utf-8"
    with needs_extra("corpus"):
        from charset_normalizer import from_bytes
        from resiliparse.parse.encoding import detect_encoding
    guess = "" if b"\0" in raw else str(detect_encoding(raw, from_html_meta=is_web_page))
    if guess in ("", "utf-8"):
        best = from_bytes(raw[:_GUESSED_BYTES]).best()
        guess = best.encoding if best is not None else ""
    if b"\0" in raw and not guess.startswith(("utf_16", "utf_32")):
        raise UnreadableDocumentError("not text", "holds bytes that no text has")
    if not guess:
        raise UnreadableDocumentError("wrong encoding", "not UTF-8, and no guess fits; set corpus.encoding")
    return guess


def require_parser(suffix: str) -> None:
    """Raise `MissingExtraError` for a kind of document (a file name ending, `warc`, `wikitext`) without its parser."""
    for package in ("semantic_text_splitter", *_PACKAGES.get(suffix, ())):
        if find_spec(package) is None:
            raise MissingExtraError(package, "corpus")


def _read_plain(raw: bytes, encoding: str) -> Document:
    return Document("", [((), decode_text(raw, encoding))])


def _read_markdown(raw: bytes, encoding: str) -> Document:
    import frontmatter
    from markdown_it import MarkdownIt
    from yaml import YAMLError

    text = decode_text(raw, encoding)
    try:
        said, text = frontmatter.parse(text)
    except (YAMLError, ValueError):
        said = {}  # Between two lines of hyphens stands something else, or a date that no calendar has.
    said_title = said.get("title")
    title = "" if isinstance(said_title, list | dict | set) else as_text(said_title)
    markdown = MarkdownIt("commonmark", {"maxNesting": _NESTING}).enable(["table", "strikethrough"])
    tokens = markdown.parse(text)
    for child in (child for token in tokens for child in token.children or ()):
        if child.type == "html_inline" and _PLACEHOLDER.fullmatch(child.content):
            child.type = "text"
    # What is nested deeper is left out by the parser without a word.
    if any(token.level >= _NESTING - 1 for token in tokens):
        return Document(title, [((), text)])
    return Document(title, _sections_of(markdown.renderer.render(tokens, markdown.options, {})))


def _read_rst(raw: bytes, encoding: str) -> Document:
    from docutils.core import publish_parts

    settings = {
        "file_insertion_enabled": False,
        "raw_enabled": False,
        "warning_stream": False,
        "halt_level": 5,
    }
    settings["initial_header_level"] = 2
    parts = publish_parts(decode_text(raw, encoding), writer="html4", settings_overrides=settings)
    return Document(html.unescape(_TAG.sub("", parts["title"])), _sections_of(parts["body"]))


def _read_html(raw: bytes, encoding: str) -> Document:
    return _document_of(decode_text(raw, encoding, is_web_page=True))


def _read_xhtml(raw: bytes, encoding: str) -> Document:
    return _document_of(_SELF_CLOSED.sub(r"\g<0></\1>", decode_text(raw, encoding, is_web_page=True)))


def _document_of(page: str) -> Document:
    from resiliparse.parse.html import HTMLTree

    return Document(" ".join((HTMLTree.parse(page).title or "").split()), _sections_of(page))


def _sections_of(page: str) -> list[Section]:
    """Return the sections of a web page, without scripts, navigation and what is hidden."""
    from resiliparse.extract.html2text import extract_plain_text
    from resiliparse.parse.html import HTMLTree

    # Without alternative texts it leaves out figures whole, and without what is filled in the labels.
    to_text = partial(
        extract_plain_text,
        preserve_formatting="minimal_html",
        list_bullets=False,
        alt_texts=True,
        form_fields=True,
    )
    tree = HTMLTree.parse(page)
    for part in tree.body.query_selector_all(_LINK_LISTS) if tree.body is not None else ():
        linked = sum(len((link.text or "").strip()) for link in part.get_elements_by_tag_name("a"))
        if linked * 2 > len((part.text or "").strip()):
            part.setattr("hidden", "")
    text = to_text(tree, skip_elements=_SKIPPED)
    if not text.strip():
        text = to_text(page, skip_elements=_NOT_SAID, noscript=True)
    opening, *pieces = _HEADING.split(text)
    sections: list[Section] = [((), _plain(opening))]
    path: list[tuple[int, str]] = []
    for level, heading, piece in zip(pieces[::3], pieces[1::3], pieces[2::3], strict=True):
        path = [above for above in path if above[0] < int(level)]
        path.append((int(level), " ".join(_plain(heading).split())))
        sections.append((tuple(name for _, name in path if name), _plain(piece)))
    return sections


def _plain(markup: str) -> str:
    return html.unescape(_CELL_GAP.sub(" ", _TAG.sub("", markup)))


def _read_pdf(raw: bytes, encoding: str) -> Document:
    """Read the text of a PDF file; one of scanned pages has none."""
    import pypdf

    reader = pypdf.PdfReader(BytesIO(raw))
    if reader.is_encrypted and not reader.decrypt(""):
        raise UnreadableDocumentError("password", "the PDF file needs a password")
    title = str((reader.metadata or {}).get("/Title") or "").strip()
    pages = (
        "\n\n".join(" ".join(_CUT_WORD.sub("", block).split()) for block in _BREAK.split(page.extract_text()))
        for page in reader.pages
    )
    return Document(title, [((), PAGE_BREAK.join(pages))])


def _read_word(raw: bytes, encoding: str) -> Document:
    import mammoth

    styles = "p[style-name='Title'] => h1:fresh\np[style-name='Subtitle'] => p:fresh"
    no_picture = mammoth.images.img_element(lambda _: {"src": ""})
    page = mammoth.convert_to_html(BytesIO(raw), style_map=styles, convert_image=no_picture).value
    return Document("", _sections_of(page))


def _read_slides(raw: bytes, encoding: str) -> Document:
    import pptx

    slides = pptx.Presentation(BytesIO(raw))
    sections: list[Section] = []
    for slide in slides.slides:
        title = slide.shapes.title
        name = " ".join(title.text_frame.text.split()) if title is not None else ""
        texts = [text for shape in slide.shapes if shape != title for text in _texts_of_shape(shape)]
        if slide.has_notes_slide and slide.notes_slide.notes_text_frame is not None:
            texts.append(slide.notes_slide.notes_text_frame.text)
        # A line break within a paragraph is a vertical tab.
        sections.append(((name,) if name else (), "\n\n".join(filter(None, texts)).replace("\v", "\n")))
    return Document(slides.core_properties.title or "", sections)


def _texts_of_shape(shape: Any) -> Iterator[str]:
    for inner in getattr(shape, "shapes", ()):
        yield from _texts_of_shape(inner)
    if shape.has_text_frame:
        yield shape.text_frame.text
    if shape.has_table:
        yield "\n".join(" | ".join(cell.text for cell in row.cells) for row in shape.table.rows)


def _read_sheets(raw: bytes, encoding: str) -> Document:
    import python_calamine

    book = python_calamine.CalamineWorkbook.from_filelike(BytesIO(raw))
    sections: list[Section] = []
    for name in book.sheet_names:
        rows = ([as_text(cell) for cell in row] for row in book.get_sheet_by_name(name).iter_rows())
        text = "\n".join(" | ".join(filter(None, row)) for row in rows if any(row))
        sections.append(((name,) if text else (), text))
    return Document("", sections)


def _read_book(raw: bytes, encoding: str) -> Document:
    """Read the chapters of an EPUB file in the order in which they are read."""
    with zipfile.ZipFile(BytesIO(raw)) as book:
        opener = ElementTree.fromstring(book.read("META-INF/container.xml")).find(".//{*}rootfile")
        package = PurePosixPath("" if opener is None else opener.get("full-path", ""))
        content = ElementTree.fromstring(book.read(str(package)))
        files = {item.get("id"): item.get("href", "") for item in content.iterfind(".//{*}manifest/{*}item")}
        sections: list[Section] = []
        packed, is_found = set(book.namelist()), False
        for reference in content.iterfind(".//{*}spine/{*}itemref"):
            chapter = str(package.parent / unquote(files.get(reference.get("idref"), "")))
            if chapter in packed:
                is_found = True
                sections.extend(_read_xhtml(book.read(chapter), "").sections)
        if not is_found:
            raise UnreadableDocumentError("broken epub", "holds none of the chapters that it names")
        return Document((content.findtext(".//{*}metadata/{*}title") or "").strip(), sections)


_FORMATS: Sequence[tuple[Sequence[str], Callable[[bytes, str], Document], Sequence[str]]] = (
    ((".txt",), _read_plain, ()),
    ((".md", ".markdown"), _read_markdown, ("frontmatter", "markdown_it", "resiliparse")),
    ((".rst",), _read_rst, ("docutils", "resiliparse")),
    ((".html", ".htm"), _read_html, ("resiliparse",)),
    ((".xhtml",), _read_xhtml, ("resiliparse",)),
    ((".pdf",), _read_pdf, ("pypdf",)),
    ((".docx",), _read_word, ("mammoth", "resiliparse")),
    ((".pptx",), _read_slides, ("pptx",)),
    ((".xlsx", ".xls", ".ods"), _read_sheets, ("python_calamine",)),
    ((".epub",), _read_book, ("resiliparse",)),
)
"""File name endings, their parser, and the packages that it needs."""
DOCUMENT_PARSERS = {ending: parser for endings, parser, _ in _FORMATS for ending in endings}
"""One parser per file name ending: of the bytes of a file and the encoding of text, empty where it is to be found."""
_PACKAGES = {
    "warc": ("fastwarc", "resiliparse"),
    "wikitext": ("mwparserfromhell",),
    **{ending: packages for endings, _, packages in _FORMATS for ending in endings},
}
