from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from fakes.passages import ListBackend, ids, make_passages
from langchain_core.documents import Document
from langchain_core.embeddings import DeterministicFakeEmbedding
from langchain_core.retrievers import BaseRetriever
from langchain_core.tools import StructuredTool, Tool, tool
from langchain_core.vectorstores import InMemoryVectorStore

from masksearch_agent.config.retrieval import RetrievalSettings
from masksearch_agent.errors import RetrievalError
from masksearch_agent.retrieval.adapters import as_search
from masksearch_agent.retrieval.index import build_index
from masksearch_agent.retrieval.search import Search
from masksearch_agent.retrieval.tool import make_search_tool


class EchoRetriever(BaseRetriever):
    """Says which of its methods was called."""

    def _get_relevant_documents(self, query, *, run_manager):
        return [Document(f"sync {query}"), Document("more")]

    async def _aget_relevant_documents(self, query, *, run_manager):
        return [Document(f"async {query}"), Document("more")]


def texts(search: Search, *queries: str, limit: int = 1) -> list[list[str]]:
    return [[hit.passage.text for hit in hits] for hits in search.search(queries, limit)]


async def atexts(search: Search, *queries: str, limit: int = 1) -> list[list[str]]:
    return [[hit.passage.text for hit in hits] for hits in await search.asearch(queries, limit)]


def make_store() -> InMemoryVectorStore:
    store = InMemoryVectorStore(DeterministicFakeEmbedding(size=8))
    store.add_texts([f"text {n}" for n in range(10)])
    return store


def test_a_search_is_returned_as_it_is():
    search = Search(ListBackend({}))
    assert as_search(search) is search


def test_a_backend_is_wrapped_with_a_cache_of_the_given_size():
    backend = ListBackend({"q": make_passages("a")})
    search = as_search(backend, cache_size=1)
    assert texts(search, "q") == texts(search, "q") == [["a"]]
    assert len(backend.requests) == 1


@pytest.mark.parametrize("kind", [str, Path])
def test_a_path_opens_an_index(tmp_path: Path, kind):
    build_index(make_passages("red fox", "blue whale"), tmp_path / "index", RetrievalSettings(mode="bm25"))
    assert texts(as_search(kind(tmp_path / "index")), "whale") == [["blue whale"]]


async def test_a_retriever_uses_the_method_that_fits():
    search = as_search(EchoRetriever())
    assert texts(search, "a", "b", limit=2) == [["sync a", "more"], ["sync b", "more"]]
    assert await atexts(search, "a", "b") == [["async a"], ["async b"]]


async def test_a_vector_store_and_its_retriever_are_asked_for_the_limit():
    for source in (make_store(), make_store().as_retriever()):
        assert len(texts(as_search(source), "text 3", limit=7)[0]) == 7
        assert texts(as_search(source), "text 3") == [["text 3"]]
        assert await atexts(as_search(source), "text 3") == [["text 3"]]


async def test_a_number_of_results_that_a_retriever_s_owner_set_is_kept():
    search = as_search(make_store().as_retriever(search_kwargs={"k": 2}))
    assert len(texts(search, "text 3", limit=7)[0]) == 2
    assert len((await atexts(search, "text 3", limit=7))[0]) == 2


def test_a_tool_of_one_string_is_called_with_the_query():
    @tool
    def web(question: str, region: str = "us") -> list[dict[str, str]]:
        """Search the web."""
        return [{"title": region, "content": f"about {question}"}]

    assert texts(as_search(web), "whales", "foxes") == [["about whales"], ["about foxes"]]
    single = Tool(name="t", func=lambda query: f"about {query}", description="d")
    assert texts(as_search(single), "whales") == [["about whales"]]


def test_a_tool_described_by_json_is_called_with_the_query():
    schema = {"type": "object", "properties": {"n": {}, "q": {"type": "string"}}, "required": ["q"]}
    remote = StructuredTool(name="t", description="d", args_schema=schema, func=lambda q: f"about {q}")
    assert texts(as_search(remote), "whales") == [["about whales"]]


async def test_a_tool_with_a_coroutine_is_awaited():
    async def acall(query: str) -> str:
        await asyncio.sleep(0)
        return f"async {query}"

    both = StructuredTool.from_function(
        lambda query: "sync", acall, name="t", description="d", infer_schema=True
    )
    assert await atexts(as_search(both), "a", "b") == [["async a"], ["async b"]]


async def test_our_own_tool_gives_back_the_same_passages():
    passages = make_passages("a", "b")
    wrapped = as_search(make_search_tool(Search(ListBackend({"q": passages, "none": []}))))
    assert [hit.passage for hit in wrapped.search(["q"], 2)[0]] == passages
    assert await wrapped.asearch(["none"], 2) == [[]]


def test_a_tool_that_needs_more_than_a_query_is_refused():
    @tool
    def find(query: str, year: int) -> str:
        """Search."""
        return ""

    with pytest.raises(RetrievalError, match=r"the tool 'find': it takes query, year; expected one argument"):
        as_search(find)


async def test_functions_are_called_once_per_query():
    search = as_search(lambda query: [f"about {query}", Document("more")])
    assert texts(search, "a", "b", limit=2) == [["about a", "more"], ["about b", "more"]]
    assert await atexts(search, "c") == [["about c"]]


async def test_async_functions_are_awaited_and_refuse_sync_calls():
    async def ask(query: str) -> list[str]:
        return [f"about {query}"]

    class Client:
        async def __call__(self, query: str) -> list[str]:
            return await ask(query)

    for source in (ask, Client()):
        assert await atexts(as_search(source), "a") == [["about a"]]
        with pytest.raises(RetrievalError, match="is async; use an async call"):
            as_search(source).search(["a"], 1)


def test_results_keep_the_order_of_the_queries_when_asked_in_parallel():
    search = as_search(lambda query: [query])
    queries = [f"q{number}" for number in range(30)]
    assert texts(search, *queries) == [[query] for query in queries]


@pytest.mark.parametrize(
    ("source", "what"), [(3, "a int"), (None, "a NoneType"), (ListBackend, "the class ListBackend")]
)
def test_anything_else_is_refused_with_what_is_accepted(source: object, what: str):
    with pytest.raises(
        RetrievalError, match=f"cannot search with {what}; expected a Search, a SearchBackend, the path"
    ):
        as_search(source)


def test_passages_of_a_source_keep_their_ids():
    (hits,) = as_search(lambda query: make_passages("a", "b")).search(["q"], 5)
    assert ids(hits) == ["p0", "p1"]
