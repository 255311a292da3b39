"""PDF files to plain text, page by page."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from io import BytesIO
from typing import Any

from masksearch_agent.corpus.pages import PAGE_BREAK, Document
from masksearch_agent.errors import UnreadableDocumentError

__all__ = ("read_pdf",)

_BREAK = re.compile(r"\n\s*\n")
_HYPHEN_AT_END = re.compile("(?<=(\\w))([-\u2010\u00ad])\n(?=(\\w))")
_SOFT_HYPHEN = "\u00ad"
_LIGATURES = {code: unicodedata.normalize("NFKC", chr(code)) for code in range(0xFB00, 0xFB07)}
"""How a font draws `fi` and its like, which no model and no reader's question writes as one letter."""
_NO_TITLE = re.compile(
    r"\W*|\W*(anonymous|untitled|unspecified)(\W?\d+|\W*)|powerpoint presentation"
    r"|.*\w\.(docx?|rtf|odt|xlsx?|pptx?|tex|dvi|indd|qxd|pdf)"
    r"|microsoft (word|excel|powerpoint) - .*",
    re.IGNORECASE | re.DOTALL,
)
"""What programs write where a file was given no title: a word for that, or the name of what it was made from."""
_FILLED_IN = {"/Widget": "/V", "/FreeText": "/Contents"}
"""Where that stands which somebody filled in: in the fields of a form, or on top of the page."""


def read_pdf(raw: bytes, encoding: str) -> Document:
    """Read the text of a PDF file and what was filled in; one of scanned pages has none."""
    import pypdf

    reader = pypdf.PdfReader(BytesIO(raw))
    if reader.is_encrypted and not reader.decrypt(""):
        raise UnreadableDocumentError("password", "the PDF file needs a password")
    title = str((reader.metadata or {}).get("/Title") or "").strip()
    pages = ("\n\n".join((*_paragraphs_of(page), *_filled_in(page))) for page in reader.pages)
    return Document("" if _NO_TITLE.fullmatch(title) else title, [((), PAGE_BREAK.join(pages))])


def _paragraphs_of(page: Any) -> Iterator[str]:
    for paragraph in _BREAK.split(page.extract_text().translate(_LIGATURES)):
        yield " ".join(_HYPHEN_AT_END.sub(_joint, paragraph).split())


def _joint(found: re.Match[str]) -> str:
    """Return what stays of a line end in a word that it cut in two; `1990-` and `Jean-` keep their hyphen."""
    before, hyphen, after = found.groups()
    is_cut = hyphen == _SOFT_HYPHEN or (before.islower() and after.islower())
    return "" if is_cut else found[0]


def _filled_in(page: Any) -> Iterator[str]:
    from pypdf.generic import DictionaryObject, TextStringObject

    for each in page.annotations or ():
        note = each.get_object()
        if not isinstance(note, DictionaryObject) or "/Subtype" not in note:
            continue
        key = _FILLED_IN.get(str(note["/Subtype"]), "")
        # What a field shows in several places stands once, above them.
        holder = note["/Parent"] if key == "/V" and key not in note and "/Parent" in note else note
        if isinstance(holder, DictionaryObject) and key in holder:
            text = holder[key]
            if isinstance(text, TextStringObject):
                yield text
