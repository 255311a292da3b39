"""Settings of the corpus room."""

from __future__ import annotations

import codecs
import io

from pydantic import Field, field_validator

from masksearch_agent.config.base import Settings

__all__ = ("CorpusSettings",)


class CorpusSettings(Settings):
    """How documents become passages."""

    max_words: int = Field(default=100, ge=10)
    """Longest passage cut from a document, in words; a Chinese character counts as one. Rows of a dataset
    stay whole, unless `text_column` says that they are documents or they are longer than `max_row_chars`."""
    max_row_chars: int = Field(default=20_000, ge=100)
    """Longest row of a dataset that stays a passage; a longer one is cut like a document."""
    max_file_bytes: int = Field(default=200_000_000, ge=1)
    """Largest document, unpacked, and longest row of JSON lines; one that is larger is skipped. Tables and dumps may be
    of any size."""
    max_file_seconds: float = Field(default=60.0, gt=0)
    """What reading a document may take of the processor's time, and ten times that by the clock; it is then given up
    and skipped."""
    encoding: str = ""
    """Of text files and tables, e.g. `gb18030`. Empty: what the file says, UTF-8, or else what is likely; JSON
    is never guessed."""
    delimiter: str = Field(default="", max_length=1)
    """Between the cells of a `.csv` file. Empty: a comma, tab, semicolon or bar, whichever fits."""
    quote: str = Field(default='"', max_length=1)
    """Around cells of a `.csv` file. Empty: none, quotation marks are characters as others."""
    text_column: str = ""
    """Column of a table or of a Hugging Face dataset that holds a document's text. Empty: the columns are
    recognised by their names."""
    title_column: str = "title"
    """Column with the title, read where `text_column` is set; a table may lack it."""
    id_column: str = "id"
    """Column with the document's id, read where `text_column` is set; a table may lack it."""

    @field_validator("encoding")
    @classmethod
    def _is_text_encoding(cls, encoding: str) -> str:
        try:
            io.TextIOWrapper(io.BytesIO(), encoding or "utf-8")  # Which refuses `hex` and the like, too.
        except LookupError as failure:
            raise ValueError(f"unknown text encoding {encoding!r}") from failure
        return codecs.lookup(encoding).name if encoding else ""
