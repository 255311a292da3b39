"""A LangChain retriever that can be predicted by hand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from langchain_core.documents import Document
from langchain_core.retrievers import BaseRetriever
from pydantic import PrivateAttr


class DictRetriever(BaseRetriever):
    """Returns the documents listed for a query; `"title: text"` strings, in order. Unknown queries find none."""

    entries: Mapping[str, Sequence[str]]

    _queries: list[str] = PrivateAttr(default_factory=list)

    @property
    def queries(self) -> list[str]:
        """The queries it was asked."""
        return self._queries

    def _get_relevant_documents(self, query: str, *, run_manager: Any) -> list[Document]:
        self._queries.append(query)
        documents = []
        for entry in self.entries.get(query, ()):
            title, _, text = entry.partition(": ")
            documents.append(Document(text, metadata={"title": title, "id": title}))
        return documents
