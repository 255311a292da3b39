"""Nobody's results are anybody else's: what an application searches is asked every time, by the caller who asks."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from typing import Any

import pytest
from fakes.chat_models import ScriptedChatModel
from fakes.passages import ListBackend, make_passages
from langchain_core.documents import Document
from langchain_core.embeddings import DeterministicFakeEmbedding
from langchain_core.messages import BaseMessage
from langchain_core.retrievers import BaseRetriever
from langchain_core.runnables import RunnableConfig, ensure_config
from langchain_core.tools import tool
from langchain_core.vectorstores import InMemoryVectorStore

from masksearch_agent.agent.runnable import MaskSearchAgent
from masksearch_agent.config.calls import CallSettings
from masksearch_agent.records import SearchAnswer
from masksearch_agent.retrieval.adapters import as_search
from masksearch_agent.retrieval.search import Search

SECRETS = {"alice": ["The code of Alice is 1111."], "bob": ["The code of Bob is 2222."]}
TENANT: ContextVar[str] = ContextVar("TENANT", default="nobody")


def documents_of(user: str) -> list[Document]:
    return [Document(text) for text in SECRETS.get(user, [])]


class ConfigRetriever(BaseRetriever):
    """Filters by the user that the config of the call names."""

    def invoke(self, input: str, config: RunnableConfig | None = None, **kwargs: Any) -> list[Document]:
        return documents_of(((config or {}).get("configurable") or {}).get("user", ""))

    async def ainvoke(
        self, input: str, config: RunnableConfig | None = None, **kwargs: Any
    ) -> list[Document]:
        return self.invoke(input, config)

    def _get_relevant_documents(self, query: str, *, run_manager: Any) -> list[Document]:
        raise NotImplementedError


class TenantRetriever(BaseRetriever):
    """Filters by a context variable, as a web application sets it for a request."""

    def _get_relevant_documents(self, query: str, *, run_manager: Any) -> list[Document]:
        return documents_of(TENANT.get())


def search_function(query: str) -> list[Document]:
    return documents_of(ensure_config()["configurable"].get("user", ""))


def search_with_config(query: str, config: RunnableConfig) -> list[Document]:
    return documents_of(config["configurable"].get("user", ""))


async def asearch_with_config(query: str, *, config: RunnableConfig) -> list[Document]:
    return search_with_config(query, config)


@tool
def search_tool(query: str, config: RunnableConfig) -> list[str]:
    """Search."""
    return SECRETS.get(config["configurable"].get("user", ""), [])


class UserBackend:
    """A `SearchBackend` of the application's own."""

    def search(self, queries: Any, limit: int) -> Any:
        return as_search(search_function).search(queries, limit)


def read_aloud(messages: list[BaseMessage]) -> str:
    """Search, then answer with what was found."""
    said = messages[-1].text
    if said.startswith("<information>"):
        return f"<think>ok</think><answer>{said.splitlines()[1]}</answer>"
    return "<think>who?</think><search>the code</search>"


def agent_over(search: Any) -> MaskSearchAgent:
    return MaskSearchAgent(ScriptedChatModel(script=read_aloud), search)


def config_of(user: str) -> RunnableConfig:
    return {"configurable": {"user": user}}


def codes(answers: list[SearchAnswer]) -> list[str]:
    return [answer.answer.split()[-1] for answer in answers]


SOURCES: list[Callable[[], Any]] = [
    ConfigRetriever,
    lambda: search_tool,
    lambda: search_function,
    lambda: search_with_config,
    UserBackend,
    lambda: Search(UserBackend()),
    lambda: as_search(search_function, calls=CallSettings()),
]
WANTED = ["1111.", "2222.", "1111.", "results."]
USERS = ["alice", "bob", "alice", "mallory"]


@pytest.mark.parametrize(
    "make_source",
    SOURCES,
    ids=["retriever", "tool", "function", "with_config", "backend", "search", "patient"],
)
async def test_each_user_of_one_agent_gets_their_own_results(make_source: Callable[[], Any]):
    agent = agent_over(make_source())
    configs = [config_of(user) for user in USERS]
    questions = ["What is my code?"] * len(USERS)
    assert codes([agent.invoke(*asked) for asked in zip(questions, configs, strict=True)]) == WANTED
    assert codes([await agent.ainvoke(*asked) for asked in zip(questions, configs, strict=True)]) == WANTED
    assert codes(agent.batch(questions, configs)) == WANTED
    assert codes(await agent.abatch(questions, configs)) == WANTED


async def test_an_awaited_function_is_told_who_asks():
    agent = agent_over(asearch_with_config)
    assert codes(await agent.abatch(["What is my code?"] * 4, [config_of(user) for user in USERS])) == WANTED


@pytest.mark.parametrize(
    "make_source",
    [TenantRetriever, lambda: lambda query: documents_of(TENANT.get())],
    ids=["retriever", "function"],
)
async def test_each_tenant_of_one_agent_gets_their_own_results(make_source: Callable[[], Any]):
    agent = agent_over(make_source())
    for user, code in zip(USERS, WANTED, strict=True):
        TENANT.set(user)
        assert codes([agent.invoke("What is my code?"), *agent.batch(["What is my code?"] * 2)]) == [code] * 3
        assert (
            codes([await agent.ainvoke("What is my code?"), *await agent.abatch(["What is my code?"] * 2)])
            == [code] * 3
        )


async def test_several_queries_of_one_step_are_all_asked_by_the_caller():
    search = as_search(search_function)
    for user, code in (("alice", "1111."), ("bob", "2222.")):
        agent = agent_over(search)
        agent.model.script = lambda messages: read_aloud(messages).replace("the code", "the code\nmy code")
        for answer in (
            agent.invoke("?", config_of(user)),
            await agent.ainvoke("?", config_of(user)),
        ):
            assert answer.searches == (("the code", "my code"),)
            assert codes([answer]) == [code]


def test_a_document_added_between_two_calls_is_found():
    store = InMemoryVectorStore(DeterministicFakeEmbedding(size=8))
    listed: list[str] = []
    for source in (store, store.as_retriever(), lambda query: list(listed)):
        agent = agent_over(source)
        before = agent.invoke("q").retrieved
        store.add_texts([f"A text added for {type(source).__name__}."])
        listed.append(f"A text added for {type(source).__name__}.")
        after = agent.invoke("q").retrieved
        assert len(after) == len(before) + 1


def test_a_cache_is_had_by_asking_for_it_and_belongs_to_one_run():
    backend = ListBackend({"q": make_passages("a")})
    plain = Search(backend)
    first, second = plain.for_run(), plain.for_run()
    for search in (plain, plain, first, first, second, second):
        search.search(["q"], 1)
    assert len(backend.requests) == 2 + 1 + 1
    assert first.for_run() is first
    asked = as_search(backend, cache_size=10)
    for search in (asked, asked, asked.for_run()):
        search.search(["q"], 1)
    assert len(backend.requests) == 5


def test_a_cache_of_a_run_withholds_no_less():
    search = Search(ListBackend({"q": make_passages("a")}), is_guarded=False).for_run()
    assert not search._is_guarded
