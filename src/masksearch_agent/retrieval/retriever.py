"""An index of ours as LangChain has them: a retriever over its folder, and the embeddings that it was made with."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from langchain_core.callbacks import AsyncCallbackManagerForRetrieverRun, CallbackManagerForRetrieverRun
from langchain_core.documents import Document
from langchain_core.embeddings import Embeddings
from langchain_core.retrievers import BaseRetriever
from langchain_core.runnables import run_in_executor
from pydantic import Field

from masksearch_agent.errors import RetrievalError
from masksearch_agent.retrieval.embedders import SentenceEmbedder
from masksearch_agent.retrieval.index import open_index
from masksearch_agent.retrieval.results import document_of
from masksearch_agent.retrieval.search import Search

__all__ = ("MaskSearchEmbeddings", "MaskSearchRetriever")

MetadataFilter = Mapping[str, Any] | Callable[[Document], bool]


class MaskSearchRetriever(BaseRetriever):
    """Searches an index folder, which `masksearch index` or `build_index` wrote.

    Example:
        ```python
        retriever = MaskSearchRetriever(index="runs/index", k=3, filter={"source": "handbook.pdf"})
        documents = retriever.invoke("How many days of leave?")
        ```

    Raises:
        RetrievalError: There is no such index, or it lacks what the mode needs.
    """

    index: Path
    k: int = Field(default=5, ge=1)
    """Documents of an answer; a call may say another number (`invoke(query, k=3)`)."""
    mode: str | None = None
    """How to rank: `bm25`, `dense` or `hybrid`; None for what the index was built for."""
    filter: MetadataFilter | None = None
    """What the metadata of documents must hold: `{key: value}`, or a list of values any of which will do; or a function
    that takes a document. Metadata that is a list fits where it equals or holds what is wanted. A call may say
    another."""

    def model_post_init(self, context: Any) -> None:
        """Open the index, so that a wrong one is known at once."""
        super().model_post_init(context)
        _ = self._search

    @property
    def _search(self) -> Search:
        # Configurable fields make a retriever for every call; the index is opened once, until it is built anew.
        manifest = self.index / "index.json"
        return _opened(self.index, self.mode, manifest.stat().st_mtime_ns if manifest.is_file() else 0)

    def _get_relevant_documents(
        self, query: str, *, run_manager: CallbackManagerForRetrieverRun, **options: Any
    ) -> list[Document]:
        return self._find(query, **options)

    async def _aget_relevant_documents(
        self, query: str, *, run_manager: AsyncCallbackManagerForRetrieverRun, **options: Any
    ) -> list[Document]:
        return await run_in_executor(None, self._find, query, **options)

    def _find(self, query: str, k: int | None = None, filter: MetadataFilter | None = None) -> list[Document]:
        limit, wanted = self.k if k is None else k, self.filter if filter is None else filter
        if not (wanted is None or isinstance(wanted, Mapping) or callable(wanted)):
            raise RetrievalError(
                f"the filter is a {type(wanted).__name__}; expected a dictionary or a function"
            )
        depth = limit
        while True:
            [hits] = self._search.search([query], depth)
            documents = [document_of(hit.passage) for hit in hits]
            fitting = documents if wanted is None else [found for found in documents if _fits(found, wanted)]
            if len(fitting) >= limit or len(hits) < depth:
                return fitting[:limit]
            depth *= 4  # What fits may stand anywhere in the ranking.


class MaskSearchEmbeddings(Embeddings):
    """The embedder of an index as LangChain's embeddings: vectors of length 1, of queries and documents alike.

    Args:
        model: `minilm` (all-MiniLM-L6-v2 from its PyPI package, which needs no network), or the folder or hub id of a
            sentence-transformers model.
    """

    def __init__(self, model: str = "minilm") -> None:
        self.model = model

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        """Return one vector per text."""
        vectors: list[list[float]] = _embedder(self.model).embed(texts).tolist()
        return vectors

    def embed_query(self, text: str) -> list[float]:
        """Return the vector of a query."""
        return self.embed_documents([text])[0]


def _fits(document: Document, wanted: MetadataFilter) -> bool:
    if callable(wanted):
        return wanted(document)
    return all(_is_wanted(document.metadata.get(key), value) for key, value in wanted.items())


def _is_wanted(value: object, wanted: object) -> bool:
    # Compared one by one: a set can't be asked for a list.
    choices = [*wanted] if isinstance(wanted, list | tuple | set | frozenset) else [wanted]
    held = value if isinstance(value, list) else []
    return value == wanted or any(choice == value or choice in held for choice in choices)


@lru_cache(maxsize=32)
def _opened(index: Path, mode: str | None, _built_at_ns: int) -> Search:
    # A filter may want either of two documents with one text.
    return Search(open_index(index, mode), shows_copies=True)


@lru_cache(maxsize=2)
def _embedder(name: str) -> SentenceEmbedder:
    return SentenceEmbedder(name)
