"""Settings of the retrieval room."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, PlainSerializer

from masksearch_agent.config.base import Settings
from masksearch_agent.config.calls import CallSettings
from masksearch_agent.plugins import RETRIEVER_MODES

__all__ = ("RetrievalSettings", "ServedSearchSettings", "WebSearchSettings", "WebSource")

WebSource = Literal["serpapi", "serper", "tavily", "duckduckgo", "wikipedia"]
"""Whose web search."""


class WebSearchSettings(Settings):
    """How a web search is called. Its API key comes from the environment."""

    calls: CallSettings = CallSettings(timeout_s=20.0, patience_s=120.0, requests_per_second=5.0)
    cache: Path | None = Path("runs/web_cache.sqlite")
    """File of answers, so that no query is paid for twice; None keeps no cache."""
    cache_max_age_s: float | None = Field(default=None, gt=0)
    """Older answers are asked for anew; None keeps them for good, so that a run can be repeated."""


def _check_dense(dense: Any) -> Any:
    is_store = not isinstance(dense, str) and hasattr(dense, "add_documents")
    if is_store or dense in ("chroma", "chroma_server"):
        return dense
    raise ValueError(
        f"{dense!r} keeps no vectors; expected chroma, chroma_server or a LangChain vector store"
    )


def _name_dense(dense: Any) -> str:
    return dense if isinstance(dense, str) else type(dense).__qualname__


class ServedSearchSettings(Settings):
    """How a retriever server is asked. The defaults are those of Search-R1's, and of `masksearch serve-index`."""

    path: str = Field(default="/retrieve", pattern="^/")
    """Where questions are posted; an address with a path of its own comes before it."""
    queries_field: str = "queries"
    limit_field: str = "topk"
    scores_field: str = "return_scores"
    """Of the request, whether passages come with their scores; always true."""
    result_field: str = "result"
    """Of the reply: one list of passages per query."""
    document_field: str = "document"
    """What holds a passage beside its score; a passage without it is taken as it is."""
    score_field: str = "score"
    text_field: str = "contents"
    """`contents` begins with a line for the title; beside any other field, `title` is one of its own."""
    calls: CallSettings = CallSettings(timeout_s=60.0, patience_s=300.0)


class RetrievalSettings(Settings):
    """How passages are indexed and searched."""

    mode: Annotated[str, AfterValidator(RETRIEVER_MODES.check)] = "hybrid"
    """What is built and, unless told otherwise, opened: `bm25` (shared words; needs neither torch nor Chroma), `dense`
    (meaning), `hybrid` (both), or one that a package brings (`plugins.RETRIEVER_MODES`)."""

    embedder: str = "minilm"
    """`minilm` (all-MiniLM-L6-v2 from its PyPI package, no download), or any sentence-transformers folder or
    hub id."""

    rrf_k: int = Field(default=1, gt=0)
    """Constant of reciprocal rank fusion (Cormack, Clarke and Büttcher, SIGIR 2009, who take 60 to fuse many long
    rankings). An agent reads few passages, and of two rankings the first places are worth the most
    (`docs/performance.md`)."""

    dense: Annotated[Any, AfterValidator(_check_dense), PlainSerializer(_name_dense)] = "chroma"
    """What keeps the vectors: `chroma` (in the folder of the index), `chroma_server`, or, from Python, a LangChain
    vector store, which embeds by itself. An index that is opened knows it; a store has to be given again."""

    chroma_url: str = Field(default="http://127.0.0.1:8000", pattern="^https?://")
    """Where the Chroma server is."""

    web: WebSearchSettings = WebSearchSettings()
    """Read where the index is `web:…`."""

    served: ServedSearchSettings = ServedSearchSettings()
    """Read where the index is the address of a server, `http://…`."""

    @property
    def dense_place(self) -> Any:
        """`chroma`, the address of a Chroma server, or a vector store."""
        return (
            self.chroma_url if isinstance(self.dense, str) and self.dense == "chroma_server" else self.dense
        )

    @property
    def chosen_mode(self) -> str | None:
        """The mode where somebody set it; None leaves an index to be opened as it was built."""
        return self.mode if "mode" in self.model_fields_set else None
