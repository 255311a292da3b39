"""Documents to plain text: text, Markdown, HTML and PDF.

A parser gets the bytes of a file and returns title and text, the text in paragraphs with an empty line
between them. A file that it cannot read is an `UnreadableDocumentError`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from io import BytesIO
from typing import Any

from masksearch_agent.errors import UnreadableDocumentError, needs_extra

__all__ = ("DOCUMENT_PARSERS", "require_parser")

_DocumentParser = Callable[[bytes, str], tuple[str, str]]
"""The bytes of a file and the encoding of text files to title (`""` where it has none) and text."""

_HEADING = re.compile(r"^#{1,6}[ \t]+(.+?)[ \t#]*$", re.MULTILINE)
_HTML_UNREAD = (
    *("script", "style", "noscript", "template", "svg", "iframe", "head", "nav", "header", "footer"),
    *("aside", "form", "button", "select"),
)
_HTML_BLOCKS = (
    *("p", "div", "section", "article", "main", "blockquote", "pre", "ul", "ol", "dl", "table", "figure"),
    *("h1", "h2", "h3", "h4", "h5", "h6", "hr"),
)
_HTML_SEPARATORS = {
    **dict.fromkeys(_HTML_BLOCKS, "\n\n"),
    **dict.fromkeys(("li", "tr", "dt", "dd", "figcaption"), "\v"),
    **dict.fromkeys(("td", "th"), " "),
}
_NAVIGATION = re.compile(
    r"(?:doc|site|page|main)?-?nav(?:igation|bar|header|footer)?|toc|(?:table-of-)?contents-?list|bread-?crumbs?|menu"
    r"|(?:sphinx)?sidebar|related|pagination|skip-?link|headerlink|footer|indexterms|genindextable|indexdiv",
    re.IGNORECASE,
)
"""Classes and ids of what leads to other pages and tells nothing itself (DocBook, Sphinx, Publican, MkDocs, …)."""
_BREAK = re.compile(r"\n\s*\n")
# A word that a line end cut in two; `1990-\n1995` and `Jean-\nPaul` keep their hyphen.
_CUT_WORD = re.compile(r"(?<=[a-z])-\n(?=[a-z])")


def _decode_text(raw: bytes, encoding: str) -> str:
    """Return the text of a file, without a byte order mark."""
    try:
        return raw.decode(encoding).removeprefix("\ufeff")
    except UnicodeDecodeError as failure:
        detail = f"not {encoding.upper()} ({failure.reason} at byte {failure.start})"
        advice = "convert it, or set corpus.encoding"
        raise UnreadableDocumentError("wrong encoding", f"{detail}; {advice}") from failure


def require_parser(suffix: str) -> None:
    """Raise `MissingExtraError` for a kind of file whose parser is not installed."""
    if suffix in (".html", ".htm"):
        _import_bs4()
    elif suffix == ".pdf":
        _import_pypdf()


def _parse_plain(raw: bytes, encoding: str) -> tuple[str, str]:
    return "", _decode_text(raw, encoding)


def _parse_markdown(raw: bytes, encoding: str) -> tuple[str, str]:
    """Take the first heading as the title and out of the text."""
    text = _decode_text(raw, encoding)
    heading = _HEADING.search(text)
    if heading is None:
        return "", text
    return heading[1], text[: heading.start()] + text[heading.end() :]


def _parse_html(raw: bytes, encoding: str) -> tuple[str, str]:
    """Read the main part of a page, without scripts, navigation and forms.

    Beautiful Soup finds the encoding itself: a page says it in its own words.
    """
    soup = _import_bs4().BeautifulSoup(raw, "lxml")
    heading = soup.title or soup.h1
    title = " ".join(heading.get_text().split()) if heading else ""
    articles = soup("article")
    page = soup.main or (articles[0] if len(articles) == 1 else soup)
    for tag in page(_HTML_UNREAD):
        tag.decompose()
    for tag in page(_is_navigation):
        tag.decompose()
    for tag in page("br"):
        tag.replace_with("\n")
    for tag in page(list(_HTML_SEPARATORS)):
        tag.insert_before(_HTML_SEPARATORS[tag.name])
        tag.insert_after(_HTML_SEPARATORS[tag.name])
    # Line breaks of the source are spaces; those of list items and table rows are lines.
    paragraphs = []
    for block in _BREAK.split(page.get_text().replace("\v\n", "\v")):
        lines = (" ".join(line.split()) for line in block.split("\v"))
        paragraphs.append("\n".join(filter(None, lines)))
    return title, "\n\n".join(filter(None, paragraphs))


def _is_navigation(tag: Any) -> bool:
    names = [*tag.get_attribute_list("class"), tag.get("id"), tag.get("role")]
    return any(name and _NAVIGATION.fullmatch(name) for name in names)


def _parse_pdf(raw: bytes, encoding: str) -> tuple[str, str]:
    """Read the text of a PDF file; one of scanned pages has none."""
    pypdf = _import_pypdf()
    try:
        reader = pypdf.PdfReader(BytesIO(raw))
        if reader.is_encrypted and not reader.decrypt(""):
            raise UnreadableDocumentError("password", "the PDF file needs a password")
        title = str((reader.metadata or {}).get("/Title") or "").strip()
        text = "\n".join(page.extract_text() for page in reader.pages)
    except (UnreadableDocumentError, MemoryError):
        raise
    except Exception as failure:
        detail = f"pypdf cannot read the PDF file ({type(failure).__name__}: {failure})"
        raise UnreadableDocumentError("broken PDF", detail) from failure
    blocks = (" ".join(_CUT_WORD.sub("", block).split()) for block in _BREAK.split(text))
    return title, "\n\n".join(filter(None, blocks))


def _import_bs4() -> Any:
    with needs_extra("corpus"):
        import bs4
        import lxml  # noqa: F401 - the parser that Beautiful Soup is told to use
    return bs4


def _import_pypdf() -> Any:
    with needs_extra("corpus"):
        import pypdf
    return pypdf


DOCUMENT_PARSERS: Mapping[str, _DocumentParser] = {
    ".txt": _parse_plain,
    **dict.fromkeys((".md", ".markdown"), _parse_markdown),
    **dict.fromkeys((".html", ".htm"), _parse_html),
    ".pdf": _parse_pdf,
}
"""One parser per file name ending."""
