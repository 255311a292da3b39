"""An index of ours as LangChain's retriever and embeddings, and made of LangChain's documents."""

from __future__ import annotations

import asyncio
import copy
import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from langchain_core.document_loaders import BaseLoader
from langchain_core.documents import Document
from langchain_core.embeddings import Embeddings
from langchain_core.retrievers import BaseRetriever
from langchain_core.runnables import ConfigurableField
from langchain_tests.integration_tests import EmbeddingsIntegrationTests, RetrieversIntegrationTests
from langchain_tests.unit_tests import EmbeddingsUnitTests

from masksearch_agent import MaskSearchEmbeddings, MaskSearchRetriever, Passage, build_index
from masksearch_agent.config.corpus import CorpusSettings
from masksearch_agent.config.retrieval import RetrievalSettings
from masksearch_agent.errors import CorpusError, RetrievalError
from masksearch_agent.retrieval.adapters import as_search
from masksearch_agent.retrieval.embedders import SentenceEmbedder
from masksearch_agent.retrieval.index import update_index

BM25 = RetrievalSettings(mode="bm25")
PAGES = [
    Document(
        f"The fox of page {number} sleeps under tree {number}.",
        metadata={"source": "docs/foxes.pdf", "page": number, "language": "en" if number % 4 else "de"},
    )
    for number in range(12)
]


class PagesLoader(BaseLoader):
    def lazy_load(self) -> Iterator[Document]:
        yield from PAGES


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("retriever") / "index"
    assert build_index(PagesLoader(), str(folder), BM25).passages == 12
    return folder


class TestRetriever(RetrieversIntegrationTests):
    @pytest.fixture(autouse=True)
    def _keep_folder(self, folder: Path) -> None:
        self.folder = folder

    @property
    def retriever_constructor(self) -> type[BaseRetriever]:
        return MaskSearchRetriever

    @property
    def retriever_constructor_params(self) -> dict[str, Any]:
        return {"index": self.folder}

    @property
    def retriever_query_example(self) -> str:
        return "a fox under a tree"


class TestEmbeddingsUnit(EmbeddingsUnitTests):
    @property
    def embeddings_class(self) -> type[Embeddings]:
        return MaskSearchEmbeddings


class TestEmbeddings(EmbeddingsIntegrationTests):
    @property
    def embeddings_class(self) -> type[Embeddings]:
        return MaskSearchEmbeddings


def test_the_embeddings_are_those_of_an_index():
    texts = ["a red fox", "a whale"]
    ours = SentenceEmbedder().embed(texts)
    assert MaskSearchEmbeddings().embed_documents(texts) == ours.tolist()
    assert MaskSearchEmbeddings().embed_query("a whale") == ours[1].tolist()


async def test_documents_come_back_with_their_metadata(folder: Path):
    retriever = MaskSearchRetriever(index=folder, k=1)
    for [found] in (retriever.invoke("tree 7"), await retriever.ainvoke("tree 7")):
        assert found.page_content == PAGES[7].page_content
        assert found.metadata == {
            "title": "foxes",
            "document_id": "docs/foxes.pdf",
            "position": 0,
            **PAGES[7].metadata,
        }


@pytest.mark.parametrize(
    ("wanted", "pages"),
    [
        ({"language": "de"}, {0, 4, 8}),
        ({"page": [3, 5, 99]}, {3, 5}),
        ({"language": "de", "page": {8}}, {8}),
        ({"language": "fr"}, set()),
        ({"no such key": 1}, set()),
        (lambda document: document.metadata["page"] > 9, {10, 11}),
    ],
)
async def test_a_filter_finds_what_fits_wherever_it_stands_in_the_ranking(
    folder: Path, wanted: Any, pages: set[int]
):
    for retriever, options in (
        (MaskSearchRetriever(index=folder, k=4, filter=wanted), {}),
        (MaskSearchRetriever(index=folder), {"k": 4, "filter": wanted}),
    ):
        for found in (retriever.invoke("fox", **options), await retriever.ainvoke("fox", **options)):
            assert {document.metadata["page"] for document in found} == pages
    assert len(MaskSearchRetriever(index=folder, k=2, filter={"language": "de"}).invoke("fox")) == 2


def test_its_fields_are_configurable(folder: Path):
    retriever = MaskSearchRetriever(index=folder).configurable_fields(
        filter=ConfigurableField("filter"), k=ConfigurableField("k")
    )
    for language in ("de", "en"):
        config = {"configurable": {"filter": {"language": language}, "k": 2}}
        assert [each.metadata["language"] for each in retriever.invoke("fox", config)] == [language] * 2


def test_a_wrong_index_or_mode_is_known_at_once(folder: Path, tmp_path: Path):
    with pytest.raises(RetrievalError, match="no index in"):
        MaskSearchRetriever(index=tmp_path)
    with pytest.raises(RetrievalError, match="no dense part"):
        MaskSearchRetriever(index=folder, mode="dense")


def test_an_index_that_is_built_anew_is_opened_anew(tmp_path: Path):
    build_index([Document("first fox")], tmp_path / "i", BM25)
    retriever = MaskSearchRetriever(index=tmp_path / "i")
    assert retriever.invoke("fox")[0].page_content == "first fox"
    build_index([Document("second fox")], tmp_path / "i", BM25)
    for same in (retriever, copy.deepcopy(retriever), pickle.loads(pickle.dumps(retriever))):
        assert same.invoke("fox")[0].page_content == "second fox"


async def test_as_search_gives_the_passages_of_the_index_and_as_many_as_are_wanted(folder: Path):
    direct, through = as_search(folder), as_search(MaskSearchRetriever(index=folder))
    [wanted], [found] = direct.search(["fox"], 9), through.search(["fox"], 9)
    assert len(found) == 9
    facts = [
        (p.id, p.title, p.text, p.document_id, p.position, p.source) for p in (h.passage for h in wanted)
    ]
    assert facts == [
        (p.id, p.title, p.text, p.document_id, p.position, p.source) for p in (h.passage for h in found)
    ]
    assert len((await as_search(MaskSearchRetriever(index=folder, k=2)).asearch(["fox"], 9))[0]) == 2


def test_long_documents_are_cut_and_each_piece_keeps_the_metadata(tmp_path: Path):
    text = "\n\n".join(f"Paragraph {number} speaks of foxes and of nothing else." for number in range(6))
    long = Document(text, id="d1", metadata={"title": "Foxes", "page": 3})
    report = build_index(
        [long, Passage("own", "Own", "a passage")], tmp_path / "i", BM25, reading=CorpusSettings(max_words=20)
    )
    assert report.passages == 4
    found = MaskSearchRetriever(index=tmp_path / "i", k=5).invoke("foxes")
    assert sorted(each.metadata["position"] for each in found) == [0, 1, 2]
    assert {
        (each.metadata["document_id"], each.metadata["page"], each.metadata["title"]) for each in found
    } == {("d1", 3, "Foxes")}
    assert MaskSearchRetriever(index=tmp_path / "i", k=1).invoke("own passage")[0].id == "own"


@pytest.mark.parametrize(
    ("metadata", "title", "source"),
    [
        ({"source": "/srv/docs/hand book.pdf"}, "hand book", "/srv/docs/hand book.pdf"),
        ({"source": "https://x.org/a/b.html"}, "https://x.org/a/b.html", "https://x.org/a/b.html"),
        ({"title": "T", "url": "https://x.org"}, "T", "https://x.org"),
        ({}, "", ""),
    ],
)
def test_a_document_is_named_by_its_title_or_its_source(
    tmp_path: Path, metadata: dict[str, Any], title: str, source: str
):
    build_index([Document("a fox", metadata=metadata)], tmp_path / "i", BM25)
    [[hit]] = as_search(tmp_path / "i").search(["fox"], 1)
    assert (hit.passage.title, hit.passage.source) == (title, source)
    assert dict(hit.passage.metadata) == metadata


def secret(**metadata: Any) -> Document:
    return Document("Confidential.", metadata=metadata)


@pytest.mark.parametrize(
    "differing",
    [
        [{"source": "a/report.pdf"}, {"source": "b/report.pdf"}],
        [{"source": "report.pdf", "user": "alice"}, {"source": "report.pdf", "user": "bob"}],
        [{"user": "alice"}, {"user": "bob"}],
        [{"source": "report.pdf", "page": 2}, {"source": "report.pdf", "page": 5}],
        [{"id": "1"}, {"id": "2"}],
    ],
)
def test_the_same_text_of_two_documents_is_kept_and_found_for_either(
    tmp_path: Path, differing: list[dict[str, Any]]
):
    documents = [secret(**metadata) for metadata in differing]
    for _ in range(2):  # Equal documents count once, and an index of them stays what it is.
        assert build_index([*documents, *documents], tmp_path / "i", BM25).passages == 2
    for metadata in differing:
        [found] = MaskSearchRetriever(index=tmp_path / "i", filter=metadata).invoke("confidential")
        assert metadata.items() <= found.metadata.items()


def test_documents_are_told_apart_by_their_own_ids_and_count_once_where_nothing_tells_them_apart(
    tmp_path: Path,
):
    with_ids = [Document("Confidential.", id=each) for each in ("1", "2", "1")]
    assert build_index(with_ids, tmp_path / "i", BM25).passages == 2
    assert build_index([secret(), secret()], tmp_path / "i", BM25).passages == 1


def test_a_document_neither_takes_another_ones_text_away_nor_loses_its_own(tmp_path: Path):
    def sources() -> set[str]:
        found = MaskSearchRetriever(index=tmp_path / "i").invoke("confidential")
        return {each.metadata["source"] for each in found}

    build_index([secret(source="a/note.txt")], tmp_path / "i", BM25)
    update_index(tmp_path / "i", [secret(source="b/note.txt")])
    assert sources() == {"a/note.txt", "b/note.txt"}
    update_index(tmp_path / "i", removed=["b/note.txt"])
    assert sources() == {"a/note.txt"}
    update_index(tmp_path / "i", [secret(source="b/note.txt")], removed=["a/note.txt"])
    assert sources() == {"b/note.txt"}
    update_index(tmp_path / "i", [secret(source="b/note.txt", year=2024)])
    [found] = MaskSearchRetriever(index=tmp_path / "i").invoke("confidential")
    assert found.metadata["year"] == 2024  # It took the place of what the same document held.


@pytest.mark.parametrize(
    ("wanted", "users"),
    [
        ({"tags": "x"}, {"a", "b"}),
        ({"tags": ["y", "z"]}, {"b", "c"}),
        ({"tags": {"z"}}, {"c"}),
        ({"tags": ["x", "y"]}, {"a", "b"}),
        ({"tags": [["x"]]}, {"a"}),
        ({"tags": []}, {"d"}),
        ({"tags": "xy"}, set()),
        ({"deep": {"list": [1, [2]]}}, {"a"}),
        ({"user": "a", "tags": "y"}, set()),
    ],
)
def test_lists_come_back_as_lists_and_fit_by_what_they_hold(tmp_path: Path, wanted: Any, users: set[str]):
    known = [
        {"user": "a", "tags": ["x"], "deep": {"list": [1, [2]]}},
        {"user": "b", "tags": ["x", "y"]},
        {"user": "c", "tags": ["z"]},
        {"user": "d", "tags": []},
    ]
    build_index([secret(**metadata) for metadata in known], tmp_path / "i", BM25)
    retriever = MaskSearchRetriever(index=tmp_path / "i", k=9)
    found = {each.metadata["user"]: each.metadata for each in retriever.invoke("confidential")}
    assert all(metadata.items() <= found[metadata["user"]].items() for metadata in known)
    fitting = retriever.invoke("confidential", filter=wanted)
    assert {each.metadata["user"] for each in fitting} == users


def test_what_is_no_document_is_refused(tmp_path: Path):
    with pytest.raises(CorpusError, match="cannot index a str; expected a Passage or a LangChain Document"):
        build_index(["a text"], tmp_path / "i", BM25)  # type: ignore[list-item]
    assert not (tmp_path / "i").exists()


@pytest.mark.parametrize("loaded", [None, "a path", PAGES[0], Passage("p", "", "x"), 5])
def test_one_document_or_none_is_no_list_of_them(tmp_path: Path, loaded: Any):
    with pytest.raises(
        CorpusError, match=r"cannot index a \w+; expected a list of passages or LangChain documents"
    ):
        build_index(loaded, tmp_path / "i", BM25)
    assert not (tmp_path / "i").exists()


def test_no_documents_are_never_the_usual_number_of_them(folder: Path):
    with pytest.raises(RetrievalError, match="search limit is 0"):
        MaskSearchRetriever(index=folder).invoke("fox", k=0)


def test_a_filter_of_another_type_is_refused_and_a_missing_key_fits_nothing(folder: Path):
    retriever = MaskSearchRetriever(index=folder)
    with pytest.raises(RetrievalError, match="the filter is a str; expected a dictionary or a function"):
        retriever.invoke("fox", filter="language")
    assert retriever.invoke("fox", filter={"no such key": "x"}) == []
    assert len(retriever.invoke("fox", filter={"no such key": None})) == 5


async def test_a_filter_that_takes_the_next_of_nothing_fails_at_once(folder: Path):
    retriever = MaskSearchRetriever(index=folder, filter=lambda found: next(iter(())))
    with pytest.raises(RuntimeError):
        await asyncio.wait_for(retriever.ainvoke("fox"), timeout=20)
