"""Passages of what LangChain has loaded: its documents, and its loaders."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import PurePath

from langchain_core.document_loaders import BaseLoader
from langchain_core.documents import Document

from masksearch_agent.config.corpus import CorpusSettings
from masksearch_agent.corpus.splitting import shorten_title, split_text
from masksearch_agent.errors import CorpusError
from masksearch_agent.record_base import FrozenDict
from masksearch_agent.records import Passage, content_id
from masksearch_agent.text.cleaning import clean_text
from masksearch_agent.text.values import as_text

__all__ = ("Loaded", "passages_of_loaded")

Loaded = BaseLoader | Iterable[Passage | Document]
"""What passages are made of: a LangChain loader, or its documents; passages stay what they are."""


def passages_of_loaded(loaded: Loaded, settings: CorpusSettings | None = None) -> Iterator[Passage]:
    """Yield the passages of documents, which are cut where they are longer than the settings say.

    Each keeps the metadata of its document. Its title is the metadata's `title`, else the name of its `source`. The
    same text of two documents, or under other metadata, makes two passages: either may be looked for or taken out.

    Raises:
        CorpusError: Something is neither a passage nor a document.
    """
    if not isinstance(loaded, BaseLoader | Iterable) or isinstance(loaded, str | Document | Passage):
        what = "a list of passages or LangChain documents, or a loader of them"
        raise CorpusError(f"cannot index a {type(loaded).__name__}; expected {what}")
    max_words = (settings or CorpusSettings()).max_words
    for item in loaded.lazy_load() if isinstance(loaded, BaseLoader) else loaded:
        if isinstance(item, Passage):
            yield item
        elif isinstance(item, Document):
            yield from _passages_of_document(item, max_words)
        else:
            raise CorpusError(
                f"cannot index a {type(item).__name__}; expected a Passage or a LangChain Document"
            )


def _passages_of_document(document: Document, max_words: int) -> Iterator[Passage]:
    told, known = document.metadata, FrozenDict(document.metadata)
    source = clean_text(str(told.get("source") or told.get("url") or ""))
    named = told.get("title")
    title = "" if isinstance(named, list | tuple | dict) else as_text(named)
    title = " ".join((title or (source if "://" in source else PurePath(source).stem)).split())
    document_id = str(document.id or known.get("id") or source)
    whose = (document_id, known) if document_id or known else ()
    for position, piece in enumerate(split_text(clean_text(document.page_content), max_words)):
        passage_id = content_id(*whose, title, piece)
        yield Passage(passage_id, shorten_title(title), piece, document_id, position, source, known)
