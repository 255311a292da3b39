from __future__ import annotations

import asyncio
import json
import sqlite3
import threading
from collections.abc import Callable
from operator import itemgetter
from pathlib import Path
from typing import Annotated, Any, TypedDict

import pytest
from fakes.chat_models import ScriptedChatModel
from fakes.passages import ListBackend, ids, make_passages
from langchain.tools import ToolRuntime
from langchain_core.documents import Document
from langchain_core.embeddings import DeterministicFakeEmbedding
from langchain_core.retrievers import BaseRetriever
from langchain_core.runnables import (
    ConfigurableField,
    RunnableBranch,
    RunnableConfig,
    RunnableLambda,
    RunnableParallel,
    RunnablePassthrough,
)
from langchain_core.tools import BaseTool, InjectedToolCallId, StructuredTool, Tool, tool
from langchain_core.vectorstores import InMemoryVectorStore
from langgraph.graph import START, StateGraph
from langgraph.prebuilt import InjectedState
from pydantic import BaseModel, PrivateAttr

from masksearch_agent.agent.runnable import MaskSearchAgent
from masksearch_agent.config.calls import CallSettings
from masksearch_agent.config.retrieval import RetrievalSettings
from masksearch_agent.errors import RetrievalError, ServiceError
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


def takes_runtime(query: str, runtime: ToolRuntime) -> str:
    """Find."""
    return query


def takes_state(query: str, state: Annotated[dict[str, Any], InjectedState]) -> str:
    """Find."""
    return query


def takes_call_id(query: str, call_id: Annotated[str, InjectedToolCallId]) -> str:
    """Find."""
    return query


class Find(BaseModel):
    query: str


INJECTED = [
    (tool(takes_runtime), "runtime"),
    (tool(takes_state), "state"),
    (tool(takes_call_id), "call_id"),
    (tool("find", args_schema=Find)(takes_runtime), "runtime"),
]


@pytest.mark.parametrize(("given", "name"), INJECTED)
def test_a_tool_that_langgraph_has_to_give_something_is_refused(given: BaseTool, name: str):
    with pytest.raises(RetrievalError, match=rf"it takes {name}, which LangGraph injects"):
        as_search(given)


def test_a_tool_that_can_do_without_what_langgraph_gives_is_called():
    @tool
    def find(query: str, runtime: ToolRuntime = None) -> str:  # type: ignore[assignment]
        """Find."""
        return query

    assert texts(as_search(find), "a") == [["a"]]


def test_a_tool_that_needs_more_than_a_query_is_refused():
    @tool
    def find(query: str, year: int) -> str:
        """Search."""
        return ""

    with pytest.raises(RetrievalError, match=r"the tool 'find': it takes query, year; expected one argument"):
        as_search(find)


# --- what is made of a retriever ---------------------------------------------------------------------------


class FlakyRetriever(EchoRetriever):
    """Fails at every first call of a query."""

    _seen: set[str] = PrivateAttr(default_factory=set)

    def _get_relevant_documents(self, query, *, run_manager):
        if query not in self._seen:
            self._seen.add(query)
            raise ConnectionError("gone")
        return [Document(f"sync {query}")]

    async def _aget_relevant_documents(self, query, *, run_manager):
        return self._get_relevant_documents(query, run_manager=run_manager)


async def test_a_retriever_that_tries_again_is_searched():
    def flaky():
        return as_search(FlakyRetriever().with_retry(wait_exponential_jitter=False))

    assert texts(flaky(), "a", "b") == [["sync a"], ["sync b"]]
    assert await atexts(flaky(), "a") == [["sync a"]]


@pytest.mark.parametrize(
    "make",
    [
        lambda store: store.as_retriever().with_config(tags=["t"]),
        lambda store: store.as_retriever().with_retry(),
        lambda store: store.as_retriever().with_retry().with_config(run_name="r"),
        lambda store: store.as_retriever().configurable_fields(tags=ConfigurableField("tags")),
        lambda store: (
            store.as_retriever()
            .with_config(tags=["t"])
            .configurable_alternatives(ConfigurableField("which"), other=EchoRetriever())
        ),
    ],
    ids=["with_config", "with_retry", "both", "configurable_fields", "configurable_alternatives"],
)
async def test_what_is_made_of_a_vector_store_s_retriever_is_asked_for_the_limit(make):
    search = as_search(make(make_store()))
    assert texts(search, "text 3") == (await atexts(search, "text 3")) == [["text 3"]]
    assert len(texts(search, "text 3", limit=7)[0]) == len((await atexts(search, "text 3", limit=7))[0]) == 7


async def test_a_number_that_a_call_configures_is_kept():
    configurable = make_store().as_retriever().configurable_fields(search_kwargs=ConfigurableField("kwargs"))
    search = as_search(configurable)

    async def count(_: str, config: RunnableConfig) -> int:
        return len((await search.asearch(["q"], 7))[0])

    assert await RunnableLambda(count).ainvoke("", {"configurable": {"kwargs": {"k": 2}}}) == 2
    assert await RunnableLambda(count).ainvoke("") == 7
    bound = make_store().as_retriever().bind(k=3)
    assert len(texts(as_search(bound), "text 3", limit=7)[0]) == 3
    filtered = make_store().as_retriever().bind(filter=lambda document: "3" not in document.page_content)
    assert len(texts(as_search(filtered), "text 3", limit=9)[0]) == 9


def shout(query: str) -> str:
    return query.upper()


async def ashout(query: str) -> str:
    return query.upper()


@pytest.mark.parametrize(
    "chain",
    [
        RunnableLambda(shout) | EchoRetriever(),
        {"question": RunnablePassthrough()}
        | RunnableLambda(lambda x: x["question"].upper())
        | EchoRetriever(),
        itemgetter("query") | RunnableLambda(shout, ashout) | EchoRetriever(),
        RunnableLambda(shout) | RunnableParallel(context=EchoRetriever(), question=RunnablePassthrough()),
        RunnableParallel(context=RunnableLambda(shout) | EchoRetriever(), question=RunnablePassthrough()),
        RunnableLambda(lambda query: EchoRetriever().invoke(query.upper())),
        (RunnableLambda(shout) | EchoRetriever()).with_fallbacks([EchoRetriever()]),
    ],
    ids=[
        "ends in a retriever",
        "makes a dict",
        "takes a dict",
        "gives a dict",
        "is a dict",
        "function",
        "fallbacks",
    ],
)
async def test_a_chain_that_gives_documents_is_searched(chain):
    search = as_search(chain)
    assert texts(search, "a", "b", limit=2) == [["sync A", "more"], ["sync B", "more"]]
    [[first, second]] = await atexts(search, "a", limit=2)
    assert (first.split()[1], second) == ("A", "more")


@pytest.mark.parametrize(
    ("source", "is_traced"),
    [
        (EchoRetriever(), True),
        (EchoRetriever().with_retry().with_config(tags=["t"]), True),
        (EchoRetriever().configurable_fields(tags=ConfigurableField("tags")), True),
        (RunnableLambda(shout) | EchoRetriever(), True),
        (RunnableLambda(shout) | RunnableLambda(shout), False),
        (shout, False),
    ],
)
def test_whatever_ends_in_a_retriever_tells_callbacks_of_its_queries_itself(source: Any, is_traced: bool):
    assert as_search(source).is_traced == is_traced


async def test_a_chain_that_can_only_be_awaited_serves_sync_code_too():
    search = as_search(RunnableLambda(ashout))
    assert await atexts(search, "a", "b") == [["A"], ["B"]]
    assert texts(search, "a", "b") == [["A"], ["B"]]
    assert await asyncio.to_thread(texts, search, "a") == [["A"]]
    assert texts(as_search(RunnableLambda(ashout) | EchoRetriever()), "a", "b") == [["async A"], ["async B"]]


class RemoteRetriever(BaseRetriever):
    """A retriever that can only be awaited."""

    def _get_relevant_documents(self, query, *, run_manager):
        raise NotImplementedError("use ainvoke")

    async def _aget_relevant_documents(self, query, *, run_manager):
        await asyncio.sleep(0)
        return [Document(f"about {query}")]


class CountingRetriever(RemoteRetriever):
    """One that counts how often it is asked."""

    asked: list[str]

    def _get_relevant_documents(self, query, *, run_manager):
        self.asked.append(f"sync {query}")
        return super()._get_relevant_documents(query, run_manager=run_manager)


class State(TypedDict, total=False):
    query: str
    documents: list[str]


def make_graph() -> Any:
    async def find(state: State) -> State:
        return {"documents": [await ashout(state["query"])]}

    return StateGraph(State).add_node("find", find).add_edge(START, "find").compile()


@tool
async def only_awaited(query: str) -> str:
    """Search."""
    return query.upper()


@pytest.mark.parametrize(
    "last",
    [
        RunnableLambda(ashout),
        RunnableLambda(ashout).with_retry().with_config(tags=["t"]),
        RunnableParallel(context=RunnableLambda(ashout) | (lambda found: [found])),
        RunnableBranch((lambda query: True, RunnableLambda(ashout)), RunnableLambda(shout)),
        RunnableLambda(ashout).with_fallbacks([RunnableLambda(shout)]),
        RunnableLambda(lambda query: only_awaited),
        only_awaited,
        RunnableLambda(lambda query: {"query": query}) | make_graph(),
    ],
    ids=["function", "bound", "parallel", "branch", "fallbacks", "returned", "tool", "graph"],
)
def test_no_step_of_a_chain_runs_twice_because_another_can_only_be_awaited(last: Any):
    asked: list[str] = []

    def rewrite(query: str) -> str:
        asked.append(query)
        return query.lower()

    assert texts(as_search(RunnableLambda(rewrite) | last), "A", "B") == [["A"], ["B"]]
    assert sorted(asked) == ["A", "B"]


def test_what_a_retriever_holds_is_not_asked_for_anything():
    class Record:
        @property
        def bound(self) -> object:
            raise RuntimeError("not for you")

    class Holding(EchoRetriever):
        records: list[Any]

    [hits] = as_search(Holding(records=[Record()])).search(["kelm"], 1)
    assert hits


def test_what_turns_out_to_be_only_awaited_is_not_tried_again():
    retriever = CountingRetriever(asked=[])
    search = as_search(retriever)
    assert [texts(search, query) for query in "abc"] == [[["about a"]], [["about b"]], [["about c"]]]
    assert retriever.asked == ["sync a"]


def test_an_error_that_speaks_of_coroutines_is_raised_as_it_is():
    asked: list[str] = []

    def fail(query: str) -> list[str]:
        asked.append(query)
        raise TypeError("Cannot invoke a coroutine function synchronously")

    with pytest.raises(TypeError):
        as_search(RunnableLambda(fail)).search(["a"], 1)
    assert asked == ["a"]


def test_a_chain_that_needs_more_than_a_query_is_refused():
    chain = {"a": itemgetter("query"), "b": itemgetter("tenant")} | RunnableLambda(str)
    with pytest.raises(RetrievalError, match=r"it takes query, tenant; expected a query, or a dictionary"):
        as_search(chain)


def test_a_chat_model_is_no_search():
    with pytest.raises(RetrievalError, match="cannot search with a ScriptedChatModel; expected"):
        as_search(ScriptedChatModel(script=["x"]))


# --- tools and functions -----------------------------------------------------------------------------------


async def test_a_tool_that_can_only_be_awaited_serves_sync_code_too():
    async def remote(query: str) -> tuple[list[dict[str, str]], dict[str, object]]:
        await asyncio.sleep(0)
        result = {"title": "T", "url": "http://x", "text": f"about {query}"}
        return [{"type": "text", "text": json.dumps(result)}], {"structured_content": {"result": [result]}}

    tool = StructuredTool.from_function(
        coroutine=remote, name="t", description="d", response_format="content_and_artifact"
    )
    search = as_search(tool)
    assert await atexts(search, "a", "b") == [["about a"], ["about b"]]
    # From sync code that an event loop calls, as in a notebook, and from plain sync code.
    assert texts(search, "a", "b") == [["about a"], ["about b"]]
    [[hit]] = await asyncio.to_thread(search.search, ["c"], 1)
    assert (hit.passage.title, hit.passage.text, hit.passage.source) == ("T", "about c", "http://x")


async def test_a_retriever_that_can_only_be_awaited_serves_sync_code_too():
    for source in (RemoteRetriever(), RemoteRetriever().with_retry(stop_after_attempt=1)):
        assert texts(as_search(source), "a", "b") == [["about a"], ["about b"]]
        assert await atexts(as_search(source), "a") == [["about a"]]


def connected() -> Callable[[str], list[str]]:
    """Return a function over a connection that only this thread may use."""
    connection = sqlite3.connect(":memory:")
    connection.execute("create table notes (text)")
    connection.executemany("insert into notes values (?)", [("a red fox",), ("a blue whale",)])

    def look_up(query: str) -> list[str]:
        return [
            text
            for (text,) in connection.execute("select text from notes where text like ?", (f"%{query}%",))
        ]

    return look_up


class ConnectedRetriever(BaseRetriever):
    """A retriever over such a function."""

    look_up: Any

    def _get_relevant_documents(self, query, *, run_manager):
        return [Document(text) for text in self.look_up(query)]


async def test_what_holds_a_connection_of_one_thread_answers_several_queries_at_once():
    for source in (connected(), ConnectedRetriever(look_up=connected()), RunnableLambda(connected())):
        search = as_search(source)
        assert texts(search, "fox", "whale") == [["a red fox"], ["a blue whale"]]
        assert await atexts(search, "fox", "whale") == [["a red fox"], ["a blue whale"]]
        script = ["<think>two</think><search>fox\nwhale</search>", "<think>ok</think><answer>both</answer>"]
        agent = MaskSearchAgent(ScriptedChatModel(script=script * 2), source)
        for answer in (agent.invoke("?"), await agent.ainvoke("?")):
            assert [passage.text for passage in answer.retrieved] == ["a red fox", "a blue whale"]


async def test_a_failure_of_its_own_is_not_asked_again():
    calls = []

    def fail(query: str) -> list[str]:
        calls.append(query)
        raise ConnectionError("gone")

    with pytest.raises(ConnectionError):
        as_search(fail).search(["a"], 1)
    with pytest.raises(ConnectionError):
        await as_search(fail).asearch(["a"], 1)
    assert calls == ["a", "a"]


def test_all_chunks_of_a_document_are_shown():
    chunks = [Document(text, id="doc", metadata={"title": "Doc"}) for text in ("one", "two", "three")]
    script = ["<think>x</think><search>q\nr</search>", "<think>ok</think><answer>a</answer>"]
    agent = MaskSearchAgent(ScriptedChatModel(script=script), lambda query: chunks[query == "r" :])
    assert [passage.text for passage in agent.invoke("?").retrieved] == ["one", "two", "three"]


async def test_functions_are_called_once_per_query():
    search = as_search(lambda query: [f"about {query}", Document("more")])
    assert texts(search, "a", "b", limit=2) == [["about a", "more"], ["about b", "more"]]
    assert await atexts(search, "c") == [["about c"]]


async def test_async_functions_are_awaited_and_serve_sync_code_too():
    async def ask(query: str) -> list[str]:
        await asyncio.sleep(0)
        return [f"about {query}"]

    class Client:
        async def __call__(self, query: str) -> list[str]:
            return await ask(query)

    for source in (ask, Client()):
        assert await atexts(as_search(source), "a") == [["about a"]]
        # From sync code that an event loop calls, as in a notebook, and from plain sync code.
        assert texts(as_search(source), "a", "b") == [["about a"], ["about b"]]
        assert await asyncio.to_thread(texts, as_search(source), "c") == [["about c"]]


@pytest.mark.parametrize("calls", [None, CallSettings(patience_s=0)])
async def test_a_function_that_takes_the_next_of_nothing_fails_at_once(calls: CallSettings | None):
    def find(query: str) -> str:
        return next(text for text in ("Ada", "Bram") if text == query)

    search = as_search(find, calls=calls)
    assert await atexts(search, "Ada") == [["Ada"]]
    with pytest.raises((RuntimeError, ServiceError)):
        await asyncio.wait_for(search.asearch(["Carl"], 1), timeout=20)


@pytest.mark.parametrize("calls", [None, CallSettings(patience_s=0)])
async def test_a_query_that_fails_leaves_none_of_the_others_running(calls: CallSettings | None):
    ended: list[str] = []

    async def ask(query: str) -> list[str]:
        if query == "bad":
            raise ValueError("no such query")
        try:
            await asyncio.sleep(60)
        finally:
            ended.append(query)
        return []

    with pytest.raises((ValueError, ServiceError), match="no such query"):
        await as_search(ask, calls=calls).asearch(["a", "bad", "b"], 1)
    assert sorted(ended) == ["a", "b"]


@pytest.mark.parametrize("wrap", [lambda function: function, RunnableLambda], ids=["function", "runnable"])
def test_an_async_function_is_asked_in_a_sync_run_with_the_caller_s_config(wrap: Callable[[Any], Any]):
    users: list[str] = []

    async def ask(query: str, config: RunnableConfig) -> list[str]:
        await asyncio.sleep(0)
        users.append(config["configurable"]["user"])
        return [f"about {query}"]

    script = ["<think>x</think><search>q\nr</search>", "<think>ok</think><answer>a</answer>"]
    agent = MaskSearchAgent(ScriptedChatModel(script=script), wrap(ask))
    answer = agent.invoke("?", {"configurable": {"user": "ada"}})
    assert [passage.text for passage in answer.retrieved] == ["about q", "about r"]
    assert users == ["ada", "ada"]


def test_results_keep_the_order_of_the_queries_when_asked_in_parallel():
    search = as_search(lambda query: [query])
    queries = [f"q{number}" for number in range(30)]
    assert texts(search, *queries) == [[query] for query in queries]


@pytest.mark.parametrize("allowed", [1, 2])
@pytest.mark.parametrize("calls", [None, CallSettings()], ids=["once", "patient"])
async def test_no_more_queries_are_asked_at_once_than_the_caller_s_config_lets_run(
    calls: CallSettings | None, allowed: int
):
    lock, under_way, most = threading.Lock(), 0, 0

    def count(change: int) -> None:
        nonlocal under_way, most
        with lock:
            under_way += change
            most = max(most, under_way)

    async def look_up(query: str) -> list[str]:
        count(1)
        await asyncio.sleep(0.02)
        count(-1)
        return [query]

    def look_up_now(query: str) -> list[str]:
        return asyncio.run(look_up(query))

    queries = [f"q{number}" for number in range(4)]
    config: RunnableConfig = {"max_concurrency": allowed}
    for source in (look_up, look_up_now):
        search = as_search(source, calls=calls)

        async def asearch(_: int, search: Search = search) -> Any:
            return await search.asearch(queries, 1)

        search_now = RunnableLambda(lambda _, search=search: search.search(queries, 1))
        both = [await asyncio.to_thread(search_now.invoke, 0, config)]
        both.append(await RunnableLambda(asearch).ainvoke(0, config))
        assert [[hits[0].passage.text for hits in found] for found in both] == [queries, queries]
        assert under_way == 0
        assert 1 <= most <= allowed
        most = 0


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
