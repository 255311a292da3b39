"""Where the vectors of an index are kept: in Chroma's files, on a Chroma server, or in a LangChain vector store.

A file of the part says which. Rows are added before the index tells of them and taken out after it has forgotten them,
so that a store, which knows no versions, never lacks what somebody looks for; what is too much is passed over
(`PassageFile.best`).
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import tempfile
import uuid
import weakref
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from masksearch_agent.errors import RetrievalError, needs_extra
from masksearch_agent.files import replace_text
from masksearch_agent.jsonl import load_record
from masksearch_agent.records import Passage, ScoredPassage
from masksearch_agent.retrieval.backends import IndexPart
from masksearch_agent.retrieval.passages import PassageFile, with_advice

__all__ = (
    "ChromaVectors",
    "StoreIndex",
    "StoredTexts",
    "VectorPlace",
    "check_chroma",
    "choose_place",
    "embedded_text",
)

_PLACE = "vectors.json"
_ROW, _INDEX = "masksearch_row", "masksearch_index"
_STORE_BATCH = 500

# Chroma's default of 100 misses close neighbours where vectors are spread out; this costs 0.1 ms a query.
_HNSW = {"space": "cosine", "ef_search": 200, "ef_construction": 200}


@dataclass(frozen=True)
class VectorPlace:
    """Where the vectors of a part are."""

    collection: str
    """Its name in Chroma, and what the ids in another store begin with."""
    url: str = ""
    """Of the Chroma server; empty where the vectors are in the folder of the part or in another store."""
    store: str = ""
    """Type of the LangChain vector store; empty where there is none."""
    size: int = 0
    """Dimensions of a vector, once one is known."""

    def write(self, folder: Path) -> VectorPlace:
        """Write it into the folder of the part."""
        replace_text(folder / _PLACE, json.dumps(asdict(self)) + "\n")
        return self

    def sized(self, folder: Path, size: int) -> VectorPlace:
        """Note the dimensions, where they are not known yet."""
        return self if self.size else replace(self, size=size).write(folder)

    @classmethod
    def read(cls, folder: Path) -> VectorPlace:
        """Read what was written.

        Raises:
            RetrievalError: It is missing or damaged.
        """
        try:
            data = json.loads((folder / _PLACE).read_text(encoding="utf-8"))
            return load_record(cls, data, RetrievalError)
        except (OSError, ValueError, RecursionError) as failure:
            raise RetrievalError(f"no dense index in {folder}: {failure}") from failure


def choose_place(dense: Any) -> VectorPlace:
    """Return a new place by what `RetrievalSettings.dense` says: `chroma`, the address of a server, or a store."""
    name = f"masksearch-{uuid.uuid4().hex}"
    if dense == "chroma":
        return VectorPlace(name)
    if isinstance(dense, str):
        return VectorPlace(name, url=dense)
    return VectorPlace(name, store=type(dense).__qualname__)


def embedded_text(passage: Passage) -> str:
    """Return what is embedded of a passage."""
    return f"{passage.title}: {passage.text}" if passage.title else passage.text


class ChromaVectors:
    """A collection of vectors by row, in the folder of a part or on a server.

    Args:
        folder: The part's.
        place: What its file says.
        version: Grows with the passages of the index; None to write.

    Raises:
        RetrievalError: The collection is missing or damaged, or the server cannot be reached.
    """

    def __init__(self, folder: Path, place: VectorPlace, version: int | None = None) -> None:
        chroma_error = _import_chromadb().errors.ChromaError
        self.is_remote = bool(place.url)
        self._name, self._where = place.collection, place.url or str(folder)
        try:
            self._client = _connect(place.url) if self.is_remote else _open_folder(folder, version)
            # Chroma counts who uses a folder, and would keep it and its thread until the process ends.
            self._close = weakref.finalize(self, self._client.close)
            if version is None:
                self._collection = self._client.get_or_create_collection(
                    self._name, configuration={"hnsw": _HNSW}, embedding_function=None
                )
            else:
                self._collection = self._client.get_collection(self._name, embedding_function=None)
            self.count: int = self._collection.count()
            """Vectors in it."""
        except (chroma_error, ValueError) as failure:
            why = f"cannot read the dense index in {self._where}: {failure}"
            raise RetrievalError(why if self.is_remote else with_advice(why)) from failure
        self.max_batch: int = self._client.get_max_batch_size()

    def __enter__(self) -> ChromaVectors:
        return self

    def __exit__(self, *_: object) -> None:
        self._close()

    def put(self, rows: Iterable[int], vectors: Any) -> None:
        """Add the vectors of rows; one that an unfinished writer left there is replaced."""
        self._collection.upsert(ids=[str(row) for row in rows], embeddings=vectors)

    def remove(self, rows: Sequence[int]) -> None:
        """Take rows out, as far as they are there."""
        ids = map(str, rows)
        while batch := list(islice(ids, self.max_batch)):
            self._collection.delete(ids=batch)

    def drop(self) -> None:
        """Remove the collection."""
        self._client.delete_collection(self._name)

    def nearest(self, vectors: Any, limit: int) -> list[list[tuple[int, float]]]:
        """Return the rows of the nearest vectors for each of these, and their cosines, the nearest first."""
        if not self.count:
            return [[] for _ in vectors]
        try:
            found = self._collection.query(
                query_embeddings=vectors, n_results=min(limit, self.count), include=["distances"]
            )
        except _import_chromadb().errors.InternalError as failure:
            if self.is_remote:
                raise
            why = f"cannot read the dense index in {self._where}: {failure}"
            raise RetrievalError(with_advice(why)) from failure
        return [
            [(row, 1.0 - away) for away, row in sorted(zip(distances, map(int, ids), strict=True))]
            for ids, distances in zip(found["ids"], found["distances"], strict=True)
        ]


def _connect(url: str) -> Any:
    parts = urlsplit(url)
    chromadb = _import_chromadb()
    settings = chromadb.config.Settings(anonymized_telemetry=False)
    port = parts.port or (443 if parts.scheme == "https" else 8000)
    return chromadb.HttpClient(
        parts.hostname or "127.0.0.1", port, ssl=parts.scheme == "https", settings=settings
    )


def check_chroma(folder: Path) -> None:
    """Look whether Chroma's main file is what it should be. Opening it tells more, and would write to it.

    Raises:
        RetrievalError: It is missing or damaged.
    """
    path = folder / "chroma.sqlite3"
    try:
        with path.open("rb") as file:
            is_database = file.read(16) == b"SQLite format 3\0"
    except OSError as failure:
        raise RetrievalError(f"cannot read the dense index in {folder}: {failure}") from failure
    if not is_database:
        raise RetrievalError(f"cannot read the dense index in {folder}: {path.name} is damaged")


def _open_folder(folder: Path, version: int | None) -> Any:
    chromadb = _import_chromadb()
    settings = chromadb.config.Settings(anonymized_telemetry=False)
    if not os.access(folder, os.W_OK):
        # Chroma writes to the files that it opens.
        copy = tempfile.TemporaryDirectory(prefix="masksearch-dense-")
        shutil.copytree(folder, copy.name, dirs_exist_ok=True, ignore=shutil.ignore_patterns("vectors.*"))
        for file in (Path(copy.name), *Path(copy.name).rglob("*")):
            file.chmod(file.stat().st_mode | 0o200)
        client = chromadb.PersistentClient(copy.name, settings=settings)
        weakref.finalize(client, copy.cleanup)
        return client
    return chromadb.PersistentClient(_spell(folder, version), settings=settings)


def _spell(folder: Path, version: int | None) -> str:
    """Return a path of the folder that is written in another way for each version.

    Chroma keeps what it has opened, and its view of it, by the path. Whoever opens an index again wants to see what
    others have added, while earlier readers go on.
    """
    number = 0 if version is None else version + 1
    return str(folder) + "".join("/." if bit == "1" else "//" for bit in f"{number:b}")


def _import_chromadb() -> Any:
    with needs_extra("index"):
        import chromadb
        import chromadb.errors
    return chromadb


class StoredTexts:
    """The passages of a part in a LangChain vector store, which embeds them itself.

    Raises:
        RetrievalError: The store was not given.
    """

    def __init__(self, part: IndexPart) -> None:
        place = VectorPlace.read(part.folder)
        if isinstance(part.dense, str):
            raise RetrievalError(
                f"the passages in {part.folder} are in a vector store ({place.store}); give it with the settings "
                "(`RetrievalSettings(dense=store)`) or to `open_index(…, vector_store=store)`"
            )
        self.store = part.dense
        self._part, self._prefix = part, place.collection

    def add(self, first: int) -> int:
        """Add the passages from a row on; return how many were embedded."""
        from langchain_core.documents import Document

        new, count = self._part.passages.since(first), 0
        while batch := list(islice(new, _STORE_BATCH)):
            documents = [
                Document(embedded_text(each), metadata={_ROW: row, _INDEX: self._prefix})
                for row, each in batch
            ]
            self.store.add_documents(documents, ids=[self._id(row) for row, _ in batch])
            count += len(batch)
        return count

    def remove(self, rows: Sequence[int]) -> None:
        """Take rows out."""
        ids: Iterator[str] = map(self._id, rows)
        while batch := list(islice(ids, _STORE_BATCH)):
            self.store.delete(batch)

    def find(self, query: str, limit: int) -> list[tuple[int, float]]:
        """Return the rows that the store finds, and one that no passage has for other documents that it holds."""
        found = [each.metadata for each in self.store.similarity_search(query, k=limit)]
        rows = (int(known[_ROW]) if known.get(_INDEX) == self._prefix else -1 for known in found)
        return [(row, 1 / place) for place, row in enumerate(rows, start=1)]

    def _id(self, row: int) -> str:
        return f"{self._prefix}-{row}"


@dataclass(frozen=True)
class StoreIndex:
    """Searches the passages that a LangChain vector store holds. A score is one over the rank."""

    texts: StoredTexts
    searched_passages: PassageFile
    """All passages of the index, in its order."""

    def search(self, queries: Sequence[str], limit: int) -> list[list[ScoredPassage]]:
        """Return the best passages for each query."""
        return [self.searched_passages.best(partial(self.texts.find, query), limit) for query in queries]

    async def asearch(self, queries: Sequence[str], limit: int) -> list[list[ScoredPassage]]:
        """Return the best passages for each query, searched for at once."""
        searches = (asyncio.to_thread(self.search, [query], limit) for query in queries)
        return [hits for (hits,) in await asyncio.gather(*searches)]
