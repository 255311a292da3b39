from __future__ import annotations

import math
import random
import re
import sys
from collections import Counter
from pathlib import Path

import bm25s
import pytest
from fakes.passages import ids, make_passages

from masksearch_agent.errors import MissingExtraError, RetrievalError
from masksearch_agent.records import Passage
from masksearch_agent.retrieval.modes.bm25 import BM25Index

TEXTS = ("the red fox", "red red wine and bread", "a blue whale", "blue fox fox fox in the wine")


def built(directory: Path, passages: list[Passage]) -> BM25Index:
    BM25Index.build(directory / "bm25", passages)
    return BM25Index.load(directory / "bm25", passages)


def reference_scores(query: str, texts: list[str], k1: float = 1.5, b: float = 0.75) -> list[float]:
    """Okapi BM25 as Lucene computes it, written out."""
    documents = [Counter(re.findall(r"\w+", text.lower())) for text in texts]
    mean_length = sum(each.total() for each in documents) / len(documents)
    scores = []
    for document in documents:
        score = 0.0
        for word in query.lower().split():
            holders = sum(word in each for each in documents)
            idf = math.log(1 + (len(documents) - holders + 0.5) / (holders + 0.5))
            norm = k1 * (1 - b + b * document.total() / mean_length)
            score += idf * document[word] / (document[word] + norm)
        scores.append(score)
    return scores


def test_scores_equal_the_bm25_formula_over_title_and_text(tmp_path: Path):
    passages = make_passages(*TEXTS)
    expected = reference_scores("red fox T3", [f"{each.title} {each.text}" for each in passages])
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


def test_the_index_is_the_one_that_bm25s_builds_and_holds_no_pickle(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("masksearch_agent.retrieval.modes._bm25_scores._STRETCH", 3)
    monkeypatch.setattr("masksearch_agent.retrieval.modes._bm25_scores._BLOCK", 20)
    words = [f"w{n}" for n in range(9)]
    draw = random.Random(0)
    texts = [" ".join(draw.choices(words, k=draw.randrange(12))) for _ in range(20)]
    built(tmp_path, make_passages(*texts))
    assert {file.suffix for file in (tmp_path / "bm25").iterdir()} == {".npy", ".json"}
    streamed = bm25s.BM25.load(tmp_path / "bm25", load_corpus=False)
    whole = bm25s.BM25()
    whole.index([f"t{n} {text}".split() for n, text in enumerate(texts)], show_progress=False)
    for query in words:
        assert streamed.get_scores([query]) == pytest.approx(whole.get_scores([query]), rel=1e-5)


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
    with pytest.raises(RetrievalError, match="cannot read the BM25 index"):
        BM25Index.load(tmp_path / "nowhere", passages)
    built(tmp_path, passages)
    with pytest.raises(RetrievalError, match="holds 4 passages; expected 3"):
        BM25Index.load(tmp_path / "bm25", passages[:3])
    next(tmp_path.glob("bm25/data*.npy")).write_bytes(b"garbage")
    with pytest.raises(RetrievalError, match="cannot read the BM25 index"):
        BM25Index.load(tmp_path / "bm25", passages)


def test_a_passage_without_words_is_never_found(tmp_path: Path):
    index = built(tmp_path, [Passage("dots", "", "…"), Passage("word", "", "word")])
    assert [ids(hits) for hits in index.search(["word", "…"], 5)] == [["word"], []]


async def test_async_search_gives_the_same(tmp_path: Path):
    index = built(tmp_path, make_passages(*TEXTS))
    assert await index.asearch(["red"], 2) == index.search(["red"], 2)


def test_a_missing_package_names_its_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "bm25s", None)
    with pytest.raises(MissingExtraError, match=r"bm25s is not installed; .*\[index\]"):
        BM25Index.build(tmp_path / "bm25", make_passages("x"))
