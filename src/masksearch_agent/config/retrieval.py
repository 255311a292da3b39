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

    cache_size: int = Field(default=50_000, ge=0)
    """Result lists kept in memory; 0 means no cache."""

    near_copy_threshold: float = Field(default=0.6, gt=0, le=1)
    """Share of word 4-grams above which the leak guard takes a passage for a copy of a task's source."""

    @property
    def chosen_mode(self) -> SearchMode | None:
        """The mode where somebody set it; None leaves an index to be opened as it was built."""
        return self.mode if "mode" in self.model_fields_set else None
