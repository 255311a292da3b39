"""Settings of the retrieval room."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from masksearch_agent.config.base import Settings

__all__ = ("RetrievalSettings", "SearchMode")

SearchMode = Literal["bm25", "dense", "hybrid"]
"""Rank by shared words, by meaning, or by both."""


class RetrievalSettings(Settings):
    """How passages are indexed and searched."""

    mode: SearchMode = "hybrid"
    """What is built and, unless told otherwise, opened. `bm25` needs neither torch nor Chroma."""

    embedder: str = "minilm"
    """`minilm` (all-MiniLM-L6-v2 from its PyPI package, no download), or any sentence-transformers folder or
    hub id."""

    rrf_k: int = Field(default=60, gt=0)
    """Constant of reciprocal rank fusion (Cormack, Clarke and Büttcher, SIGIR 2009)."""

    @property
    def chosen_mode(self) -> SearchMode | None:
        """The mode where somebody set it; None leaves an index to be opened as it was built."""
        return self.mode if "mode" in self.model_fields_set else None
