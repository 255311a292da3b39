"""PDF files: words that a line end cut, what was filled in, and titles that are none."""

from __future__ import annotations

import io
from typing import Any

import pypdf
import pytest
from pypdf.generic import (
    ArrayObject,
    DecodedStreamObject,
    DictionaryObject,
    NameObject,
    NullObject,
    NumberObject,
    TextStringObject,
)

from masksearch_agent.corpus.pdf import read_pdf


def named(**entries: Any) -> DictionaryObject:
    return DictionaryObject({NameObject(f"/{key}"): value for key, value in entries.items()})


def file_of(text: str, title: str = "", notes: tuple[Any, ...] = (), encoding: Any = None) -> bytes:
    """Write a page whose lines are those of a text."""
    writer = pypdf.PdfWriter()
    page = writer.add_blank_page(600, 800)
    content = DecodedStreamObject()
    shown = "".join(f"({line}) Tj 0 -14 Td " for line in text.split("\n"))
    content.set_data(f"BT /F 12 Tf 50 700 Td {shown}ET".encode("cp1252"))
    font = named(
        Type=NameObject("/Font"),
        Subtype=NameObject("/Type1"),
        BaseFont=NameObject("/Helvetica"),
        Encoding=encoding or NameObject("/WinAnsiEncoding"),
    )
    page[NameObject("/Resources")] = named(Font=named(F=font))
    page[NameObject("/Contents")] = content
    page[NameObject("/Annots")] = ArrayObject(notes)
    writer.add_metadata({"/Title": title})
    file = io.BytesIO()
    writer.write(file)
    return file.getvalue()


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ("The exam-\nple holds.", "The example holds."),
        ("Er fä-\nhrt zur grö-\nßten Ausstel-\nlung.", "Er fährt zur größten Ausstellung."),
        ("From 1990-\n1995 with Jean-\nPaul.", "From 1990- 1995 with Jean- Paul."),
    ],
)
def test_a_word_that_a_line_end_cut_is_whole_in_any_language(text: str, read: str) -> None:
    assert read_pdf(file_of(text), "").sections == [((), read)]


def test_letters_that_a_font_draws_as_one_are_several() -> None:
    encoding = named(
        Type=NameObject("/Encoding"),
        Differences=ArrayObject([NumberObject(65), *map(NameObject, ("/fi", "/ffi"))]),
    )
    assert read_pdf(file_of("The oBce Ale.", encoding=encoding), "").sections == [((), "The office file.")]


def test_what_was_filled_in_is_read_and_a_damaged_field_costs_nothing() -> None:
    widget = named(Subtype=NameObject("/Widget"), FT=NameObject("/Tx"), V=TextStringObject("Greta Lind"))
    parent = named(FT=NameObject("/Tx"), V=TextStringObject("Umeå"))
    notes = (
        widget,
        named(Subtype=NameObject("/Widget"), Parent=parent),
        named(Subtype=NameObject("/Widget"), FT=NameObject("/Btn"), V=NameObject("/Yes")),
        named(Subtype=NameObject("/FreeText"), Contents=TextStringObject("Paid in May")),
        named(Subtype=NameObject("/Link")),
        NullObject(),
    )
    told = "Name:\n\nGreta Lind\n\nUmeå\n\nPaid in May"
    assert read_pdf(file_of("Name:", notes=notes), "").sections == [((), told)]


@pytest.mark.parametrize(
    "title",
    ["untitled", "(anonymous)", "Microsoft Word - Draft 3.docx", "report_final.doc", "Untitled-2", "-"],
)
def test_what_a_program_wrote_for_a_title_is_none(title: str) -> None:
    assert read_pdf(file_of("Text.", title), "").title == ""


@pytest.mark.parametrize("title", ["Pump Manual", "Untitled (1959)", "Microsoft Word for beginners", "1984"])
def test_a_title_that_somebody_gave_is_kept(title: str) -> None:
    assert read_pdf(file_of("Text.", title), "").title == title
