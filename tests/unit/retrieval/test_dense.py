from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import numpy as np
import pytest
from fakes.passages import WordEmbedder, ids, make_passages

from masksearch_agent.errors import MissingExtraError, RetrievalError
from masksearch_agent.retrieval.modes.dense import DenseIndex

TEXTS = ("red fox runs", "red wine flows", "blue whale sings", "green tea cools")


@pytest.fixture
def index(tmp_path: Path) -> DenseIndex:
    passages = make_passages(*TEXTS)
    DenseIndex.build(tmp_path / "dense", passages, WordEmbedder())
    return DenseIndex(tmp_path / "dense", passages, WordEmbedder())


def test_the_ranking_is_by_exact_cosine(index: DenseIndex):
    embedder = WordEmbedder()
    vectors = embedder.embed([f"T{number}: {text}" for number, text in enumerate(TEXTS)])
    cosines = vectors @ embedder.embed(["red wine"])[0]
    (hits,) = index.search(["red wine"], 2)
    assert ids(hits) == [f"p{position}" for position in np.argsort(-cosines)[:2]] == ["p1", "p0"]
    assert [hit.score for hit in hits] == pytest.approx(sorted(cosines, reverse=True)[:2], abs=1e-5)


def test_all_queries_of_a_call_are_embedded_together(tmp_path: Path):
    passages, embedder = make_passages(*TEXTS), WordEmbedder()
    DenseIndex.build(tmp_path / "dense", passages, WordEmbedder())
    index = DenseIndex(tmp_path / "dense", passages, embedder)
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


def test_a_missing_or_foreign_index_is_an_error_and_creates_nothing(tmp_path: Path):
    passages = make_passages(*TEXTS)
    with pytest.raises(RetrievalError, match="no dense index"):
        DenseIndex(tmp_path / "nowhere", passages, WordEmbedder())
    assert not (tmp_path / "nowhere").exists()
    DenseIndex.build(tmp_path / "dense", passages, WordEmbedder())
    with pytest.raises(RetrievalError, match="holds 4 passages; expected 2"):
        DenseIndex(tmp_path / "dense", passages[:2], WordEmbedder())


def test_a_damaged_index_is_an_error(tmp_path: Path):
    (tmp_path / "dense").mkdir()
    (tmp_path / "dense" / "chroma.sqlite3").write_bytes(b"garbage" * 100)
    with pytest.raises(RetrievalError, match="cannot read the dense index"):
        DenseIndex(tmp_path / "dense", make_passages("x"), WordEmbedder())


def test_a_missing_package_names_its_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "chromadb", None)
    with pytest.raises(MissingExtraError, match=r"chromadb is not installed; .*\[index\]"):
        DenseIndex(tmp_path, make_passages("x"), WordEmbedder())
