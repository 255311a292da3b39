from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fakes.passages import WordEmbedder, ids, make_passages

from masksearch_agent.config.retrieval import RetrievalSettings
from masksearch_agent.corpus.readers import read_passages
from masksearch_agent.corpus.report import CorpusReport
from masksearch_agent.errors import RetrievalError
from masksearch_agent.records import Passage, content_id
from masksearch_agent.retrieval.index import IndexReport, build_index, open_index, update_index
from masksearch_agent.retrieval.modes import dense
from masksearch_agent.retrieval.modes.bm25 import BM25Index
from masksearch_agent.retrieval.modes.dense import DenseIndex
from masksearch_agent.retrieval.modes.hybrid import HybridIndex
from masksearch_agent.retrieval.search import Search

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
    def ours() -> dict[str, int]:
        # Chroma writes to what it opens, for readers too.
        return {
            name: when for name, when in snapshot(tmp_path).items() if "/dense" not in name or ".f32" in name
        }

    embedder = WordEmbedder()
    build_index(make_passages(*TEXTS), tmp_path / "index", embedder=embedder)
    before = ours()
    build_index(iter(make_passages(*TEXTS)), tmp_path / "index", embedder=embedder)
    assert ours() == before
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


@pytest.mark.skipif(sys.platform == "win32", reason="an open file cannot be removed there")
def test_what_is_open_is_searched_on_after_its_folder_is_gone(tmp_path: Path):
    build_index(make_passages(*TEXTS), tmp_path / "index", BM25_ONLY)
    opened = open_index(tmp_path / "index")
    shutil.rmtree(tmp_path / "index")
    assert ids(opened.search(["whale"], 1)[0]) == ["p2"]


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
    before = {path.name for path in (tmp_path / "index").iterdir()}
    for passages in (make_passages("new"), make_passages(*TEXTS, "new")):
        with pytest.raises(MemoryError):
            build_index(passages, tmp_path / "index", embedder=BrokenEmbedder())
        assert {path.name for path in (tmp_path / "index").iterdir()} == before
        opened = open_index(tmp_path / "index", embedder=WordEmbedder())
        assert [sorted(ids(hits)) for hits in opened.search(["blue whale", "new"], 3)] == [
            ["p0", "p1", "p2"]
        ] * 2
    assert [path.name for path in tmp_path.iterdir()] == ["index"]


def test_repeated_passages_count_once_and_conflicting_ids_are_refused(tmp_path: Path):
    one = Passage("a", "T", "x")
    build_index([one, one], tmp_path / "index", BM25_ONLY)
    assert ids(open_index(tmp_path / "index").search(["x"], 5)[0]) == ["a"]
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
from masksearch_agent.retrieval.manifest import Manifest
from masksearch_agent.retrieval.modes import bm25
folder, at, when, count = Path(sys.argv[1]), sys.argv[2], sys.argv[3], int(sys.argv[4])
owner = Manifest if at == "write" else bm25._BM25Mode
original = getattr(owner, at)
def die(*args):
    if when == "after":
        original(*args)
    os.kill(os.getpid(), signal.SIGKILL)
setattr(owner, at, die)
old = [Passage(f"p{number}", f"T{number}", f"old{number} words") for number in range(count)]
passages = [Passage("n", "", "new words"), *old[1:]]
index.build_index(passages, folder, RetrievalSettings(mode="bm25"))
"""


@pytest.mark.parametrize(
    ("at", "when", "is_new"),
    [
        ("add", "before", False),
        ("add", "after", False),
        ("write", "before", False),
        ("write", "after", True),
        ("remove", "before", True),
        ("remove", "after", True),
    ],
)
@pytest.mark.parametrize(("before", "is_grown"), [(0, False), (1, False), (20, True)])
def test_a_kill_leaves_a_whole_index_and_the_next_build_no_rubbish(
    tmp_path: Path, at: str, when: str, is_new: bool, before: int, is_grown: bool
):
    if at == "remove" and not is_grown:
        pytest.skip("a new build has nothing to remove")
    index, old = tmp_path / "index", make_passages(*(f"old{number} words" for number in range(before)))
    if before:
        build_index(old, index, BM25_ONLY)
        (build,) = index.glob("build-*")
    killed = subprocess.run([sys.executable, "-c", KILLED, str(index), at, when, str(before)], timeout=60)
    assert killed.returncode == -signal.SIGKILL
    if before or is_new:
        found = open_index(index).search(["new old0", "words"], 50)
        assert ids(found[0]) == (["n"] if is_new else ["p0"])
        assert sorted(ids(found[1])) == sorted(
            ["n", *ids_of(old[1:])] if is_new else ids_of(old)
        )  # Nothing is there twice, and nothing is missing.
    if is_grown:
        assert list(index.glob("build-*")) == [build]
        build_index(old, index, BM25_ONLY)
        assert [ids(hits) for hits in open_index(index).search(["new", "old0"], 5)] == [[], ["p0"]]
        assert list(index.glob("build-*")) == [build]
    build_index(make_passages("at last"), index, BM25_ONLY)
    assert ids(open_index(index).search(["last"], 1)[0]) == ["p0"]
    assert sorted(entry.name[:6] for entry in index.iterdir()) == ["build-", "index."]
    assert [entry.name for entry in tmp_path.iterdir()] == ["index"]


def ids_of(passages: list[Passage]) -> list[str]:
    return [passage.id for passage in passages]


@pytest.fixture
def grown(tmp_path: Path) -> Path:
    """Return an index of twenty documents of two passages each."""
    passages = [
        Passage(f"d{number}-{part}", f"D{number}", f"text{number} part{part} common", f"d{number}", part)
        for number in range(20)
        for part in range(2)
    ]
    build_index(passages, tmp_path / "index", embedder=WordEmbedder())
    return tmp_path / "index"


def test_adding_writes_no_old_file_anew_and_embeds_only_what_is_new(grown: Path):
    (build,) = grown.glob("build-*")
    segments = {path: path.stat().st_mtime_ns for path in build.glob("bm25/*.idx")}
    embedder = WordEmbedder()
    report = update_index(grown, [Passage("new", "N", "fresh words", "n")], embedder=embedder)
    assert (report, embedder.batches) == (IndexReport(41, added=1, removed=0, embedded=1), [1])
    assert list(grown.glob("build-*")) == [build]
    assert {path: path.stat().st_mtime_ns for path in segments} == segments
    for mode in ("bm25", "dense", "hybrid"):
        opened = open_index(grown, mode, embedder=WordEmbedder())
        assert [ids(hits)[0] for hits in opened.search(["fresh", "D7: text7 part1"], 3)] == ["new", "d7-1"]
        assert len(opened.searched_passages) == 41  # type: ignore[attr-defined]


@pytest.mark.parametrize("mode", ["bm25", "dense"])
def test_what_is_removed_is_not_found_nor_listed(grown: Path, mode: str):
    update_index(grown, removed=["d3", "d5-1"], embedder=WordEmbedder())
    opened = open_index(grown, mode, embedder=WordEmbedder())
    found = opened.search(["text3", "text5", "common"], 100)
    gone = {"d3-0", "d3-1", "d5-1"}
    assert "d5-0" in ids(found[1])
    assert len(found[2]) == 37
    assert not gone & {each for hits in found for each in ids(hits)}
    passages = opened.searched_passages  # type: ignore[attr-defined]
    assert not gone & set(ids_of(passages))
    assert [passages[place] for place in range(37)] == list(passages) == passages[:]
    assert (passages[5].id, passages[6].id, passages[9].id, passages[-1].id) == (
        "d2-1",
        "d4-0",
        "d6-0",
        "d19-1",
    )


def test_a_document_that_is_added_again_takes_the_place_of_all_its_passages(grown: Path):
    shorter = Passage("d4-0", "D4", "text4 part0 shorter", "d4", 0)
    report = update_index(
        grown, [shorter, Passage("d6-0", "D6", "text6 part0 common", "d6", 0)], embedder=WordEmbedder()
    )
    assert report == IndexReport(38, added=1, removed=3, embedded=1, replaced=2, replaced_first=("d4", "d6"))
    opened = open_index(grown, "bm25")
    assert [ids(hits) for hits in opened.search(["text4", "text6"], 9)] == [["d4-0"], ["d6-0"]]
    assert opened.search(["shorter"], 9)[0][0].passage == shorter


def test_replaced_documents_are_told_where_the_index_is_built_anew_and_those_that_stay_are_not(grown: Path):
    kept = [Passage(f"d0-{part}", "D0", f"text0 part{part} common", "d0", part) for part in range(2)]
    changed = [Passage(f"d{number}", "", f"other{number}", f"d{number}") for number in range(1, 20)]
    (build,) = grown.glob("build-*")
    report = update_index(grown, [*kept, *changed, Passage("n", "", "new", "n")], embedder=WordEmbedder())
    assert list(grown.glob("build-*")) != [build]
    assert (report.replaced, report.replaced_first) == (19, ("d1", "d2", "d3", "d4", "d5"))
    assert update_index(grown, removed=["d7"], embedder=WordEmbedder()).replaced == 0


def test_an_index_with_many_dead_rows_is_built_anew_without_embedding_again(grown: Path):
    embedder = WordEmbedder()
    (build,) = grown.glob("build-*")
    update_index(grown, removed=[f"d{number}" for number in range(15)], embedder=embedder)
    assert list(grown.glob("build-*")) != [build]
    assert embedder.batches == []
    opened = open_index(grown, embedder=WordEmbedder())
    assert sorted(ids(opened.search(["common"], 50)[0])) == sorted(
        f"d{number}-{part}" for number in range(15, 20) for part in range(2)
    )


def test_nothing_is_left_is_an_error_and_no_index_is_made(grown: Path, tmp_path: Path):
    with pytest.raises(RetrievalError, match="there is no passage to index"):
        update_index(grown, removed=[f"d{number}" for number in range(20)], embedder=WordEmbedder())
    assert len(open_index(grown, "bm25").search(["common"], 50)[0]) == 40
    with pytest.raises(RetrievalError, match="no index in"):
        update_index(tmp_path / "nowhere", make_passages("x"))
    assert not (tmp_path / "nowhere").exists()


@pytest.mark.parametrize("mode", ["bm25", "dense", "hybrid"])
def test_a_reader_goes_on_while_the_index_grows_shrinks_and_is_replaced(grown: Path, mode: str):
    reader = open_index(grown, mode, embedder=WordEmbedder())
    for number in range(3):
        update_index(
            grown, [Passage(f"n{number}", "N", f"fresh{number}", f"n{number}")], embedder=WordEmbedder()
        )
        assert ids(reader.search(["D7: text7 part1 common"], 1)[0]) == ["d7-1"]
        assert not set(ids(reader.search(["fresh0"], 50)[0])) & {"n0", "n1", "n2"}
    build_index(make_passages("all new"), grown, embedder=WordEmbedder())
    assert ids(reader.search(["D7: text7 part1 common"], 1)[0]) == ["d7-1"]
    fresh = open_index(grown, mode, embedder=WordEmbedder())
    assert ids(fresh.search(["new"], 5)[0]) == ["p0"]
    del reader
    build_index(make_passages("once more"), grown, embedder=WordEmbedder())
    assert ids(open_index(grown, mode, embedder=WordEmbedder()).search(["once"], 5)[0]) == ["p0"]


READING = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from fakes.passages import WordEmbedder, ids
from masksearch_agent.retrieval.index import open_index
for line in sys.stdin:
    mode, query = line.split(maxsplit=1)
    opened = open_index(Path(sys.argv[1]), mode, embedder=WordEmbedder())
    print(" ".join(ids(opened.search([query], 2)[0])), flush=True)
"""


@pytest.mark.parametrize("mode", ["bm25", "dense"])
def test_what_one_process_adds_another_finds_when_it_opens_the_index_again(grown: Path, mode: str):
    command = [sys.executable, "-c", READING, str(grown), str(Path(__file__).resolve().parents[2])]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as reader:
        assert reader.stdin is not None
        assert reader.stdout is not None
        for number in range(3):
            text = f"fresh{number} thing"
            update_index(grown, [Passage(f"n{number}", "N", text, f"n{number}")], embedder=WordEmbedder())
            reader.stdin.write(f"{mode} N: {text}\n")
            reader.stdin.flush()
            assert reader.stdout.readline().split()[0] == f"n{number}"
        reader.stdin.close()


@pytest.mark.parametrize("mode", ["bm25", "dense", "hybrid"])
def test_an_index_that_nobody_may_write_to_opens(grown: Path, mode: str, monkeypatch: pytest.MonkeyPatch):
    files = [grown, *grown.rglob("*")]
    before = snapshot(grown)
    for file in files:
        file.chmod(0o555 if file.is_dir() else 0o444)
    # The superuser may write all the same.
    monkeypatch.setattr("os.access", lambda path, kind: False)
    try:
        opened = open_index(grown, mode, embedder=WordEmbedder())
        assert ids(opened.search(["D7: text7 part1"], 1)[0]) == ["d7-1"]
        assert snapshot(grown) == before
    finally:
        for file in files:
            file.chmod(0o755 if file.is_dir() else 0o644)


def test_all_files_of_an_index_are_readable_by_whom_the_umask_lets(grown: Path):
    import os

    mask = os.umask(0)
    os.umask(mask)
    private = {
        path.name for path in grown.rglob("*") if path.is_file() and not path.stat().st_mode & 0o444 & ~mask
    }
    assert not private
    assert all(
        path.stat().st_mode & 0o777 == 0o666 & ~mask for path in grown.rglob("*.json") if "bm25" in path.parts
    )


def test_two_builds_in_one_place_are_kept_apart(tmp_path: Path):
    def passages():
        with pytest.raises(RetrievalError, match="another process is building the index"):
            build_index(make_passages("intruder"), tmp_path / "index", BM25_ONLY)
        yield from make_passages(*TEXTS)

    build_index(passages(), tmp_path / "index", BM25_ONLY)
    assert ids(open_index(tmp_path / "index").search(["whale"], 1)[0]) == ["p2"]


@pytest.mark.parametrize("name", ["thesis.txt", "build-thesis.txt"])
def test_a_folder_that_is_no_index_is_not_overwritten(tmp_path: Path, name: str):
    (tmp_path / name).write_text("years of work")
    for place in (tmp_path, tmp_path / name):
        with pytest.raises(RetrievalError, match="exists and is not an index"):
            build_index(make_passages("x"), place, BM25_ONLY)
    assert (tmp_path / name).read_text() == "years of work"


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


@pytest.mark.parametrize("damage", ["index.json", "*/passages.jsonl", "*/passages.rows", "*/bm25/meta.json"])
def test_a_damaged_index_is_an_error_and_is_built_anew(tmp_path: Path, damage: str):
    build_index(make_passages(*TEXTS), tmp_path / "index", BM25_ONLY)
    next((tmp_path / "index").glob(damage)).write_text('{"half": ')
    with pytest.raises(RetrievalError, match="run `masksearch index`"):
        open_index(tmp_path / "index")
    build_index(make_passages(*TEXTS), tmp_path / "index", BM25_ONLY)
    assert ids(open_index(tmp_path / "index").search(["whale"], 1)[0]) == ["p2"]


def damaged(name: str, content: str | None) -> Callable[[Path], None]:
    """Return what overwrites a file of an index, whole (None: by as many blanks as it has bytes)."""

    def damage(index: Path) -> None:
        (path,) = index.glob(name)
        path.write_text(" " * path.stat().st_size if content is None else content)

    return damage


def with_manifest(**changes: object) -> Callable[[Path], None]:
    def damage(index: Path) -> None:
        manifest = json.loads((index / "index.json").read_text())
        (index / "index.json").write_text(json.dumps(manifest | changes))

    return damage


def without_build(index: Path) -> None:
    for build in index.glob("build-*/"):
        shutil.rmtree(build)
        build.write_text("no folder")


@pytest.mark.parametrize(
    ("damage", "is_updated"),
    [
        (damaged("index.json", "[]"), False),
        (damaged("index.json", "[" * 100_000), False),
        (with_manifest(extent={"rows": 0, "dead": 0, "purged": 0}), False),
        (with_manifest(extent={"rows": -1, "dead": 0, "purged": 0}), False),
        (with_manifest(extent={"rows": 3, "dead": 3, "purged": 0}), False),
        (with_manifest(folder="../elsewhere"), False),
        (without_build, False),
        (damaged("*/passages.rows", ""), False),
        (damaged("*/passages.jsonl", None), False),
        (damaged("*/dense/vectors.json", "[" * 100_000), True),
        (damaged("*/dense/gaps.json", '["one"]'), True),
        (damaged("*/dense/gaps.json", "null"), True),
        (damaged("*/dense/chroma.sqlite3", None), True),
    ],
)
def test_damage_of_any_kind_is_told_and_building_again_mends_it(
    tmp_path: Path, damage: Callable[[Path], None], is_updated: bool
):
    index, embedder, added = tmp_path / "index", WordEmbedder(), [Passage("n", "", "a red hen")]
    build_index(make_passages(*TEXTS), index, embedder=embedder)
    damage(index)
    with pytest.raises(RetrievalError):
        open_index(index, embedder=embedder)
    if is_updated:
        assert update_index(index, added, embedder=embedder).passages == 4
    else:  # Not by an index of what was added alone.
        with pytest.raises(RetrievalError, match="run `masksearch index`"):
            update_index(index, added, embedder=embedder)
    damage(index)
    assert build_index(make_passages(*TEXTS), index, embedder=embedder).passages == 3
    opened = open_index(index, embedder=embedder)
    assert [ids(hits)[0] for hits in opened.search(["whale sings", "fox runs"], 2)] == ["p2", "p0"]


def overwritten(name: str, at: int = 0) -> Callable[[Path], None]:
    """Return what puts signs over twenty bytes of a file of an index; a mapped file is not shortened."""

    def damage(index: Path) -> None:
        (path,) = index.glob(name)
        with path.open("r+b") as file:
            file.seek(at)
            file.write(b"#" * 20)

    return damage


def with_end_of_line(end: int) -> Callable[[Path], None]:
    """Return what says of the first passage of an index that its line ends elsewhere."""

    def damage(index: Path) -> None:
        (path,) = index.glob("*/passages.rows")
        with path.open("r+b") as file:
            file.write(end.to_bytes(8, "little"))

    return damage


def without_graph(index: Path) -> None:
    (header,) = index.glob("*/dense/*/header.bin")
    shutil.rmtree(header.parent)


@pytest.mark.parametrize(
    ("mode", "damage"),
    [
        ("bm25", overwritten("*/passages.jsonl", at=10)),
        ("bm25", overwritten("*/bm25/*.fast", at=10)),
        ("bm25", with_end_of_line(2**50)),
        ("bm25", with_end_of_line(0)),
        ("dense", overwritten("*/dense/*/header.bin")),
        ("dense", without_graph),
    ],
)
def test_damage_that_a_search_meets_is_told_and_building_again_mends_it(
    tmp_path: Path, mode: str, damage: Callable[[Path], None]
):
    index, embedder = tmp_path / "index", WordEmbedder()
    passages = make_passages("blue whale sings", *(f"word{number}" for number in range(1_100)))
    build_index(passages, index, embedder=embedder)
    damage(index)
    embedded = list(embedder.batches)
    if damage is not without_graph:  # Chroma finds what it has by then.
        with pytest.raises(RetrievalError, match="run `masksearch index` to build the index again"):
            open_index(index, mode, embedder=embedder).search(["whale sings"], 1)
    report = build_index(passages, index, embedder=embedder)
    assert (report, embedder.batches) == (IndexReport(1_101, 0, 0, embedded=0), embedded)
    assert ids(open_index(index, mode, embedder=embedder).search(["whale sings"], 1)[0]) == ["p0"]


def test_a_line_end_in_a_damaged_line_shifts_no_other_passage(tmp_path: Path):
    build_index(make_passages(*TEXTS), tmp_path / "index", BM25_ONLY)
    (lines,) = tmp_path.glob("index/*/passages.jsonl")
    lines.write_bytes(lines.read_bytes().replace(b"red fox", b"red\nfox"))
    build_index(make_passages(*TEXTS), tmp_path / "index", BM25_ONLY)
    found = open_index(tmp_path / "index").search(["fox", "wine", "whale"], 1)
    assert [hit.passage.text for (hit,) in found] == list(TEXTS)


@pytest.mark.parametrize("removed", ["p1", [1, 2]])
def test_what_is_no_list_of_ids_removes_nothing(tmp_path: Path, removed: Any):
    build_index(make_passages(*TEXTS), tmp_path / "index", BM25_ONLY)
    with pytest.raises(RetrievalError, match="expected a list of ids"):
        update_index(tmp_path / "index", removed=removed)
    assert update_index(tmp_path / "index", removed=(each for each in ["p1"])).removed == 1  # type: ignore[arg-type]


def test_an_index_of_another_version_is_refused(tmp_path: Path):
    build_index(make_passages("x"), tmp_path / "index", BM25_ONLY)
    manifest = json.loads((tmp_path / "index" / "index.json").read_text())
    (tmp_path / "index" / "index.json").write_text(json.dumps({**manifest, "format_version": 99}))
    with pytest.raises(RetrievalError, match="format version 99, expected 3"):
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


def test_an_index_goes_on_telling_what_could_not_be_embedded(tmp_path: Path):
    index, picky = tmp_path / "index", PickyEmbedder()
    passages, failures = make_passages(*TEXTS), {"ValueError: no whales": 1}
    build_index(passages, index, embedder=picky)
    assert build_index(passages, index, embedder=picky) == IndexReport(3, 0, 0, 0, failures)
    # Adding tries it again, and counts it once.
    (build,) = index.glob("build-*")
    added = [Passage("n", "N", "a red hen", "n"), Passage("w", "W", "whale two", "w")]
    report = update_index(index, added, embedder=picky)
    assert report == IndexReport(5, 2, 0, embedded=1, failures={"ValueError: no whales": 2})
    assert list(index.glob("build-*")) == [build]
    opened = open_index(index, "dense", embedder=picky)
    assert sorted(ids(opened.search(["red"], 9)[0])) == ["n", "p0", "p1"]
    assert update_index(index, removed=["p2"], embedder=picky) == IndexReport(4, 0, 1, 0, failures)
    assert update_index(index, removed=["w"], embedder=picky) == IndexReport(3, 0, 1, 0)
    # A new build that takes over the vectors has each with its own passage.
    report = build_index(added, index, embedder=WordEmbedder())
    assert report == IndexReport(2, 1, 2, embedded=1)
    opened = open_index(index, "dense", embedder=WordEmbedder())
    for passage in added:
        [[hit]] = opened.search([f"{passage.title}: {passage.text}"], 1)
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


def holders(index: Path) -> dict[str, str]:
    """Return the id of each passage by its document."""
    passages = open_index(index).searched_passages  # type: ignore[attr-defined]
    return {passage.document_id or passage.source: passage.id for passage in passages}


def write_note(folder: Path, name: str, text: str = "leave is thirty days") -> Path:
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(text, encoding="utf-8")
    return folder


@pytest.mark.parametrize("settings", [BM25_ONLY, RetrievalSettings()])
def test_a_file_that_is_added_keeps_the_text_that_it_shares_with_another(
    tmp_path: Path, settings: RetrievalSettings
):
    index, embedder = tmp_path / "index", WordEmbedder()
    build_index(read_passages(write_note(tmp_path / "old", "a/note.txt")), index, settings, embedder=embedder)
    plain = content_id("note", "leave is thirty days")
    both = {"a/note.txt": plain, "b/note.txt": content_id("b/note.txt", plain)}
    new = write_note(tmp_path / "new", "b/note.txt")
    for added in (1, 0):  # Again, it changes nothing.
        report = update_index(index, read_passages(new), embedder=embedder)
        assert (report.passages, report.added, report.removed) == (2, added, 0)
        assert holders(index) == both
    update_index(index, removed=["b/note.txt"], embedder=embedder)
    assert holders(index) == {"a/note.txt": plain}
    update_index(index, read_passages(new), embedder=embedder)
    update_index(index, removed=["a/note.txt"], embedder=embedder)
    assert holders(index) == {"b/note.txt": both["b/note.txt"]}
    update_index(index, read_passages(new), embedder=embedder)
    assert holders(index) == {"b/note.txt": plain}


def test_files_that_share_a_text_and_are_built_together_keep_it_each_until_the_last_is_gone(tmp_path: Path):
    index, files = tmp_path / "index", tmp_path / "files"
    write_note(write_note(files, "a/note.txt"), "b/note.txt")
    for _ in range(2):  # Built again, it stays what it is.
        assert build_index(read_passages(files), index, BM25_ONLY).passages == 2
    update_index(index, removed=["a/note.txt"])
    [[hit]] = open_index(index).search(["leave"], 5)
    assert (hit.passage.document_id, hit.passage.text) == ("b/note.txt", "leave is thirty days")


def test_a_text_of_two_files_is_shown_once_and_others_move_up(tmp_path: Path):
    files = tmp_path / "files"
    for name in ("a/note.txt", "b/note.txt", "c/note.txt"):
        write_note(files, name)
    write_note(
        files, "other.txt", "leave of absence, in days, is granted to whom it is due, for one year at most"
    )
    build_index(read_passages(files), tmp_path / "index", BM25_ONLY)
    [hits] = Search(open_index(tmp_path / "index")).search(["leave days"], 2)
    assert [hit.passage.document_id for hit in hits] == ["a/note.txt", "other.txt"]
    [hits] = Search(open_index(tmp_path / "index"), shows_copies=True).search(["leave days"], 2)
    assert [hit.passage.document_id for hit in hits] == ["a/note.txt", "b/note.txt"]


def test_a_text_that_is_asked_of_once_is_read_once(tmp_path: Path):
    files = write_note(write_note(tmp_path / "files", "a/note.txt"), "b/note.txt")
    report = CorpusReport()
    [passage] = read_passages(files, report=report, keeps_copies=False)
    assert (passage.document_id, dict(report.skipped)) == ("a/note.txt", {"repeated": 1})


def test_a_file_that_changes_leaves_its_old_text_to_another_that_is_added_with_it(tmp_path: Path):
    index = tmp_path / "index"
    build_index(read_passages(write_note(tmp_path / "old", "a/note.txt")), index, BM25_ONLY)
    new = write_note(write_note(tmp_path / "new", "a/note.txt", "leave is a day"), "b/note.txt")
    assert update_index(index, read_passages(new)).passages == 2
    [hits] = open_index(index).search(["leave"], 5)
    assert {hit.passage.document_id: hit.passage.text for hit in hits} == {
        "a/note.txt": "leave is a day",
        "b/note.txt": "leave is thirty days",
    }


def test_a_row_of_a_table_leaves_a_file_with_the_same_text_alone_and_keeps_an_id_of_its_own(tmp_path: Path):
    index = tmp_path / "index"
    build_index(read_passages(write_note(tmp_path / "old", "note.txt")), index, BM25_ONLY)
    plain = content_id("note", "leave is thirty days")
    table = tmp_path / "t.jsonl"
    row = {"title": "note", "text": "leave is thirty days"}
    table.write_text(f"{json.dumps(row)}\n{json.dumps({**row, 'id': '7'})}\n", encoding="utf-8")
    for _ in range(2):
        assert update_index(index, read_passages(table)).passages == 3
        passages = open_index(index).searched_passages  # type: ignore[attr-defined]
        assert sorted(ids_of(passages)) == sorted([plain, content_id("t.jsonl", plain), "7"])


def test_an_id_that_was_given_takes_the_place_of_its_passage_whatever_its_document(tmp_path: Path):
    build_index([Passage("a", "T", "x", "old"), Passage("b", "T", "y", "old")], tmp_path / "i", BM25_ONLY)
    update_index(tmp_path / "i", [Passage("a", "T", "x", "new")])
    passages = open_index(tmp_path / "i").searched_passages  # type: ignore[attr-defined]
    assert {(each.id, each.document_id) for each in passages} == {("a", "new"), ("b", "old")}
