from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from fakes.passages import WordEmbedder, ids, make_passages

from masksearch_agent.config.retrieval import RetrievalSettings
from masksearch_agent.errors import RetrievalError
from masksearch_agent.records import Passage
from masksearch_agent.retrieval.index import IndexReport, build_index, open_index
from masksearch_agent.retrieval.modes import dense
from masksearch_agent.retrieval.modes.bm25 import BM25Index
from masksearch_agent.retrieval.modes.dense import DenseIndex
from masksearch_agent.retrieval.modes.hybrid import HybridIndex

TEXTS = ("red fox runs", "red wine flows", "blue whale sings")
BM25_ONLY = RetrievalSettings(mode="bm25")


def snapshot(directory: Path) -> dict[str, int]:
    return {str(file.relative_to(directory)): file.stat().st_mtime_ns for file in directory.rglob("*")}


@pytest.mark.parametrize(
    ("mode", "backend"),
    [("bm25", BM25Index), ("dense", DenseIndex), ("hybrid", HybridIndex), (None, HybridIndex)],
)
def test_a_hybrid_index_opens_in_every_mode(tmp_path: Path, mode, backend):
    build_index(make_passages(*TEXTS), tmp_path / "index", embedder=WordEmbedder())
    opened = open_index(tmp_path / "index", mode, embedder=WordEmbedder())
    assert isinstance(opened, backend)
    assert [ids(hits)[0] for hits in opened.search(["whale sings", "fox runs"], 2)] == ["p2", "p0"]


def test_building_again_from_the_same_passages_touches_nothing(tmp_path: Path):
    embedder = WordEmbedder()
    build_index(make_passages(*TEXTS), tmp_path / "index", embedder=embedder)
    before = snapshot(tmp_path / "index")
    build_index(iter(make_passages(*TEXTS)), tmp_path / "index", embedder=embedder)
    assert snapshot(tmp_path / "index") == before
    assert embedder.batches == [3]


def test_a_narrower_mode_reuses_the_parts_and_changes_how_it_opens(tmp_path: Path):
    build_index(make_passages(*TEXTS), tmp_path / "index", embedder=WordEmbedder())
    build_index(make_passages(*TEXTS), tmp_path / "index", BM25_ONLY)
    assert isinstance(open_index(tmp_path / "index"), BM25Index)
    assert isinstance(open_index(tmp_path / "index", "hybrid", embedder=WordEmbedder()), HybridIndex)


def test_changed_passages_replace_the_index_even_while_it_is_open(tmp_path: Path):
    build_index(make_passages(*TEXTS), tmp_path / "index", embedder=WordEmbedder())
    old = open_index(tmp_path / "index", "dense", embedder=WordEmbedder())
    assert ids(old.search(["tea"], 1)[0])
    build_index(make_passages("green tea cools"), tmp_path / "index", embedder=WordEmbedder())
    fresh = open_index(tmp_path / "index", "dense", embedder=WordEmbedder())
    assert [hit.passage.text for hit in fresh.search(["tea"], 5)[0]] == ["green tea cools"]
    assert [path.name for path in tmp_path.iterdir()] == ["index"]


def test_another_embedder_rebuilds_the_dense_part(tmp_path: Path):
    build_index(make_passages(*TEXTS), tmp_path / "index", embedder=WordEmbedder())
    other = WordEmbedder("other")
    with pytest.raises(RetrievalError, match="built with embedder 'words', not 'other'"):
        open_index(tmp_path / "index", embedder=other)
    build_index(make_passages(*TEXTS), tmp_path / "index", embedder=other)
    assert other.batches == [3]


def test_a_failed_build_leaves_the_old_index_and_no_rubbish(tmp_path: Path):
    class BrokenEmbedder(WordEmbedder):
        def embed(self, texts):
            raise MemoryError("too much text")

    build_index(make_passages(*TEXTS), tmp_path / "index", embedder=WordEmbedder())
    before = snapshot(tmp_path / "index")
    with pytest.raises(MemoryError):
        build_index(make_passages("new"), tmp_path / "index", embedder=BrokenEmbedder())
    assert snapshot(tmp_path / "index") == before
    assert [path.name for path in tmp_path.iterdir()] == ["index"]


def test_repeated_passages_count_once_and_conflicting_ids_are_refused(tmp_path: Path):
    one = Passage("a", "T", "x")
    build_index([one, one], tmp_path / "index", BM25_ONLY)
    assert json.loads((tmp_path / "index" / "index.json").read_text())["count"] == 1
    with pytest.raises(RetrievalError, match="two different passages have the id 'a'"):
        build_index([one, Passage("a", "T", "y")], tmp_path / "other", BM25_ONLY)
    with pytest.raises(RetrievalError, match="no passage to index"):
        build_index([], tmp_path / "other", BM25_ONLY)


def test_only_what_changed_is_embedded_again(tmp_path: Path):
    embedder = WordEmbedder()
    first, second, third = make_passages(*TEXTS)
    report = build_index([first, second, third], tmp_path / "index", embedder=embedder)
    assert report == IndexReport(passages=3, added=3, removed=0, embedded=3)
    changed = Passage(second.id, second.title, "green tea cools")
    moved = Passage("new id", third.title, third.text, source="elsewhere")
    report = build_index([moved, changed, first], tmp_path / "index", embedder=embedder)
    assert report == IndexReport(passages=3, added=1, removed=1, embedded=1)
    assert embedder.batches == [3, 1]
    opened = open_index(tmp_path / "index", "dense", embedder=WordEmbedder())
    results = opened.search(["T2: blue whale sings", "T1: green tea cools", "T0: red fox runs"], 1)
    assert [hits[0].passage for hits in results] == [moved, changed, first]
    assert [hits[0].score for hits in results] == pytest.approx([1, 1, 1], abs=1e-5)
    assert build_index([first], tmp_path / "index", embedder=embedder) == IndexReport(1, 0, 2, 0)


def test_a_part_that_is_added_later_keeps_the_embeddings(tmp_path: Path):
    embedder = WordEmbedder()
    build_index(make_passages(*TEXTS), tmp_path / "index", RetrievalSettings(mode="dense"), embedder=embedder)
    build_index(make_passages(*TEXTS), tmp_path / "index", embedder=embedder)
    assert isinstance(open_index(tmp_path / "index", embedder=embedder), HybridIndex)
    assert embedder.batches == [3]


KILLED = """
import os, signal, sys
from pathlib import Path
from masksearch_agent.config.retrieval import RetrievalSettings
from masksearch_agent.records import Passage
from masksearch_agent.retrieval import index
at = sys.argv[2]
original = getattr(index, at)
def die(*args):
    if sys.argv[3] == "after":
        original(*args)
    os.kill(os.getpid(), signal.SIGKILL)
setattr(index, at, die)
index.build_index([Passage("n", "", "new words")], Path(sys.argv[1]), RetrievalSettings(mode="bm25"))
"""


@pytest.mark.parametrize(
    ("at", "when", "is_new"),
    [
        ("_write_parts", "after", False),
        ("_write_manifest", "before", False),
        ("_write_manifest", "after", True),
    ],
)
@pytest.mark.parametrize("has_index", [True, False])
def test_a_kill_leaves_a_whole_index_and_the_next_build_no_rubbish(
    tmp_path: Path, at: str, when: str, is_new: bool, has_index: bool
):
    index = tmp_path / "index"
    if has_index:
        build_index(make_passages(*TEXTS), index, BM25_ONLY)
    killed = subprocess.run([sys.executable, "-c", KILLED, str(index), at, when], timeout=60)
    assert killed.returncode == -signal.SIGKILL
    if has_index or is_new:
        found = open_index(index).search(["new whale"], 1)[0]
        assert ids(found) == (["n"] if is_new else ["p2"])
    build_index(make_passages("at last"), index, BM25_ONLY)
    assert ids(open_index(index).search(["last"], 1)[0]) == ["p0"]
    assert sorted(entry.name[:6] for entry in index.iterdir()) == ["build-", "index."]
    assert [entry.name for entry in tmp_path.iterdir()] == ["index"]


def test_two_builds_in_one_place_are_kept_apart(tmp_path: Path):
    def passages():
        with pytest.raises(RetrievalError, match="another process is building the index"):
            build_index(make_passages("intruder"), tmp_path / "index", BM25_ONLY)
        yield from make_passages(*TEXTS)

    build_index(passages(), tmp_path / "index", BM25_ONLY)
    assert ids(open_index(tmp_path / "index").search(["whale"], 1)[0]) == ["p2"]


def test_a_folder_that_is_no_index_is_not_overwritten(tmp_path: Path):
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(RetrievalError, match="exists and is not an index"):
        build_index(make_passages("x"), tmp_path, BM25_ONLY)
    assert (tmp_path / "thesis.txt").read_text() == "years of work"


def test_a_missing_part_or_index_says_what_to_run(tmp_path: Path):
    with pytest.raises(RetrievalError, match=r"no index in .*; run `masksearch index`"):
        open_index(tmp_path / "nowhere")
    build_index(make_passages("x"), tmp_path / "index", BM25_ONLY)
    with pytest.raises(
        RetrievalError, match=r"has no dense part, which mode 'hybrid' needs; run `masksearch index`"
    ):
        open_index(tmp_path / "index", "hybrid")
    with pytest.raises(RetrievalError, match="unknown search mode 'fuzzy'"):
        open_index(tmp_path / "index", "fuzzy")


@pytest.mark.parametrize("damage", ["index.json", "*/passages.jsonl", "*/bm25/params.index.json"])
def test_a_damaged_index_is_an_error_and_is_built_anew(tmp_path: Path, damage: str):
    build_index(make_passages(*TEXTS), tmp_path / "index", BM25_ONLY)
    next((tmp_path / "index").glob(damage)).write_text('{"half": ')
    with pytest.raises(RetrievalError, match="run `masksearch index`"):
        open_index(tmp_path / "index")
    build_index(make_passages(*TEXTS), tmp_path / "index", BM25_ONLY)
    assert ids(open_index(tmp_path / "index").search(["whale"], 1)[0]) == ["p2"]


def test_an_index_of_another_version_is_refused(tmp_path: Path):
    build_index(make_passages("x"), tmp_path / "index", BM25_ONLY)
    manifest = json.loads((tmp_path / "index" / "index.json").read_text())
    (tmp_path / "index" / "index.json").write_text(json.dumps({**manifest, "format_version": 99}))
    with pytest.raises(RetrievalError, match="format version 99, expected 2"):
        open_index(tmp_path / "index")


def test_bm25_mode_needs_neither_torch_nor_chroma(tmp_path: Path):
    build_index(make_passages(*TEXTS), tmp_path / "index", BM25_ONLY)
    script = (
        "import sys; from pathlib import Path; from masksearch_agent.retrieval.adapters import as_search\n"
        "hits = as_search(Path(sys.argv[1])).search(['whale'], 1)[0]\n"
        "assert hits[0].passage.id == 'p2'\n"
        "heavy = {'torch', 'chromadb', 'sentence_transformers', 'transformers'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", script, str(tmp_path / "index")], check=True, timeout=60)


def test_bm25_finds_most_supporting_passages_of_hotpotqa(shared_data: Path, tmp_path: Path):
    from masksearch_agent.corpus.readers import read_passages

    path = shared_data / "hotpotqa" / "distractor_50.json"
    build_index(read_passages(path), tmp_path / "index", BM25_ONLY)
    rows = json.loads(path.read_text(encoding="utf-8"))
    results = open_index(tmp_path / "index").search([row["question"] for row in rows], 5)
    recalls = []
    for row, hits in zip(rows, results, strict=True):
        gold = {title for title, _ in row["supporting_facts"]}
        recalls.append(len(gold & {hit.passage.title for hit in hits}) / len(gold))
    assert sum(recalls) / len(recalls) >= 0.75


class PickyEmbedder(WordEmbedder):
    def embed(self, texts):
        if any("whale" in text for text in texts):
            raise ValueError("no whales")
        return super().embed(texts)


def test_a_passage_that_cannot_be_embedded_is_counted_and_found_by_its_words(tmp_path: Path):
    passages, embedder = make_passages(*TEXTS), PickyEmbedder()
    report = build_index(passages, tmp_path / "index", embedder=embedder)
    assert report == IndexReport(3, 3, 0, embedded=2, failures={"ValueError: no whales": 1})
    hybrid, by_meaning = (
        open_index(tmp_path / "index", mode, embedder=embedder) for mode in ("hybrid", "dense")
    )
    assert hybrid.search(["blue"], 1)[0][0].passage.id == "p2"
    assert sorted(hit.passage.id for hit in by_meaning.search(["red fox blue wine"], 5)[0]) == ["p0", "p1"]
    # The next build takes over what was embedded, each vector with its own passage, and tries the other again.
    report = build_index(
        [*passages, Passage("p3", "", "a red hen")], tmp_path / "index", embedder=WordEmbedder()
    )
    assert report == IndexReport(4, 1, 0, embedded=2)
    by_meaning = open_index(tmp_path / "index", "dense", embedder=WordEmbedder())
    for passage in passages:
        [[hit]] = by_meaning.search([f"{passage.title}: {passage.text}"], 1)
        assert (hit.passage, hit.score) == (passage, pytest.approx(1, abs=1e-5))


def test_a_whole_batch_that_cannot_be_embedded_costs_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(dense, "_BATCH", 1)
    report = build_index(make_passages(*TEXTS), tmp_path / "index", embedder=PickyEmbedder())
    assert (report.passages, report.embedded, report.failed) == (3, 2, 1)
    opened = open_index(tmp_path / "index", "dense", embedder=WordEmbedder())
    assert len(opened.search(["red fox"], 5)[0]) == 2


def test_an_index_of_which_nothing_can_be_embedded_is_refused(tmp_path: Path):
    with pytest.raises(RetrievalError, match="1 passages, and none can be embedded: ValueError: no whales"):
        build_index(make_passages("whale"), tmp_path / "index", embedder=PickyEmbedder())
    assert not (tmp_path / "index").exists()


def test_an_index_keeps_the_metadata_of_its_passages(tmp_path: Path):
    passage = Passage("a", "T", "red fox", metadata={"page": 3, "url": "http://x"})
    build_index([passage], tmp_path / "index", BM25_ONLY)
    assert open_index(tmp_path / "index").search(["fox"], 1)[0][0].passage == passage
