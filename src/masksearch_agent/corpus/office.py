"""Office files to plain text in sections: Word, PowerPoint, and sheets of numbers."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta
from io import BytesIO
from itertools import compress
from typing import Any
from xml.etree import ElementTree

from masksearch_agent.corpus.encodings import decode_text
from masksearch_agent.corpus.pages import Document, Section, say_headings, sections_of
from masksearch_agent.text.values import as_text

__all__ = ("read_sheets", "read_slides", "read_word")

_OFFICE = "http://schemas.openxmlformats.org"
_CHART = f"{{{_OFFICE}/drawingml/2006/chart}}"
_UNREAD_BY_MAMMOTH = (
    *(b"oMath", b"fldSimple", b"<w:cr", b"<w:ptab", b"<w:drawing"),
    *(b"<w:ruby", b"<w:dir", b"<w:bdo"),
)
_READ_THROUGH = "smartTag"
"""Of what is in one mammoth reads what is in it."""
_READ_AS = {
    **dict.fromkeys(("oMathPara", "fldSimple", "ruby", "rubyBase", "dir", "bdo"), _READ_THROUGH),
    **{"rt": "del", "cr": "br", "ptab": "tab"},
}
"""The reading that stands over a word of Chinese or Japanese (`rt`) is left out, so that the word stays whole."""
_DAY_ZERO = datetime(1899, 12, 30)
"""From which Office counts days."""
_ROW_OF_PAGE = re.compile(rb"<tr[\s>]", re.IGNORECASE)
_MARKS_OF_SHEETS = (b"PK", b"\xd0\xcf\x11\xe0")
_FORMULA_SIGNS = {"num": "", "den": "/", "sup": "^", "sub": "_", "rad": "√"}


def read_word(raw: bytes, encoding: str) -> Document:
    """Read a Word file, its notes, text boxes and formulas too."""
    import mammoth

    styles = "p[style-name='Title'] => h1:fresh\np[style-name='Subtitle'] => p:fresh"
    no_picture = mammoth.images.img_element(lambda _: {"src": ""})
    page = mammoth.convert_to_html(_spell_out(raw), style_map=styles, convert_image=no_picture).value
    return Document("", sections_of(page, is_web_page=False))


def _spell_out(raw: bytes) -> BytesIO:
    """Return a Word file with what mammoth leaves out without a word, as what it reads."""
    mended = BytesIO()
    with zipfile.ZipFile(BytesIO(raw)) as packed, zipfile.ZipFile(mended, "w") as file:
        for entry in packed.infolist():
            if entry.filename.startswith("word/media/"):
                continue  # Pictures are not read, and a damaged one costs nothing.
            content = packed.read(entry)
            is_text = entry.filename.startswith("word/") and entry.filename.endswith(".xml")
            if is_text and any(name in content for name in _UNREAD_BY_MAMMOTH):
                content = _spell_out_part(content)
            file.writestr(entry.filename, content)
    return mended


def _spell_out_part(content: bytes) -> bytes:
    root = ElementTree.fromstring(content)
    word = root.tag[: root.tag.index("}") + 1]
    for element in list(root.iter()):
        space, _, name = element.tag.rpartition("}")
        if name in _READ_AS and (name == "oMathPara" or f"{space}}}" == word):
            element.tag = word + _READ_AS[name]
        elif name == "oMath":
            formula = _formula(element)
            element.clear()
            element.tag = f"{word}r"
            ElementTree.SubElement(element, f"{word}t", {"xml:space": "preserve"}).text = formula
        elif name == "AlternateContent" and not _has_box(element, "Fallback", word):
            if _has_box(element, "Choice", word):
                _choose(element, f"{space}}}")
        elif element.tag == f"{word}drawing":
            element.extend(list(element.iter(f"{word}txbxContent")))
    return ElementTree.tostring(root)


def _has_box(alternatives: ElementTree.Element, name: str, word: str) -> bool:
    return alternatives.find(f"{{*}}{name}//{word}txbxContent") is not None


def _choose(alternatives: ElementTree.Element, space: str) -> None:
    """Let mammoth, which reads what old programs fall back to, read what new ones show."""
    for fallback in alternatives.findall(f"{space}Fallback"):
        alternatives.remove(fallback)
    for choice in alternatives.findall(f"{space}Choice"):
        choice.tag = f"{space}Fallback"


def _formula(element: ElementTree.Element) -> str:
    """Return a formula in a line: a fraction as `(a+b)/2`, `E=mc^2`."""
    name = element.tag.rpartition("}")[2]
    if name == "t":
        return element.text or ""
    inner = "".join(map(_formula, element))
    if name not in _FORMULA_SIGNS or not inner:
        return inner
    return _FORMULA_SIGNS[name] + (inner if len(inner) == 1 else f"({inner})")


def read_slides(raw: bytes, encoding: str) -> Document:
    """Read a PowerPoint file: a slide is a section, with its tables, charts, diagrams and notes."""
    import pptx

    slides = pptx.Presentation(BytesIO(raw))
    sections: list[Section] = []
    for slide in slides.slides:
        title = slide.shapes.title
        name = " ".join(title.text_frame.text.split()) if title is not None else ""
        texts = [text for shape in slide.shapes if shape != title for text in _texts_of_shape(shape)]
        if slide.has_notes_slide and slide.notes_slide.notes_text_frame is not None:
            texts.append(_lines_of(slide.notes_slide.notes_text_frame))
        sections.append(((name,) if name else (), "\n\n".join(filter(None, texts))))
    return Document(slides.core_properties.title or "", sections)


def _lines_of(frame: Any) -> str:
    # A line break within a paragraph is a vertical tab.
    return str(frame.text).replace("\v", "\n")


def _texts_of_shape(shape: Any) -> Iterator[str]:
    if hasattr(shape, "shapes"):
        for inner in shape.shapes:
            yield from _texts_of_shape(inner)
        return
    if shape.has_text_frame:
        yield _lines_of(shape.text_frame)
    if shape.has_table:
        yield _table_of([[cell.text for cell in row.cells] for row in shape.table.rows])
    if shape.has_chart:
        yield from _texts_of_chart(shape.chart)
    for diagram in shape.element.iter(f"{{{_OFFICE}/drawingml/2006/diagram}}relIds"):
        part = shape.part.related_part(diagram.get(f"{{{_OFFICE}/officeDocument/2006/relationships}}dm"))
        for paragraph in ElementTree.fromstring(part.blob).iterfind(f".//{{{_OFFICE}/drawingml/2006/main}}p"):
            yield "".join(paragraph.itertext())


def _texts_of_chart(chart: Any) -> Iterator[str]:
    """Yield the title and a table for each plot, of whatever kind: as XML, since python-pptx knows only some kinds."""
    if chart.has_title and chart.chart_title.has_text_frame:
        yield _lines_of(chart.chart_title.text_frame)
    for plot in chart.element.iterfind(f".//{_CHART}plotArea/*"):
        series = plot.findall(f"{_CHART}ser")
        if not series:
            continue
        labels = _points_of(series[0], "cat") or _points_of(series[0], "xVal")
        columns = [_points_of(each, "val") or _points_of(each, "yVal") for each in series]
        places = sorted({place for column in (labels, *columns) for place in column})
        rows = [["", *map(_name_of, series)]]
        rows += [[column.get(place, "") for column in (labels, *columns)] for place in places]
        yield "\n".join(" | ".join(filter(None, row)) for row in rows)


def _name_of(series: Any) -> str:
    name = series.find(f"{_CHART}tx")
    return "" if name is None else " ".join(value.text or "" for value in name.iter(f"{_CHART}v"))


def _points_of(series: Any, axis: str) -> dict[int, str]:
    """Return the texts of an axis by their places; of labels in several levels the innermost ones."""
    told = series.find(f"{_CHART}{axis}")
    if told is None:
        return {}
    form = "".join(each.text or "" for each in told.iter(f"{_CHART}formatCode")).lower()
    points = next(told.iter(f"{_CHART}lvl"), told).iter(f"{_CHART}pt")
    are_days = axis == "cat" and any(letter in form for letter in "ymd")
    return {
        int(point.get("idx")): _text_of_point(point.findtext(f"{_CHART}v") or "", are_days)
        for point in points
    }


def _text_of_point(text: str, is_day: bool) -> str:
    try:
        number = float(text)
        return as_text(_DAY_ZERO + timedelta(days=number) if is_day else number)
    except (ValueError, OverflowError):
        return text  # A word, or what a sheet says where it has no number.


def read_sheets(raw: bytes, encoding: str) -> Document:
    """Read a file of sheets: a sheet is a section, and a row a line."""
    import python_calamine

    if _ROW_OF_PAGE.search(raw) and not raw.startswith(_MARKS_OF_SHEETS):
        # What many programs on the web call a sheet is a page with a table.
        return Document("", sections_of(decode_text(raw, encoding, is_web_page=True), is_web_page=False))
    book = python_calamine.CalamineWorkbook.from_filelike(BytesIO(raw))
    sections: list[Section] = []
    for name in book.sheet_names:
        text = _table_of(
            [[as_text(cell) for cell in row] for row in book.get_sheet_by_name(name).iter_rows()]
        )
        sections.append(((name,) if text else (), text))
    return Document("", sections)


def _table_of(cells: list[list[str]]) -> str:
    """Return a table, a row a line, without empty rows and columns."""
    rows = [row for row in ([" ".join(cell.split()) for cell in row] for row in cells) if any(row)]
    # A cell that is empty keeps its place, or what stands behind it would be of another column.
    used = [any(column) for column in zip(*rows, strict=False)]
    # A remark may stand above the headings, which are of most columns.
    wide = next((place for place, row in enumerate(rows) if 2 * sum(map(bool, row)) > sum(used)), -1)
    ends = {wide: say_headings(rows[wide])} if rows else {}
    return "\n".join(_line_of(compress(row, used)) + ends.get(place, "") for place, row in enumerate(rows))


def _line_of(row: Iterable[str]) -> str:
    cells = list(row)
    while cells and not cells[-1]:
        cells.pop()
    return " | ".join(cells)
