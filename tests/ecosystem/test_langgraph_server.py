"""A real `langgraph dev`, used over `langgraph-sdk`: threads, streams, interrupts, cancelled runs, assistants.

The server runs in an environment of its own, without torch or transformers. Its chat model is a scripted one behind
OpenAI's API, and its index is a dictionary behind `masksearch serve-index`.
"""

from __future__ import annotations

import asyncio
import re
import threading
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
from fakes.chat_server import ChatServer
from fakes.ecosystem import FOUNDERS, MARKS
from fakes.index_server import serve_search
from fakes.langgraph_server import PYTHON_VARIABLE, find_python, langgraph_dev
from fakes.retrievers import DictRetriever
from langgraph_sdk import get_client
from langgraph_sdk.client import LangGraphClient

from masksearch_agent.evaluation.answering import RemoteAgent
from masksearch_agent.evaluation.runner import evaluate
from masksearch_agent.records import SearchTask
from masksearch_agent.retrieval.adapters import as_search

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

GRAPH = "search_agent"
HARROW: dict[str, Any] = {"question": "Who founded Harrow?"}
DEADLINE_S = 120.0
"""For what takes a fraction of a second on an idle machine."""


class Model:
    """Looks a founder up and answers with whoever a passage says it is; it can be kept waiting."""

    def __init__(self) -> None:
        self.calls: Counter[str] = Counter()
        """Calls by the company that is asked for."""
        self.is_asked, self.may_answer = threading.Event(), threading.Event()
        """Of Orrin: whether the model was asked, and whether it may answer."""

    def reply(self, messages: list[dict[str, str]]) -> str:
        said = messages[-1]["content"]
        company = [re.search(r"Who founded (\w+)\?", m["content"]) for m in messages if m["role"] == "user"]
        name = next(found[1] for found in reversed(company) if found)
        self.calls[name] += 1
        if name == "Orrin":
            self.is_asked.set()
            assert self.may_answer.wait(DEADLINE_S)
        if told := re.search(r"\] \w+: (\w+) founded", said):
            return f"<think>It says so.</think><answer>{told[1]}</answer>"
        if "Who founded" not in said:
            return "<think>I have to guess.</think><answer>nobody</answer>"
        return f"<think>Look it up.</think><search>founder of {name}</search>"


@pytest.fixture(scope="module")
def model() -> Model:
    return Model()


@pytest.fixture(scope="module")
def url(model: Model, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    python = find_python()
    if python is None:
        pytest.skip(
            "no interpreter has langgraph-cli[inmem] and langchain-openai; `make install-langgraph` makes one, or "
            f"{PYTHON_VARIABLE} names it"
        )
    search = as_search(DictRetriever(entries=FOUNDERS))
    with ChatServer(reply=model.reply) as chat, serve_search(search) as index:
        environment = {
            "MASKSEARCH_MODEL": "openai:scripted",
            "MASKSEARCH_INDEX": index.url,
            "OPENAI_BASE_URL": chat.url,
            "OPENAI_API_KEY": "sk-test",
        }
        with langgraph_dev(python, tmp_path_factory.mktemp("server"), environment) as url:
            yield url


@pytest.fixture
async def client(url: str) -> LangGraphClient:
    return get_client(url=url)


async def test_a_thread_goes_on_with_its_conversation(client: LangGraphClient, model: Model) -> None:
    thread = (await client.threads.create())["thread_id"]
    first = await client.runs.wait(thread, GRAPH, input=HARROW)
    asked = {"messages": [{"role": "user", "content": "Who founded Velling?"}]}
    second = await client.runs.wait(thread, GRAPH, input=asked)
    assert (first["answer"], second["answer"]) == ("Ada", "Bo")
    assert second["stop_reason"] == "answered"
    assert [passage["title"] for found in second["searches"] for passage in found["passages"]] == ["Velling"]
    assert [message["type"] for message in second["messages"]] == ["ai", "human", "ai"]
    assert second["messages"][-1]["content"].startswith("Bo [2]"), "the first run's passage keeps its number"
    other = await client.threads.create()
    assert (await client.threads.get_state(other["thread_id"]))["values"] in ({}, None)


@pytest.mark.parametrize("mode", ["messages-tuple", "messages"])
async def test_a_stream_shows_thoughts_answer_and_searches_and_no_protocol(
    client: LangGraphClient, mode: Any
) -> None:
    thread = (await client.threads.create())["thread_id"]
    events = [
        event async for event in client.runs.stream(thread, GRAPH, input=HARROW, stream_mode=[mode, "custom"])
    ]
    assert [event.data for event in events if event.event == "error"] == []
    searches = [event.data for event in events if event.event == "custom"]
    assert [(search["status"], search["queries"]) for search in searches] == [
        ("started", ["founder of Harrow"]),
        ("finished", ["founder of Harrow"]),
    ]
    assert [passage["title"] for passage in searches[1]["passages"]] == ["Harrow"]
    told = [event for event in events if event.event.startswith("messages")]
    assert not any(mark in str(event.data) for event in told for mark in MARKS)
    said = spoken(told)
    assert said["reasoning"] == ["Look it up.", "It says so."]
    assert said["text"] == ["Ada"]
    # Word by word, not at the end: the model sends four characters at a time.
    assert len(told) > 4


def spoken(events: list[Any]) -> dict[str, list[str]]:
    """Return what each message says, by the kind of block, in the order in which they began."""
    texts: dict[tuple[str, str], str] = {}
    for event in events:
        if event.event == "messages/metadata":
            continue
        message = event.data[0]
        is_whole = event.event in ("messages/partial", "messages/complete")
        content = message["content"]
        for block in [{"type": "text", "text": content}] if isinstance(content, str) else content:
            key = (block["type"], message["id"])
            text = block.get(block["type"], "")
            texts[key] = text if is_whole else texts.get(key, "") + text
    found: dict[str, list[str]] = {}
    for (kind, _), text in texts.items():
        if text:
            found.setdefault(kind, []).append(text)
    return found


async def test_a_run_waits_for_a_person_who_may_rewrite_its_search(client: LangGraphClient) -> None:
    thread = (await client.threads.create())["thread_id"]
    await client.runs.wait(
        thread, GRAPH, input={"question": "Who founded Velling?"}, interrupt_before=["search"]
    )
    state = await client.threads.get_state(thread)
    assert state["next"] == ["search"]
    assert (await client.threads.get(thread))["status"] == "interrupted"
    step = state["values"]["transcript"][-1]
    assert "founder of Velling" in str(step["content"])
    step["content"] = "<think>The other one.</think><search>founder of Harrow</search>"
    await client.threads.update_state(thread, {"transcript": [step]}, as_node="think")
    resumed = await client.runs.wait(thread, GRAPH, input=None)
    assert [found["queries"] for found in resumed["searches"]] == [["founder of Harrow"]]
    assert (resumed["answer"], resumed["stop_reason"]) == ("Ada", "answered")
    assert (await client.threads.get(thread))["status"] == "idle"


async def test_a_cancelled_run_stops_where_it_is_and_can_be_resumed(
    client: LangGraphClient, model: Model
) -> None:
    thread = (await client.threads.create())["thread_id"]
    try:
        run = await client.runs.create(thread, GRAPH, input={"question": "Who founded Orrin?"})
        assert await asyncio.to_thread(model.is_asked.wait, DEADLINE_S)
        await client.runs.cancel(thread, run["run_id"], wait=True)
        assert await ended(client, thread, run["run_id"]) == "interrupted"
        assert (await client.threads.get_state(thread))["next"] == ["think"]
        assert model.calls["Orrin"] == 1
    finally:
        model.may_answer.set()
    resumed = await client.runs.wait(thread, GRAPH, input=None)
    assert [found["queries"] for found in resumed["searches"]] == [["founder of Orrin"]]
    assert resumed["answer"] == "nobody"
    assert model.calls["Orrin"] == 3, "the call that was cancelled, and the two of the resumed run"


async def ended(client: LangGraphClient, thread: str, run_id: str) -> str:
    """Return how a run ended, once it has."""
    async with asyncio.timeout(DEADLINE_S):
        while True:
            status = (await client.runs.get(thread, run_id))["status"]
            if status not in ("pending", "running"):
                return str(status)
            await asyncio.sleep(0.05)


async def test_the_generator_is_made_when_it_is_asked_for(client: LangGraphClient) -> None:
    hop = {"need": "the founder of Harrow", "query": "founder of Harrow", "answer": "Ada"}
    task = {"id": "t", "kind": "qa", "question": HARROW["question"], "answers": [["Ada"]], "hops": [hop]}
    state = await client.runs.wait(None, "trajectory_generator", input={"task": task})
    assert {hit["passage"]["title"] for hits in state["results"].values() for hit in hits} == {"Harrow"}
    assert state["verdict"], "the judge has spoken: of so short a passage it does not believe it"


async def test_an_assistant_has_limits_of_its_own(client: LangGraphClient) -> None:
    assistant = await client.assistants.create(GRAPH, context={"max_searches": 0}, name="no searches")
    limited = await client.runs.wait(None, assistant["assistant_id"], input=HARROW)
    assert (limited["searches"], limited["answer"], limited["stop_reason"]) == ([], "nobody", "forced")
    # For a call, under either name, and for nobody else.
    call = await client.runs.wait(None, assistant["assistant_id"], input=HARROW, context={"max_searches": 1})
    configured = await client.runs.wait(
        None, GRAPH, input=HARROW, config={"configurable": {"max_searches": 0}}
    )
    default = await client.runs.wait(None, GRAPH, input=HARROW)
    assert [len(run["searches"]) for run in (call, configured, default)] == [1, 0, 1]


async def test_a_server_shows_the_limits_that_an_assistant_may_have(client: LangGraphClient) -> None:
    [assistant] = await client.assistants.search(graph_id=GRAPH, metadata={"created_by": "system"})
    schemas = await client.assistants.get_schemas(assistant["assistant_id"])
    limits = schemas["context_schema"]["properties"]
    assert limits.keys() >= {"max_searches", "max_queries", "passages_per_search", "time_limit_s", "model"}
    assert limits["max_searches"]["minimum"] == 0
    assert limits["max_searches"]["description"] == "Searches of a run."
    assert limits["time_limit_s"]["exclusiveMinimum"] == 0
    assert set(schemas["input_schema"]["properties"]) == {"question", "kind", "messages"}
    assert set(schemas["output_schema"]["properties"]) >= {"answer", "citations", "stop_reason"}


@pytest.mark.parametrize(
    ("context", "told"),
    [
        ({"max_searches": -1}, "max_searches"),
        ({"model": "openai:gpt-5"}, "may not be chosen"),
        ({"index": "/etc"}, "may not be chosen"),
    ],
    ids=["limit", "model", "index"],
)
async def test_a_client_is_told_what_it_may_not_set(
    client: LangGraphClient, context: dict[str, Any], told: str
) -> None:
    thread = (await client.threads.create())["thread_id"]
    found = await client.runs.wait(thread, GRAPH, input=HARROW, context=context, raise_error=False)
    assert told in str(found["__error__"])
    assert (await client.threads.get(thread))["status"] == "error"


def test_a_served_agent_is_evaluated(url: str) -> None:
    task = SearchTask("q", "qa", HARROW["question"], (("Ada",),), gold_titles=("Harrow",))
    [result] = evaluate(RemoteAgent(url), [task])
    assert (result.failure, result.recall, result.gold_recall, result.searches) == ("", 1, 1, 1)
