"""Documents to plain text in sections: text, Markdown, reStructuredText, web pages, PDF, office files, e-books, mail.

What has headings becomes HTML by the library of its format, and one function reads the sections off it; so code stays
whole, pictures are left out, and a section is known by its headings, whatever the format. A file that cannot be read
is an `UnreadableDocumentError`. Which library and why: docs/documents.md.
"""

from __future__ import annotations

import re
import zipfile
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from io import BytesIO
from pathlib import PurePosixPath
from posixpath import normpath
from urllib.parse import unquote
from xml.etree import ElementTree

from masksearch_agent.corpus.encodings import decode_text
from masksearch_agent.corpus.mail import read_mail
from masksearch_agent.corpus.markdown import read_markdown
from masksearch_agent.corpus.office import read_sheets, read_slides, read_word
from masksearch_agent.corpus.pages import Document, Section, sections_of
from masksearch_agent.corpus.pdf import read_pdf
from masksearch_agent.errors import MissingExtraError, UnreadableDocumentError

__all__ = ("DOCUMENT_PARSERS", "require_parser")

_VOID = "area|base|br|col|embed|hr|img|input|link|meta|source|track|wbr"
_SELF_CLOSED = re.compile(
    rf"""<(?!(?:{_VOID})[\s/])([A-Za-z][^\s<>/]*+)(?:[^<>"']|"[^"<]*"|'[^'<]*')*+(?<=/)>"""
)
"""A tag of XHTML's that is its own end; HTML knows that of the void ones alone, and takes `<title/>` for a start."""
_CHAPTER = re.compile(r"\.x?html?$", re.IGNORECASE)
_RST_MESSAGE = re.compile(r'(<p class="system-message-title">(?:[^<]|<(?!/p>))*</p>)[^<]*')
"""What docutils says of an error; behind it stands what was written."""


def require_parser(suffix: str) -> None:
    """Raise `MissingExtraError` for a kind of document (a file name ending, `warc`, `wikitext`) without its parser."""
    for package in ("semantic_text_splitter", *_PACKAGES.get(suffix, ())):
        if find_spec(package) is None:
            raise MissingExtraError(package, "corpus")


def _read_plain(raw: bytes, encoding: str) -> Document:
    return Document("", [((), decode_text(raw, encoding))])


def _read_rst(raw: bytes, encoding: str) -> Document:
    from docutils.core import publish_parts

    settings = {
        "file_insertion_enabled": False,
        "raw_enabled": False,
        "warning_stream": False,
        "halt_level": 5,
        "math_output": "LaTeX",  # As it is written; what is none stops the other writers.
        # A title that stands alone, and the fields below it, would leave the text of the document.
        "doctitle_xform": False,
        "docinfo_xform": False,
    }
    parts = publish_parts(decode_text(raw, encoding), writer="html4", settings_overrides=settings)
    return Document("", sections_of(_RST_MESSAGE.sub(r"\1", parts["body"]), is_web_page=False))


def _read_html(raw: bytes, encoding: str) -> Document:
    return _document_of(decode_text(raw, encoding, is_web_page=True))


def _read_xhtml(raw: bytes, encoding: str) -> Document:
    return _document_of(_html_of_xhtml(raw, encoding))


def _html_of_xhtml(raw: bytes, encoding: str) -> str:
    return _SELF_CLOSED.sub(r"\g<0></\1>", decode_text(raw, encoding, is_web_page=True))


def _document_of(page: str) -> Document:
    from resiliparse.parse.html import HTMLTree

    return Document(" ".join((HTMLTree.parse(page).title or "").split()), sections_of(page))


def _read_book(raw: bytes, encoding: str) -> Document:
    """Read the chapters of an EPUB file in the order in which they are read."""
    with zipfile.ZipFile(BytesIO(raw)) as book:
        opener = ElementTree.fromstring(book.read("META-INF/container.xml")).find(".//{*}rootfile")
        package = PurePosixPath("" if opener is None else opener.get("full-path", ""))
        content = ElementTree.fromstring(book.read(str(package)))
        files = {item.get("id"): item.get("href", "") for item in content.iterfind(".//{*}manifest/{*}item")}
        sections: list[Section] = []
        packed, is_found = set(book.namelist()), False
        order = [item.get("idref") for item in content.iterfind(".//{*}spine/{*}itemref")]
        # Without an order, the chapters stand in that of the list of files.
        for reference in order or [name for name, place in files.items() if _CHAPTER.search(place)]:
            place = unquote(files.get(reference, "").partition("#")[0])
            chapter = normpath(package.parent / place)
            if chapter in packed:
                is_found = True
                page = _html_of_xhtml(book.read(chapter), "")
                sections.extend(sections_of(page, is_web_page=False))
        if not is_found:
            raise UnreadableDocumentError("broken epub", "holds none of the chapters that it names")
        return Document((content.findtext(".//{*}metadata/{*}title") or "").strip(), sections)


_FORMATS: Sequence[tuple[Sequence[str], Callable[[bytes, str], Document], Sequence[str]]] = (
    ((".txt",), _read_plain, ()),
    ((".md", ".markdown"), read_markdown, ("frontmatter", "markdown_it", "resiliparse")),
    ((".rst",), _read_rst, ("docutils", "resiliparse")),
    ((".html", ".htm"), _read_html, ("resiliparse",)),
    ((".xhtml",), _read_xhtml, ("resiliparse",)),
    ((".pdf",), read_pdf, ("pypdf",)),
    ((".docx",), read_word, ("mammoth", "resiliparse")),
    ((".pptx",), read_slides, ("pptx",)),
    ((".xlsx", ".xls", ".ods"), read_sheets, ("python_calamine",)),
    ((".epub",), _read_book, ("resiliparse",)),
    ((".eml",), read_mail, ("charset_normalizer", "resiliparse")),
)
"""File name endings, their parser, and the packages that it needs."""
DOCUMENT_PARSERS = {ending: parser for endings, parser, _ in _FORMATS for ending in endings}
"""One parser per file name ending: of the bytes of a file and the encoding of text, empty where it is to be found."""
_PACKAGES = {
    "warc": ("fastwarc", "resiliparse"),
    "wikitext": ("mwparserfromhell",),
    **{ending: packages for endings, _, packages in _FORMATS for ending in endings},
}
