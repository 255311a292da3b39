"""Settings of the corpus room."""

from __future__ import annotations

from pydantic import Field

from masksearch_agent.config.base import Settings

__all__ = ("CorpusSettings",)


class CorpusSettings(Settings):
    """How documents become passages."""

    max_words: int = Field(default=100, ge=10)
    """Longest passage cut from a document, in words. Rows of a dataset stay whole."""
