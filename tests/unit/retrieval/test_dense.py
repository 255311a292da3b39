from __future__ import annotations

import asyncio
import json
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fakes.passages import WordEmbedder, ids, make_passages

from masksearch_agent.config.retrieval import RetrievalSettings
from masksearch_agent.errors import MissingExtraError, RetrievalError
from masksearch_agent.records import Passage
from masksearch_agent.retrieval.index import build_index, open_index, update_index
from masksearch_agent.retrieval.modes.dense import DenseIndex

TEXTS = ("red fox runs", "red wine flows", "blue whale sings", "green tea cools")


DENSE = RetrievalSettings(mode="dense")


def built(
    folder: Path, embedder: WordEmbedder, settings: RetrievalSettings = DENSE, **opening: Any
) -> DenseIndex:
    build_index(make_passages(*TEXTS), folder, settings, embedder=WordEmbedder())
    return open_index(folder, embedder=embedder, **opening)  # type: ignore[return-value]


@pytest.fixture
def index(tmp_path: Path) -> DenseIndex:
    return built(tmp_path / "index", WordEmbedder())


def test_the_ranking_is_by_exact_cosine(index: DenseIndex):
    embedder = WordEmbedder()
    vectors = embedder.embed([f"T{number}: {text}" for number, text in enumerate(TEXTS)])
    cosines = vectors @ embedder.embed(["red wine"])[0]
    (hits,) = index.search(["red wine"], 2)
    assert ids(hits) == [f"p{position}" for position in np.argsort(-cosines)[:2]] == ["p1", "p0"]
    assert [hit.score for hit in hits] == pytest.approx(sorted(cosines, reverse=True)[:2], abs=1e-5)


def test_all_queries_of_a_call_are_embedded_together(tmp_path: Path):
    embedder = WordEmbedder()
    index = built(tmp_path / "index", embedder)
    results = index.search(["whale sings", "tea cools", "fox runs"], 1)
    assert [ids(hits) for hits in results] == [["p2"], ["p3"], ["p0"]]
    assert embedder.batches == [3]


def test_a_limit_beyond_the_corpus_returns_all_of_it(index: DenseIndex):
    (hits,) = index.search(["red"], 50)
    assert sorted(ids(hits)) == ["p0", "p1", "p2", "p3"]


def test_no_query_needs_no_search(index: DenseIndex):
    assert index.search([], 3) == []


async def test_concurrent_async_searches_give_each_caller_its_own(index: DenseIndex):
    found = await asyncio.gather(*(index.asearch([text], 1) for text in TEXTS))
    assert [ids(hits) for (hits,) in found] == [["p0"], ["p1"], ["p2"], ["p3"]]
    assert await index.asearch([], 1) == []


def test_a_missing_foreign_or_damaged_index_is_an_error(tmp_path: Path):
    built(tmp_path / "four", WordEmbedder())
    (part,) = tmp_path.glob("four/build-*/dense")
    build_index(make_passages("x"), tmp_path / "one", DENSE, embedder=WordEmbedder())
    (other,) = tmp_path.glob("one/build-*/dense")
    kept = part.rename(tmp_path / "kept")
    with pytest.raises(RetrievalError, match=r"no dense index in .*; run `masksearch index`"):
        open_index(tmp_path / "four", embedder=WordEmbedder())
    assert not part.exists()
    other.rename(part)
    with pytest.raises(RetrievalError, match="holds 1 passages; expected 4"):
        open_index(tmp_path / "four", embedder=WordEmbedder())
    part.rename(tmp_path / "other")
    kept.rename(part)
    (part / "chroma.sqlite3").write_bytes(b"garbage" * 100)
    with pytest.raises(RetrievalError, match="cannot read the dense index"):
        open_index(tmp_path / "four", embedder=WordEmbedder())


def test_a_missing_package_names_its_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "chromadb", None)
    with pytest.raises(MissingExtraError, match=r"chromadb is not installed; .*\[index\]"):
        built(tmp_path / "index", WordEmbedder())


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Start a Chroma server, and return its address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = Path(sys.executable).with_name("chroma")
    data = str(tmp_path_factory.mktemp("server"))
    running = subprocess.Popen(
        [command, "run", "--path", data, "--host", "127.0.0.1", "--port", str(port)],
        stdout=subprocess.DEVNULL,
    )
    try:
        for _ in range(300):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.1)
        yield f"http://127.0.0.1:{port}"
    finally:
        running.terminate()
        running.wait(10)


def test_vectors_may_be_on_a_chroma_server(tmp_path: Path, server: str):
    import chromadb

    client = chromadb.HttpClient("127.0.0.1", int(server.rsplit(":", 1)[1]))
    settings = RetrievalSettings(mode="hybrid", dense="chroma_server", chroma_url=server)
    built(tmp_path / "index", WordEmbedder(), settings)
    assert not list(tmp_path.rglob("*.sqlite3"))
    for folder, mode in (("index", "dense"), ("index", "hybrid")):
        opened = open_index(tmp_path / folder, mode, embedder=WordEmbedder())
        assert [ids(hits)[0] for hits in opened.search(["blue whale sings", "tea cools"], 2)] == ["p2", "p3"]
    new = Passage("n", "N", "grey heron waits")
    update_index(tmp_path / "index", [new], ["p2"], embedder=WordEmbedder())
    opened = open_index(tmp_path / "index", "dense", embedder=WordEmbedder())
    assert [ids(hits)[0] for hits in opened.search(["grey heron waits"], 2)] == ["n"]
    assert "p2" not in ids(opened.search(["blue whale sings"], 10)[0])
    (before,) = [each.name for each in client.list_collections()]
    build_index(make_passages("all new"), tmp_path / "index", settings, embedder=WordEmbedder())
    (after,) = [each.name for each in client.list_collections()]
    assert before != after


async def test_a_langchain_vector_store_may_keep_and_embed_the_passages(tmp_path: Path):
    from langchain_core.documents import Document
    from langchain_core.embeddings import Embeddings
    from langchain_core.vectorstores import InMemoryVectorStore

    class Words(Embeddings):
        def embed_documents(self, texts):
            return WordEmbedder().embed(texts).tolist()

        def embed_query(self, text):
            return WordEmbedder().embed([text])[0].tolist()

    store = InMemoryVectorStore(Words())
    store.add_documents([Document("whale sings whale sings", id="the application's own")])
    settings = RetrievalSettings(mode="hybrid", dense=store)
    assert json.loads(settings.model_dump_json())["dense"] == "InMemoryVectorStore"
    index = built(tmp_path / "index", WordEmbedder(), settings, vector_store=store)
    assert ids(index.search(["whale sings"], 1)[0]) == ["p2"]
    update_index(tmp_path / "index", [Passage("n", "N", "grey heron")], ["p2"], settings=settings)
    opened = open_index(tmp_path / "index", "dense", vector_store=store)
    assert [ids(hits)[0] for hits in opened.search(["grey heron", "tea cools"], 2)] == ["n", "p3"]
    assert await opened.asearch(["grey heron"], 2) == opened.search(["grey heron"], 2)
    assert sorted(ids(opened.search(["blue whale sings"], 10)[0])) == ["n", "p0", "p1", "p3"]
    assert len(store.store) == 5
    with pytest.raises(RetrievalError, match=r"in a vector store \(InMemoryVectorStore\); give it"):
        open_index(tmp_path / "index", "dense")
    assert ids(open_index(tmp_path / "index", "bm25").search(["heron"], 1)[0]) == ["n"]
    build_index(make_passages("all new"), tmp_path / "index", settings)
    assert [each["text"] for each in store.store.values()] == ["whale sings whale sings", "T0: all new"]


def test_what_keeps_no_vectors_is_refused():
    for wrong in ("milvus", 7):
        with pytest.raises(
            ValueError, match="keeps no vectors; expected chroma, chroma_server or a LangChain"
        ):
            RetrievalSettings(dense=wrong)
