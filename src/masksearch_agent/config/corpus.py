"""Settings of the corpus room."""

from __future__ import annotations

import codecs

from pydantic import Field, field_validator

from masksearch_agent.config.base import Settings

__all__ = ("CorpusSettings",)


class CorpusSettings(Settings):
    """How documents become passages."""

    max_words: int = Field(default=100, ge=10)
    """Longest passage cut from a document, in words; a Chinese character counts as one. Rows of a dataset
    stay whole, unless `text_column` says that they are documents."""
    encoding: str = "utf-8"
    """Of text and Markdown files, e.g. `gb18030`. HTML, XML and PDF files say it themselves."""
    text_column: str = ""
    """Column of a table or of a Hugging Face dataset that holds a document's text. Empty: the columns are
    recognised by their names."""
    title_column: str = "title"
    """Column with the title, read where `text_column` is set; a table may lack it."""
    id_column: str = "id"
    """Column with the document's id, read where `text_column` is set; a table may lack it."""

    @field_validator("encoding")
    @classmethod
    def _is_known_encoding(cls, encoding: str) -> str:
        try:
            return codecs.lookup(encoding).name
        except LookupError as failure:
            raise ValueError(f"unknown text encoding {encoding!r}") from failure
