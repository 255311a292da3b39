"""Web pages, and what libraries make of other formats as HTML, to plain text in sections.

Code stays whole, pictures are left out, and a section is known by its headings. What leads to other pages is left out
of web pages alone: no book and no manuscript has a sidebar of links, whatever a part of it is called.
"""

from __future__ import annotations

import html
import re
from collections.abc import Mapping, Sequence
from functools import partial
from typing import NamedTuple

__all__ = ("HEADINGS_END", "PAGE_BREAK", "TAG", "Document", "Section", "say_headings", "sections_of")

Section = tuple[tuple[str, ...], str]
"""The headings over a section, from the outermost on, and its text."""
PAGE_BREAK = "\f"
HEADINGS_END = "\ufdd1"
"""Behind the row of headings of a table; its rows follow, a line each, up to an empty line. No text has this character,
unlike a vertical tab, which stands between words."""


class Document(NamedTuple):
    """What a file says."""

    title: str
    """What the file itself calls it; empty where it says nothing."""
    sections: list[Section]
    """Text in paragraphs, with an empty line between them; a PDF file has page breaks in it."""
    about: Mapping[str, str] = {}
    """What else it says of itself, as who wrote an e-mail and when."""
    left_out: Sequence[str] = ()
    """What is in it and is not read: the files that an e-mail brings."""


_NOT_CONTENT = (
    *("nav", "navbar", "navigation", "navheader", "navfooter", "toc", "sidebar", "sphinxsidebar"),
    *("breadcrumb", "breadcrumbs", "pagination", "skip-link", "skiplink", "headerlink", "footer"),
    *("indexterms", "genindextable", "indexdiv", "contents-list", "linenos", "lineno", "rouge-gutter"),
)
"""Classes and ids of what leads to other pages and tells nothing itself (DocBook, Sphinx, Publican, MkDocs, …), and of
the numbers of lines of code."""
_CONTENT = ":not(article, aside, main, section, body, [class^=sect], h1, h2, h3, h4, h5, h6, dt, code, pre)"
"""The id of a section and of its heading is often made of its words: one on navigation has the id `navigation`."""
_MAIN = "main *, article *, [role=main] *"
_NOTE = "[class*=note], [role=note], [role^=doc-]"
_NOT_SAID = (
    "input, button, select, datalist, textarea",  # What a reader fills in is not what the page says.
    "img, area, svg, video, audio, object",  # Their text is for browsers that can't show them.
)
_UNSEEN = (
    *_NOT_SAID,
    "nav, script, style, template, iframe",
    "rt, rp",  # The reading that stands over a word of Chinese or Japanese would cut it.
    '[hidden], [style*="display:none"], [style*="display: none"]',
    # Of docutils; what a directive of Sphinx's says stays, as it is written.
    ".system-messages, [id^=system-message], .system-message p",
)
_SKIPPED = (
    *_UNSEEN,
    f"[role=navigation], [role=search], aside:not({_MAIN}, {_NOTE}), footer:not(blockquote *)",
    *(f"{mark}{name}{_CONTENT}" for mark in ".#" for name in _NOT_CONTENT),
    "ul.menu, ol.menu, ul.related, ol.related",
)
_LINK_LISTS = "div.menu, div.related, aside"
"""Navigation where most of the text is links; else what a restaurant serves, a note, or a footnote."""
_HEADING = re.compile(r"<h([1-6])>(.*?)</h\1>", re.DOTALL)
TAG = re.compile(r"<[^>]*>")
_TABLE_END = re.compile(
    r"</table>(?=\s*(?:</?(?:div|figure|section)\b[^<>]{0,200}>\s*){0,5}<table\b)", re.IGNORECASE
)
_CELLS = "\t\t"
_LINES = re.compile(r"[^\n]+(?:\n[^\n]+)+")
_NUMBER = re.compile(r"[^\w\s]?\s?\d[\d\s.,:/-]*\s?\W?")
_YEAR = re.compile(r"(?:1[5-9]|20)\d\d(?:[-–/]\d{2,4})?")
_CELL_GAP = re.compile(r"(?<=\S)\t+")
# Patterns begin with what they look for and look back from there, which takes a tenth of the time.
_RAISED = re.compile(r"<(?<=\d<)su([pb])\b[^>]{0,200}>(?=(?:<[^>]{0,200}>){0,5}[-+−–]?\d)")
"""A number that is raised or lowered behind another one, with which it would make a third: 10<sup>6</sup>."""
_INLINE_BLOCKS = "summary|legend|dialog|menu|search|listing|xmp"
_JOINED = re.compile(
    rf"(<)(?<=[^\s>]<)(?=(?:{_INLINE_BLOCKS}|pre|table)\b)|</(?:{_INLINE_BLOCKS})>(?=[^\s<])", re.IGNORECASE
)
"""Where a block and the text beside it would make one word of two; resiliparse takes these for parts of a line."""
_CELL_OF_ONE_PARAGRAPH = re.compile(
    r"(<t[dh]\b[^<>]*>)\s*<p\b[^<>]*>((?:[^<]|<(?!/?(?:p|t[dhr]|table|[uod]l|div|h[1-6]|pre|blockquote)\b))*+)</p>\s*"
    r"(?=</?(?:t[dhr]|table|tbody)\b)",
    re.IGNORECASE,
)
"""So Word, Sphinx and Google Docs write every cell; as a paragraph it would stand apart from the others of its row."""
_SIDE = "\ufdd0"
_SIDE_HEADING = re.compile(
    r"(<tr\b[^<>]*>\s*<th\b[^<>]*>(?:[^<]|<(?!/?(?:t[dhr]|table)\b))*+)(?=</th>\s*<td\b)", re.IGNORECASE
)
"""The heading of a row, which is no row of headings; it is marked by a character that no text has."""
_RAISED_SIGNS = {"p": "^", "b": "_"}


def sections_of(page: str, is_web_page: bool = True) -> list[Section]:
    """Return the sections of a page, without scripts, pictures and what is hidden; of a web page, without navigation.

    Args:
        page: HTML.
        is_web_page: False for a document of another format.
    """
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
    page = _RAISED.sub(lambda found: _RAISED_SIGNS[found[1]] + found[0], page)
    page = _JOINED.sub(lambda found: "<br><" if found[1] else f"{found[0]}<br>", page)
    # Of tables that follow one another each is a block of its own.
    page = _TABLE_END.sub("</table><p></p>", page)
    page = _CELL_OF_ONE_PARAGRAPH.sub(r"\1\2", page)
    page = _SIDE_HEADING.sub(rf"\1{_SIDE}", page)
    tree = HTMLTree.parse(page)
    for part in tree.body.query_selector_all(_LINK_LISTS) if is_web_page and tree.body is not None else ():
        linked = sum(len((link.text or "").strip()) for link in part.get_elements_by_tag_name("a"))
        if linked * 2 > len((part.text or "").strip()):
            part.setattr("hidden", "")
    text = to_text(tree, skip_elements=_SKIPPED if is_web_page else _UNSEEN)
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
    text = TAG.sub("", markup)
    if _CELLS in text:
        text = _LINES.sub(_say_headings_of_lines, text)
    return html.unescape(_CELL_GAP.sub(" ", text.replace(_SIDE, "")))


def _say_headings_of_lines(lines: re.Match[str]) -> str:
    rows = lines[0].split("\n")
    first = next((place for place, row in enumerate(rows) if _CELLS in row), -1)
    if _SIDE not in rows[first]:
        rows[first] += say_headings(html.unescape(rows[first]).split(_CELLS))
    return "\n".join(rows)


def say_headings(cells: Sequence[str]) -> str:
    """Return what stands behind the first row of a table: `HEADINGS_END` where it tells what stands below it.

    It is then of two cells or more, and no number stands there but perhaps years, several and behind the first cell.
    """
    filled = [cell.strip() for cell in cells if cell.strip()]
    numbers = [cell for cell in filled if _NUMBER.fullmatch(cell)]
    are_years = len(numbers) != 1 and all(map(_YEAR.fullmatch, numbers)) and cells[0].strip() not in numbers
    return HEADINGS_END if len(filled) > 1 and are_years else ""
