from __future__ import annotations

import math
import random
import re
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest
from fakes.passages import WordEmbedder, ids, make_passages

from masksearch_agent.config.retrieval import RetrievalSettings
from masksearch_agent.errors import MissingExtraError, RetrievalError
from masksearch_agent.failures import is_exhausted
from masksearch_agent.records import Passage
from masksearch_agent.retrieval.backends import IndexPart
from masksearch_agent.retrieval.index import build_index, open_index, update_index
from masksearch_agent.retrieval.modes.bm25 import MODE, BM25Index

TEXTS = ("the red fox", "red red wine and bread", "a blue whale", "blue fox fox fox in the wine")


def built(directory: Path, passages: list[Passage]) -> BM25Index:
    build_index(passages, directory / "index", RetrievalSettings(mode="bm25"))
    opened = open_index(directory / "index")
    assert isinstance(opened, BM25Index)
    return opened


def reference_scores(query: str, texts: list[str], k1: float = 1.2, b: float = 0.75) -> list[float]:
    """Okapi BM25 as Lucene computed it before its version 8, written out."""
    documents = [Counter(re.findall(r"\w+", text.lower())) for text in texts]
    mean_length = sum(each.total() for each in documents) / len(documents)
    scores = []
    for document in documents:
        score = 0.0
        for word in query.lower().split():
            holders = sum(word in each for each in documents)
            idf = math.log(1 + (len(documents) - holders + 0.5) / (holders + 0.5))
            norm = k1 * (1 - b + b * document.total() / mean_length)
            score += (k1 + 1) * idf * document[word] / (document[word] + norm)
        scores.append(score)
    return scores


def test_scores_equal_the_bm25_formula_over_title_three_times_and_text(tmp_path: Path):
    passages = make_passages(*TEXTS)
    expected = reference_scores("red fox T3", [" ".join([each.title] * 3 + [each.text]) for each in passages])
    (hits,) = built(tmp_path, passages).search(["red fox T3"], 4)
    assert {hit.passage.id: pytest.approx(hit.score, rel=1e-5) for hit in hits} == {
        f"p{position}": score for position, score in enumerate(expected) if score > 0
    }
    assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)


@pytest.mark.parametrize("limit", [1, 2, 3, 5])
def test_ties_stand_in_corpus_order(tmp_path: Path, limit: int):
    passages = [Passage(f"p{n}", "", "same words") for n in range(3)]
    (hits,) = built(tmp_path, [*passages, Passage("other", "", "else here")]).search(["same"], limit)
    assert ids(hits) == ["p0", "p1", "p2"][:limit]


def test_each_query_gets_its_own_list_in_order(tmp_path: Path):
    results = built(tmp_path, make_passages(*TEXTS)).search(["whale", "nothing known", "", "BREAD"], 2)
    assert [ids(hits) for hits in results] == [["p2"], [], [], ["p1"]]


def test_many_segments_rank_as_one_does(tmp_path: Path):
    draw = random.Random(0)
    words = [f"w{number}" for number in range(9)]
    passages = make_passages(*(" ".join(draw.choices(words, k=draw.randrange(1, 12))) for _ in range(60)))
    whole = built(tmp_path / "whole", passages)
    grown = built(tmp_path / "grown", passages[:20])
    for start in range(20, 60, 10):
        update_index(tmp_path / "grown" / "index", passages[start : start + 10])
    opened = open_index(tmp_path / "grown" / "index")
    assert len(list((tmp_path / "grown").rglob("*.idx"))) > 1
    for query in (*words, "w1 w2 w3"):
        expected = [
            (hit.passage.id, pytest.approx(hit.score, rel=1e-5)) for hit in whole.search([query], 60)[0]
        ]
        assert [(hit.passage.id, hit.score) for hit in opened.search([query], 60)[0]] == expected
    assert ids(grown.search(["t20"], 5)[0]) == []


def test_in_a_large_corpus_common_words_rank_what_rare_ones_find(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    texts = (
        "the the fox",
        "the fox ran",
        "the whale",
        "the tea of the the",
        "of the heron",
        "the fox of the bay",
    )
    index = built(tmp_path, make_passages(*texts))
    queries = ["the fox", "of the", "the"]
    whole = index.search(queries, 6)
    monkeypatch.setattr("masksearch_agent.retrieval.modes.bm25._LARGE", 0)
    monkeypatch.setattr("masksearch_agent.retrieval.modes.bm25._SHARE", 0.6)
    for word, before, after in zip(("fox", "of", "the"), whole, index.search(queries, 6), strict=True):
        expected = [hit for hit in before if word in hit.passage.text.split()]
        assert [(hit.passage.id, hit.score) for hit in after] == [
            (hit.passage.id, pytest.approx(hit.score, rel=1e-5)) for hit in expected
        ]
    assert [len(hits) for hits in whole] == [6, 6, 6]


def test_chinese_is_found_by_its_characters(tmp_path: Path):
    texts = ("北京大学位于北京市", "南京大学位于南京市", "iPhone手机1994年上市")
    index = built(tmp_path, make_passages(*texts))
    assert [ids(hits)[0] for hits in index.search(["南京在哪里", "北京", "IPHONE", "1994"], 1)] == [
        "p1",
        "p0",
        "p2",
        "p2",
    ]


def test_a_damaged_or_foreign_index_is_an_error(tmp_path: Path):
    passages = make_passages(*TEXTS)
    opened = built(tmp_path / "four", passages)
    built(tmp_path / "three", passages[:3])
    with pytest.raises(RetrievalError, match="cannot read the BM25 index"):
        BM25Index(tmp_path / "nowhere", opened.searched_passages)
    (folder,) = tmp_path.glob("three/index/build-*/bm25")
    with pytest.raises(RetrievalError, match="holds 3 passages; expected 4"):
        BM25Index(folder, opened.searched_passages)
    terms = next(folder.glob("*.term"))
    terms.unlink()  # It is mapped still; what shrinks a mapped file ends the process that reads it.
    terms.write_bytes(b"garbage")
    with pytest.raises(RetrievalError, match="cannot read the BM25 index"):
        BM25Index(folder, opened.searched_passages)


def test_a_passage_without_words_is_never_found(tmp_path: Path):
    index = built(tmp_path, [Passage("dots", "", "…"), Passage("word", "", "word")])
    assert [ids(hits) for hits in index.search(["word", "…"], 5)] == [["word"], []]


async def test_async_search_gives_the_same(tmp_path: Path):
    index = built(tmp_path, make_passages(*TEXTS))
    assert await index.asearch(["red"], 2) == index.search(["red"], 2)


def test_a_missing_package_names_its_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "tantivy", None)
    with pytest.raises(MissingExtraError, match=r"tantivy is not installed; .*\[index\]"):
        built(tmp_path, make_passages("x"))


@pytest.mark.parametrize("size", [100, 1000])
def test_a_full_disk_is_told_and_known_as_one(tmp_path: Path, size: int):
    resource = pytest.importorskip("resource")
    built(tmp_path / "warm", make_passages(*TEXTS))
    passages = [Passage(f"p{number}", "", f"word{number}") for number in range(100)]
    part = IndexPart(tmp_path / "bm25", cast(Any, Rows(passages)), WordEmbedder())
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        with pytest.raises(
            RetrievalError, match=r"cannot write the BM25 index in .*File too large"
        ) as caught:
            MODE.add(part, 0)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert is_exhausted(caught.value)


def test_of_a_writer_that_ended_it_is_told_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    told = iter(
        [
            "An error occurred in a thread: 'An index writer was killed.. A worker thread encountered an error'",
            "An IO error occurred: 'No space left on device (os error 28)'",
        ]
    )

    class Writer:
        def add_document(self, document: object) -> None:
            raise ValueError(next(told))

        def commit(self) -> None:
            raise ValueError(next(told))

        def delete_documents_by_query(self, query: object) -> None: ...

    class Index:
        def __init__(self, schema: object, path: str) -> None:
            self.schema = schema

        def writer(self, heap_bytes: int, threads: int) -> Writer:
            return Writer()

    monkeypatch.setattr("tantivy.Index", Index)
    part = IndexPart(tmp_path / "bm25", cast(Any, Rows(make_passages("red"))), WordEmbedder())
    with pytest.raises(RetrievalError, match="No space left on device") as caught:
        MODE.add(part, 0)
    assert is_exhausted(caught.value)


class Rows:
    """Passages in the way that an index has them."""

    def __init__(self, passages: list[Passage]) -> None:
        self.passages = passages

    def since(self, first: int) -> Iterator[tuple[int, Passage]]:
        return enumerate(self.passages)


@pytest.mark.parametrize(
    "query", ["fox " * 10_000, "?!.,;:-()[]", "", "\ud800 fox", 'words:"fox" OR (', "x" * 10**6]
)
def test_any_query_and_any_limit_is_answered(tmp_path: Path, query: str):
    opened = built(tmp_path, make_passages(*TEXTS))
    for limit in (1, 10**12):  # tantivy would abort the process for want of memory.
        [hits] = opened.search([query], limit)
        assert set(ids(hits)) <= ({"p0", "p3"} if "fox" in query else set())
    assert len(opened.search(["the fox wine blue"], 10**12)[0]) == 4
