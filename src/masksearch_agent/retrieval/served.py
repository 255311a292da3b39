"""Search at a retriever server, such as Search-R1's, or `masksearch serve-index`.

A batch of queries is one request (Search-R1's `search_r1/search/retrieval_server.py`): `{"queries": [...], "topk": 3,
"return_scores": true}` is posted, and one list of passages a query comes back as `result`, best first. A passage is
`{"document": {...}, "score": 0.7}`, or the document alone. Path and names of the fields are settings.

Invariant: what `document_of` writes, `_read_document` reads back as the same passage.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields
from pathlib import Path
from typing import Any

import httpx

from masksearch_agent.calls.patience import PatientCaller
from masksearch_agent.concurrency import finish_in_thread
from masksearch_agent.config.retrieval import ServedSearchSettings
from masksearch_agent.corpus.rows import split_contents
from masksearch_agent.errors import RetrievalError
from masksearch_agent.jsonl import dump_record, load_record
from masksearch_agent.records import Passage, ScoredPassage, content_id
from masksearch_agent.retrieval.search import Search

__all__ = ("ServedBackend", "document_of", "open_served_search", "served_url")

# `pathlib` makes one slash of two, and command lines pass what is searched as a path.
_URL = re.compile(r"(?:http:(?=https?:))?(https?):/{1,2}([^/]+)(/.*)?")
_MAX_REQUESTS = 32
_SHOWN_CHARACTERS = 120
_PASSAGE_FIELDS = frozenset(field.name for field in fields(Passage)) - {"metadata"}


def served_url(name: str | Path) -> str | None:
    """Return the address where a name is one (`http://10.0.0.5:8000`, also after a leading `http:`), else None."""
    match = _URL.fullmatch(str(name))
    if match is None:
        return None
    scheme, host, path = match.groups()
    return f"{scheme}://{host}{(path or '').rstrip('/')}"


def open_served_search(url: str, settings: ServedSearchSettings | None = None) -> Search:
    """Return a search at a server; nothing is asked of it yet.

    Args:
        url: Its address; one with a path of its own takes the place of `settings.path`.
        settings: Path, field names and patience.
    """
    return Search(ServedBackend(url, settings or ServedSearchSettings()))


class ServedBackend:
    """Asks a retriever server. Safe to share between threads and event loops."""

    def __init__(self, url: str, settings: ServedSearchSettings) -> None:
        try:
            address = httpx.URL(url)
        except httpx.InvalidURL as failure:
            raise RetrievalError(f"{url!r} is no address ({failure}); expected http://HOST:PORT") from failure
        self._url = address.copy_with(path=settings.path) if address.path in ("", "/") else address
        # Messages name it without the password that an address may hold.
        self.name = f"the search server {self._url.copy_with(userinfo=b'')}"
        self._settings = settings
        self._caller = PatientCaller(self.name, settings.calls)
        # A client without an event loop serves every loop; what is in flight is a thread each.
        self._http = httpx.Client(timeout=settings.calls.timeout_s)
        self._threads = ThreadPoolExecutor(_MAX_REQUESTS, thread_name_prefix="masksearch-served")

    def search(self, queries: Sequence[str], limit: int) -> list[list[ScoredPassage]]:
        """Return what `asearch` returns; works inside a running event loop too."""
        return finish_in_thread(lambda: self.asearch(queries, limit))

    async def asearch(self, queries: Sequence[str], limit: int) -> list[list[ScoredPassage]]:
        """Return one list per query, best first, asking for all of them in one request.

        Raises:
            RetrievalError: The reply is not of the form that the settings say.
            ServiceError: The server kept failing.
            ServiceRefusedError: It has no such path.
        """
        names = self._settings
        body = {names.queries_field: list(queries), names.limit_field: limit, names.scores_field: True}
        loop = asyncio.get_running_loop()
        reply = await self._caller.call(lambda: loop.run_in_executor(self._threads, self._post, body))
        found = reply.get(names.result_field) if isinstance(reply, Mapping) else None
        if not isinstance(found, list) or len(found) != len(queries):
            raise self._malformed(reply, f"`{names.result_field}`, a list of one list of passages per query")
        return [self._read_ranking(ranking, limit) for ranking in found]

    def _post(self, body: dict[str, Any]) -> Any:
        response = self._http.post(self._url, json=body)
        response.raise_for_status()
        return response.json()

    def _read_ranking(self, ranking: object, limit: int) -> list[ScoredPassage]:
        if not isinstance(ranking, list):
            raise self._malformed(ranking, "a list of passages for each query")
        hits = [self._read_hit(entry, rank) for rank, entry in enumerate(ranking[:limit], start=1)]
        return [hit for hit in hits if hit.passage.text.strip()]

    def _read_hit(self, entry: object, rank: int) -> ScoredPassage:
        names = self._settings
        fields_of_hit = entry if isinstance(entry, Mapping) else {}
        document = fields_of_hit.get(names.document_field, entry)
        if not isinstance(document, Mapping) or not isinstance(document.get(names.text_field), str):
            raise self._malformed(entry, f"passages with their text as `{names.text_field}`")
        score = fields_of_hit.get(names.score_field)
        passage = _read_document(document, names.text_field)
        return ScoredPassage(passage, float(score) if isinstance(score, int | float) else 1 / rank)

    def _malformed(self, found: object, expected: str) -> RetrievalError:
        shown = sorted(map(str, found)) if isinstance(found, Mapping) else repr(found)
        return RetrievalError(
            f"{self.name} replied {str(shown)[:_SHOWN_CHARACTERS]}; expected {expected}. Say in the "
            f"recipe what it calls its fields (`retrieval.served`)"
        )


def document_of(passage: Passage) -> dict[str, Any]:
    """Return a passage as a server sends it: Search-R1's `contents`, and the passage's own fields beside it."""
    return {**dump_record(passage), "contents": f'"{passage.title}"\n{passage.text}'}


def _read_document(document: Mapping[str, Any], text_field: str) -> Passage:
    if document.keys() >= _PASSAGE_FIELDS:
        kept = {name: document[name] for name in (*_PASSAGE_FIELDS, "metadata") if name in document}
        return load_record(Passage, kept, RetrievalError)
    title, text = document.get("title"), document[text_field]
    if text_field == "contents" or not isinstance(title, str):
        first_line, text = split_contents(text)
        title = first_line or (title if isinstance(title, str) else "")
    given, source = document.get("id"), document.get("source")
    return Passage(
        content_id(title, text.strip()) if given in (None, "") else str(given),
        title,
        text.strip(),
        source=source if isinstance(source, str) else "",
        metadata={name: value for name, value in document.items() if name not in ("id", "title", text_field)},
    )
