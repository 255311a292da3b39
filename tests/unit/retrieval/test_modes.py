"""A retriever mode from outside the package works like those that come with it."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fakes.command_line import make_command_line
from fakes.passages import WordEmbedder, ids, make_passages

from masksearch_agent.config.retrieval import RetrievalSettings
from masksearch_agent.errors import ConfigError, RetrievalError
from masksearch_agent.plugins import RETRIEVER_MODES
from masksearch_agent.retrieval.adapters import open_search
from masksearch_agent.retrieval.backends import IndexPart, RetrieverMode, SearchBackend
from masksearch_agent.retrieval.index import IndexReport, build_index, open_index
from masksearch_agent.retrieval.modes.hybrid import HybridIndex
from masksearch_agent.retrieval.search import Search

pytest.importorskip("tantivy")

DOCUMENTATION = Path(__file__).resolve().parents[3] / "docs" / "extending.md"
TEXTS = ("red fox runs", "red wine flows", "blue whale sings")


@pytest.fixture(autouse=True)
def registry_as_before(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Forget what a test registers, and look for entry points anew."""
    monkeypatch.setattr(RETRIEVER_MODES, "_registered", {})
    RETRIEVER_MODES.__dict__.pop("_entry_points", None)
    yield
    RETRIEVER_MODES.__dict__.pop("_entry_points", None)


def documented(language: str, number: int = 0) -> str:
    section = DOCUMENTATION.read_text(encoding="utf-8").split("## A retriever mode")[1].split("\n## ")[0]
    return re.findall(rf"```{language}\n(.*?)```", section, re.DOTALL)[number]


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Put the documented module into a folder that Python imports from."""
    package = tmp_path / "site" / "my_package"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "titles.py").write_text(documented("python"), encoding="utf-8")
    monkeypatch.syspath_prepend(str(package.parent))
    yield package.parent
    for name in [name for name in sys.modules if name.split(".")[0] == "my_package"]:
        del sys.modules[name]


def test_the_documented_mode_is_registered_built_opened_and_searched(tmp_path: Path, module: Path) -> None:
    from my_package.titles import MODE  # type: ignore[import-not-found]

    exec(documented("python", 1), {"MODE": MODE})
    settings = RetrievalSettings(mode="titles")
    assert build_index(make_passages(*TEXTS), tmp_path / "index", settings) == IndexReport(3, 3, 0, 0)
    search = open_search(tmp_path / "index", settings)
    assert [ids(hits) for hits in search.search(["what is t1?", "nothing"], 5)] == [["p1"], []]
    assert build_index(make_passages(*TEXTS), tmp_path / "index", settings) == IndexReport(3, 0, 0, 0)


async def test_the_documented_mode_comes_as_an_entry_point(
    tmp_path: Path, module: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    metadata = module / "my_package-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: my-package\nVersion: 1.0\n")
    declared = documented("toml").replace("project.entry-points.", "").replace('"', "")
    (metadata / "entry_points.txt").write_text(declared)
    assert "titles" in RETRIEVER_MODES.names()

    corpus = tmp_path / "corpus.csv"
    corpus.write_text("title,text\nFox,The fox runs.\nWhale,The whale sings.\n")
    run = make_command_line(capsys, monkeypatch)
    index = tmp_path / "index"
    built = run("index", corpus, "--out", index, "--set", "retrieval.mode=titles", "--json").json
    assert (built["mode"], built["passages"]) == ("titles", 2)
    found = await Search(open_index(index)).asearch(["the whale"], 5)
    assert [hit.passage.title for hit in found[0]] == ["Whale"]


class FilesMode(RetrieverMode):
    """Keeps a file, so that a build can lose it."""

    def build(self, part: IndexPart, older: IndexPart | None) -> int:
        part.folder.mkdir()
        old_file = older.folder / "words" if older is not None else part.folder
        taken_over = old_file.read_text() if old_file.is_file() else ""
        (part.folder / "words").write_text(f"{taken_over}+{len(part.passages)}")
        return 0

    def check(self, part: IndexPart) -> None:
        if not (part.folder / "words").is_file():
            raise RetrievalError(f"there is no {part.folder / 'words'}")

    def open(self, part: IndexPart) -> SearchBackend:
        class Backend:
            words = (part.folder / "words").read_text()

            def search(self, queries, limit):
                from masksearch_agent.records import ScoredPassage

                return [[ScoredPassage(part.passages[0], 1.0)] for _ in queries]

        return Backend()


class PairMode(RetrieverMode):
    parts = ("files", "bm25")

    def fuse(self, backends, rrf_k):
        return HybridIndex(backends, k=rrf_k)


def test_a_mode_takes_over_from_its_older_part_and_a_lost_file_is_built_anew(tmp_path: Path) -> None:
    RETRIEVER_MODES.register("files", FilesMode())
    settings, index = RetrievalSettings(mode="files"), tmp_path / "index"
    for texts in (TEXTS, TEXTS[:2]):
        build_index(make_passages(*texts), index, settings)
    assert open_index(index).words == "+3+2"  # type: ignore[attr-defined]
    (file,) = index.glob("build-*/files/words")
    file.unlink()
    build_index(make_passages(*TEXTS[:2]), index, settings)
    assert open_index(index).words == "+2"  # type: ignore[attr-defined]


async def test_a_mode_over_others_shares_their_parts_and_may_mix_sync_and_async(tmp_path: Path) -> None:
    RETRIEVER_MODES.register("files", FilesMode())
    RETRIEVER_MODES.register("pair", PairMode())
    build_index(make_passages(*TEXTS), tmp_path / "index", RetrievalSettings(mode="pair"))
    assert sorted(folder.name for folder in tmp_path.glob("index/build-*/*/")) == ["bm25", "files"]
    opened = open_index(tmp_path / "index")
    assert ids(opened.search(["whale"], 2)[0]) == ["p0", "p2"]
    assert await Search(opened).asearch(["whale"], 2) == opened.search(["whale"], 2)
    assert ids(open_index(tmp_path / "index", "bm25").search(["whale"], 2)[0]) == ["p2"]


def test_an_index_outlives_the_package_that_brought_its_mode(tmp_path: Path) -> None:
    RETRIEVER_MODES.register("files", FilesMode())
    RETRIEVER_MODES.register("pair", PairMode())
    build_index(make_passages(*TEXTS), tmp_path / "index", RetrievalSettings(mode="pair"))
    RETRIEVER_MODES._registered.clear()
    with pytest.raises(
        RetrievalError, match="unknown search mode 'pair'; expected one of bm25, dense, hybrid"
    ):
        open_index(tmp_path / "index")
    build_index(make_passages(*TEXTS), tmp_path / "index", RetrievalSettings(mode="bm25"))
    assert ids(open_index(tmp_path / "index").search(["whale"], 2)[0]) == ["p2"]


def test_an_unknown_mode_is_told_which_there_are() -> None:
    with pytest.raises(
        ConfigError, match="no retriever mode called 'fuzzy'; expected one of bm25, dense, hybrid"
    ):
        RetrievalSettings(mode="fuzzy")


def test_an_index_without_embeddings_opens_whatever_the_embedder(tmp_path: Path) -> None:
    build_index(make_passages(*TEXTS), tmp_path / "index", embedder=WordEmbedder())
    opened = open_index(tmp_path / "index", "bm25", embedder=WordEmbedder("other"))
    assert ids(opened.search(["whale"], 1)[0]) == ["p2"]
