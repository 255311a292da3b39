"""`MaskSearchAgent` as a LangChain `Runnable` and as a tool, and the trajectories it returns."""

from __future__ import annotations

import asyncio
import pickle
from collections.abc import Callable
from typing import Any

import pytest
from fakes.agents import ANSWER, SEARCH, echo, make_agent
from fakes.chat_models import Reply, ScriptedChatModel, ScriptedRecordingModel
from fakes.passages import ListBackend, make_passages
from langchain.agents import create_agent
from langchain_core.caches import InMemoryCache
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.globals import set_llm_cache
from langchain_core.language_models import FakeListChatModel
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, ToolMessage
from langchain_core.runnables import RunnableConfig, RunnableLambda
from langgraph.checkpoint.memory import InMemorySaver
from pydantic import BaseModel

from masksearch_agent.agent.bundle import BundleInfo
from masksearch_agent.agent.context import RunContext
from masksearch_agent.agent.prompts import COMPACT_PROMPTS, FULL_PROMPTS, default_prompts
from masksearch_agent.agent.protocol import PROTOCOL_VERSION
from masksearch_agent.agent.runnable import MaskSearchAgent
from masksearch_agent.config.agent import AgentSettings
from masksearch_agent.errors import AgentError
from masksearch_agent.jsonl import dump_record, load_record
from masksearch_agent.models.local import LocalChatModel
from masksearch_agent.records import Passage, Sampling, SearchTask, Trajectory
from masksearch_agent.retrieval.search import Search
from masksearch_agent.traces.recorder import Recorder
from masksearch_agent.traces.rows import make_rows


class ToolModel(ScriptedChatModel):
    def bind_tools(self, tools: Any, **keywords: Any) -> Any:
        return self.bind(**keywords)


@pytest.fixture
def agent() -> MaskSearchAgent:
    return make_agent(ScriptedChatModel(script=echo, tokens_per_reply=7))


def test_an_answer_tells_how_it_was_found(agent: MaskSearchAgent):
    answer = agent.invoke("Who founded Harrow?")
    assert (answer.answer, answer.reasoning, answer.stop_reason) == ("Who founded Harrow?", "ok", "answered")
    assert str(answer) == "Who founded Harrow?"
    assert answer.searches == (("founder of Harrow",),)
    assert [source.title for source in answer.retrieved] == ["Harrow", "Ada"]
    assert (answer.usage.model_calls, answer.usage.searches, answer.usage.sampled_tokens) == (2, 1, 14)
    assert answer.usage.prompt_tokens > 0
    assert answer.usage.seconds > 0


def test_what_was_read_is_distinct_and_in_the_order_of_appearance():
    script = [SEARCH, "<think>more</think><search>Ada</search>", ANSWER]
    answer = make_agent(ScriptedChatModel(script=script)).invoke("?")
    assert [source.title for source in answer.retrieved] == ["Harrow", "Ada", "Lists"]


@pytest.mark.parametrize(
    "input",
    ["q", {"question": "q"}, {"messages": [HumanMessage("q")]}, [HumanMessage("q")]],
    ids=["text", "question", "messages", "a list"],
)
async def test_every_form_of_input_gives_the_same_answer(agent: MaskSearchAgent, input: Any):
    first, second = agent.invoke(input), await agent.ainvoke(input)
    assert first.answer == second.answer == "q"
    assert first.retrieved == second.retrieved


@pytest.mark.parametrize(
    ("input", "message"),
    [
        ({"query": "q"}, r"the keys \['query'\]; expected `question`"),
        ({}, r"the keys \[\]; expected `question`"),
        (7, "an input of type int; pass a question"),
        ([{"q": 1}], "an input of type list"),
        ("", "asks nothing"),
        ([], "asks nothing"),
    ],
)
def test_a_wrong_input_is_refused_in_words(agent: MaskSearchAgent, input: Any, message: str):
    with pytest.raises(AgentError, match=message):
        agent.invoke(input)


async def test_batches_keep_their_order(agent: MaskSearchAgent):
    questions = [f"q{n}" for n in range(6)]
    assert [str(answer) for answer in agent.batch(questions)] == questions
    assert [str(answer) for answer in await agent.abatch(questions)] == questions
    failed = agent.batch(["q", ""], return_exceptions=True)
    assert str(failed[0]) == "q"
    assert isinstance(failed[1], AgentError)


NODES = ["prepare", "think", "search", "think", "finish"]


async def test_a_stream_gives_the_answer(agent: MaskSearchAgent):
    assert [answer.answer for answer in agent.stream("q")] == ["q"]
    assert [answer.answer async for answer in agent.astream("q")] == ["q"]


async def test_the_steps_of_a_run_are_streamed_before_its_answer(agent: MaskSearchAgent):
    for streamed in (list(agent.stream_answer("q")), [chunk async for chunk in agent.astream_answer("q")]):
        *updates, answer = streamed
        assert [name for update in updates for name in update] == NODES
        assert answer.answer == "q"
        assert len(answer.trajectory.turns) == 2
    assert [
        name for chunk in agent.graph.stream({"question": "q"}, stream_mode="updates") for name in chunk
    ] == NODES


async def test_events_name_the_run_its_nodes_and_its_model_calls(agent: MaskSearchAgent):
    events = [event async for event in agent.astream_events("q", version="v2")]
    started = [event for event in events if event["event"] == "on_chain_start"]
    names = [event["name"] for event in started]
    assert names == ["MaskSearchAgent", "masksearch", *NODES], "each node once"
    runs = {event["run_id"]: event["name"] for event in started}
    for event in events:
        if event["event"] in ("on_chat_model_start", "on_retriever_start"):
            node = "think" if event["event"] == "on_chat_model_start" else "search"
            assert [runs[parent] for parent in event["parent_ids"]] == ["MaskSearchAgent", "masksearch", node]
    ended = [event["name"] for event in events if event["event"] == "on_chain_end"]
    assert ended == [*NODES, "masksearch", "MaskSearchAgent"]
    assert sum(event["event"] == "on_chat_model_end" for event in events) == 2
    assert sum(event["event"] == "on_retriever_end" for event in events) == 1
    assert events[-1]["event"] == "on_chain_end"
    assert events[-1]["name"] == "MaskSearchAgent"
    assert events[-1]["data"]["output"].answer == "q"


class CallbackCounter(BaseCallbackHandler):
    def __init__(self) -> None:
        self.models = 0
        self.retrievers = 0

    def on_chat_model_start(self, *args: Any, **kwargs: Any) -> None:
        self.models += 1

    def on_retriever_start(self, *args: Any, **kwargs: Any) -> None:
        self.retrievers += 1


async def test_callbacks_see_model_and_retriever(agent: MaskSearchAgent):
    for call in (agent.invoke, agent.ainvoke):
        counter = CallbackCounter()
        result: Any = call(f"question of {call.__name__}", {"callbacks": [counter]})
        if asyncio.iscoroutine(result):
            await result
        assert counter.models == 2
    fresh = make_agent(ScriptedChatModel(script=echo))
    counter = CallbackCounter()
    await fresh.ainvoke("q", {"callbacks": [counter]})
    assert counter.retrievers == 1


async def test_it_composes_with_other_runnables(agent: MaskSearchAgent):
    chain = RunnableLambda(lambda text: {"question": text.upper()}) | agent | str
    assert chain.invoke("q") == await chain.ainvoke("q") == "Q"


# --- as a tool ---------------------------------------------------------------------------------------------


async def test_as_a_tool_it_gives_text_and_keeps_the_answer_as_artifact(agent: MaskSearchAgent):
    tool = agent.as_tool()
    assert (tool.name, list(tool.args)) == ("research", ["question"])
    call = {"type": "tool_call", "id": "1", "name": "research", "args": {"question": "q"}}
    for message in (tool.invoke(call), await tool.ainvoke(call)):
        assert isinstance(message, ToolMessage)
        assert message.content == "q"
        assert message.artifact.searches == (("founder of Harrow",),)
    assert tool.invoke({"question": "q"}) == "q"


def test_as_a_tool_it_says_when_it_found_nothing():
    tool = make_agent(ScriptedChatModel(script=["?"]), max_repairs=0).as_tool("ask", "Ask.")
    assert tool.invoke({"question": "q"}) == "No answer was found (repairs_exhausted)."
    assert (tool.name, tool.description) == ("ask", "Ask.")


async def test_a_calling_model_that_asks_nothing_is_told_so():
    call = {"name": "research", "args": {"question": " "}, "id": "1", "type": "tool_call"}
    model = ToolModel(script=lambda read: "done" if len(read) > 1 else AIMessage("", tool_calls=[call]))
    assistant = create_agent(model, [make_agent().as_tool()])
    asked = {"messages": [HumanMessage("q")]}
    for state in (assistant.invoke(asked), await assistant.ainvoke(asked)):
        *_, told, last = state["messages"]
        assert (told.type, told.status, last.text) == ("tool", "error", "done")
        assert "the input asks nothing" in told.text


def test_a_tool_call_s_callbacks_reach_the_model(agent: MaskSearchAgent):
    counter = CallbackCounter()
    agent.as_tool().invoke({"question": "q"}, {"callbacks": [counter]})
    assert counter.models == 2


# --- trajectories ------------------------------------------------------------------------------------------


def test_a_trajectory_of_a_recording_model_is_complete_and_trains():
    # turn     prompt   malformed | repair   search | information   answer
    # ids      1 2 3    10 11     | 4 5      12 13  | 6 7 8         14 15 16
    model = ScriptedRecordingModel(
        script=[
            Reply("Ada", (1, 2, 3), (10, 11), (-0.1, -0.2)),
            Reply(SEARCH, (4, 5), (12, 13), (-0.3, -0.4)),
            Reply(ANSWER, (6, 7, 8), (14, 15, 16), (-0.5, -0.6, -0.7)),
        ]
    )
    trajectory = make_agent(model).invoke("Who founded Harrow?").trajectory
    assert trajectory is not None
    assert (trajectory.answer, trajectory.stop_reason) == ("Ada", "answered")
    assert trajectory.queries == (("founder of Harrow",),)
    assert [[p.title for p in shown] for shown in trajectory.retrieved] == [["Harrow", "Ada"]]
    assert (trajectory.format_errors, trajectory.producer) == (1, "scripted-1")
    assert trajectory.protocol_version == PROTOCOL_VERSION
    assert load_record(Trajectory, dump_record(trajectory), AgentError) == trajectory

    [row] = make_rows(trajectory)
    assert row.input_ids == (1, 2, 3, 10, 11, 4, 5, 12, 13, 6, 7, 8, 14, 15, 16)
    assert [int(flag) for flag in row.trainable] == [0, 0, 0, 1, 1, 0, 0, 1, 1, 0, 0, 0, 1, 1, 1]
    assert [value for value in row.logprobs or () if value] == [-0.1, -0.2, -0.3, -0.4, -0.5, -0.6, -0.7]


TASK = SearchTask(
    "t1",
    "ramp",
    "T1: the mill of [mask] stands by the long green river",
    (("Harrow",),),
    source_passage_id="p1",
)
MILL = make_passages(
    "something else", "the mill of Harrow stands by the long green river", "Harrow is a town"
)


def make_ramp_agent(model: Any) -> MaskSearchAgent:
    return MaskSearchAgent(model, ListBackend({"mill": MILL}), prompts=COMPACT_PROMPTS)


async def test_a_task_runs_under_its_guard_and_leaves_a_trajectory():
    model = ScriptedRecordingModel(script=["<think></think><search>mill</search>", ANSWER])
    sampling = Sampling(temperature=0.9)
    trajectory = await make_ramp_agent(model).run_task(TASK, sampling, seed=3)
    assert (trajectory.task_id, trajectory.seed) == ("t1", 3)
    assert [[p.id for p in shown] for shown in trajectory.retrieved] == [["p0", "p2"]]
    assert trajectory.turns[0].context[0].content == COMPACT_PROMPTS.masks_system
    assert {turn.sampling.temperature for turn in trajectory.turns if turn.sampling} == {0.9}


async def test_a_task_can_run_without_its_guard():
    model = ScriptedRecordingModel(script=["<think></think><search>mill</search>", ANSWER])
    search = Search(ListBackend({"mill": MILL}), is_guarded=False)
    trajectory = await MaskSearchAgent(model, search, prompts=COMPACT_PROMPTS).run_task(TASK)
    assert [[p.id for p in shown] for shown in trajectory.retrieved] == [["p0", "p1", "p2"]]


async def test_a_trajectory_s_id_depends_on_task_version_and_seed_only():
    async def run(version: str = "v1", seed: int = 0, answer: str = ANSWER) -> str:
        model = ScriptedRecordingModel(script=[answer], model_version=version)
        return (await make_ramp_agent(model).run_task(TASK, seed=seed)).id

    first = await run()
    assert await run(answer="<think></think><answer>other</answer>") == first
    assert len({first, await run(version="v2"), await run(seed=1)}) == 3


async def test_concurrent_tasks_keep_their_traces_apart():
    agent = make_agent(ScriptedRecordingModel(script=echo))
    tasks = [SearchTask(f"t{n}", "qa", f"question {n}", (("x",),)) for n in range(8)]
    trajectories = await asyncio.gather(*(agent.run_task(task) for task in tasks))
    for number, trajectory in enumerate(trajectories):
        assert trajectory.answer == f"question {number}"
        assert [turn.parent_id for turn in trajectory.turns] == [None, trajectory.turns[0].id]
        assert trajectory.turns[0].context[1].content == f"question {number}"


def test_a_run_can_bring_a_recorder_of_its_own():
    recorder = Recorder()
    agent = make_agent(ScriptedRecordingModel(script=echo))
    answer = agent.invoke("q", context=RunContext(recorder=recorder))
    assert answer.trajectory is not None
    assert recorder.turns == answer.trajectory.turns


def test_limits_are_changed_on_a_copy(agent: MaskSearchAgent):
    changed = agent.with_limits(max_searches=0)
    assert (changed.settings.max_searches, agent.settings.max_searches) == (0, 5)
    assert (changed.model, changed.search, changed.prompts) == (agent.model, agent.search, agent.prompts)


def test_parts_are_replaced_on_a_copy(agent: MaskSearchAgent):
    bundle = agent.bundle = BundleInfo(
        protocol_version=1, prompts=COMPACT_PROMPTS, agent=agent.settings, model_version="v"
    )
    searched, modelled = (
        agent.replace(search=lambda query: []),
        agent.replace(model=ScriptedChatModel(script=["x"])),
    )
    assert (searched.model, searched.bundle) == (agent.model, bundle)
    assert searched.search is not agent.search
    assert (modelled.search, modelled.bundle) == (agent.search, None), "another model is not the bundle's"
    assert agent.replace(prompts=FULL_PROMPTS).prompts == FULL_PROMPTS


def test_prompts_that_nobody_gave_go_with_the_settings_and_given_ones_stay():
    model = ToolModel(script=["Ada"])
    agent = MaskSearchAgent(model, search_nothing)
    tools = agent.with_limits(dialect="tools")
    assert (tools.invoke("q").answer, model.calls[0][0].text) == ("Ada", tools.prompts.question_system)
    assert tools.prompts == default_prompts("tools", cites=True)
    assert tools.replace(settings=AgentSettings()).prompts == agent.prompts != FULL_PROMPTS
    assert agent.with_limits(passage_numbers="search").prompts == FULL_PROMPTS
    given = agent.replace(prompts=COMPACT_PROMPTS)
    assert given.with_limits(passage_numbers="search").prompts == COMPACT_PROMPTS


@pytest.mark.parametrize("given", [None, COMPACT_PROMPTS])
def test_what_was_pickled_knows_whether_its_prompts_were_given(given: Any):
    agent = MaskSearchAgent(FakeListChatModel(responses=["x"]), search_nothing, prompts=given)
    restored = pickle.loads(pickle.dumps(agent))
    assert restored.with_limits(passage_numbers="search").prompts == (given or FULL_PROMPTS)


def search_nothing(query: str) -> list[str]:
    return []


def test_limits_are_changed_over_the_same_checkpointer():
    agent = make_agent(ScriptedChatModel(script=echo), InMemorySaver())
    thread: RunnableConfig = {"configurable": {"thread_id": "t"}}
    agent.with_limits(max_searches=1).invoke("q", thread)
    assert agent.graph.get_state(thread).values["answer"] == "q"


async def test_a_real_model_s_rollouts_train_on_what_it_sampled(tiny_model: Any, tiny_tokenizer: Any):
    """Random weights write malformed steps only, which is the hard case: every step is repaired."""
    model = LocalChatModel(model=tiny_model, tokenizer=tiny_tokenizer, temperature=1.0)
    agent = MaskSearchAgent(
        model,
        ListBackend({}),
        AgentSettings(max_repairs=2, max_step_tokens=12),
        COMPACT_PROMPTS,
    )
    tasks = [SearchTask(f"t{n}", "qa", "Who? " * n + "Ada?", (("x",),)) for n in range(1, 5)]
    trajectories = await asyncio.gather(*(agent.run_task(task) for task in tasks))
    model.close()
    for trajectory in trajectories:
        assert (len(trajectory.turns), trajectory.stop_reason) == (3, "repairs_exhausted")
        [row] = make_rows(trajectory)
        sampled = [token for turn in trajectory.turns for token in turn.sampled_ids]
        assert [i for i, flag in zip(row.input_ids, row.trainable, strict=True) if flag] == sampled
        for turn in trajectory.turns:
            assert model.chat_format.decode_reply(turn.sampled_ids) == turn.text


@pytest.mark.parametrize(
    "sampling", [Sampling(temperature=1.0), Sampling(temperature=0.6, top_p=0.7)], ids=["plain", "scaled"]
)
async def test_what_a_trainer_recomputes_over_a_row_is_what_was_recorded(
    tiny_model: Any, tiny_tokenizer: Any, sampling: Sampling
):
    """The trainer reads a whole row at once, in fp32, and knows neither temperature nor nucleus."""
    torch = pytest.importorskip("torch")
    model = LocalChatModel(model=tiny_model, tokenizer=tiny_tokenizer)
    agent = MaskSearchAgent(
        model, ListBackend({}), AgentSettings(max_repairs=2, max_step_tokens=12), COMPACT_PROMPTS
    )
    tasks = [SearchTask(f"t{n}", "qa", "Who? " * n + "Ada?", (("x",),)) for n in range(1, 7)]
    trajectories = await asyncio.gather(*(agent.run_task(task, sampling) for task in tasks))
    model.close()
    for trajectory in trajectories:
        [row] = make_rows(trajectory)
        ids = torch.tensor([row.input_ids])
        with torch.inference_mode():
            logprobs = torch.log_softmax(tiny_model(input_ids=ids).logits[0, :-1].float(), dim=-1)
        recomputed = [0.0, *logprobs.gather(1, ids[0, 1:, None])[:, 0].tolist()]
        trained = [place for place, flag in enumerate(row.trainable) if flag]
        assert len(trained) == sum(len(turn.sampled_ids) for turn in trajectory.turns)
        assert row.logprobs is not None
        assert [row.logprobs[place] for place in trained] == pytest.approx(
            [recomputed[place] for place in trained], abs=1e-4
        )


async def test_many_runs_at_once_hold_no_more_slots_than_the_model_may_have(
    tiny_model: Any, tiny_tokenizer: Any
):
    model = LocalChatModel(model=tiny_model, tokenizer=tiny_tokenizer, max_batch_size=4)
    agent = MaskSearchAgent(
        model, ListBackend({}), AgentSettings(max_repairs=1, max_step_tokens=4), COMPACT_PROMPTS
    )
    caches: list[Any] = []
    hook = tiny_model.register_forward_pre_hook(
        lambda _model, _args, kwargs: caches.append(kwargs.get("past_key_values")), with_kwargs=True
    )
    tasks = [SearchTask(f"t{n}", "qa", f"Who is {n}?", (("x",),)) for n in range(40)]
    trajectories = await asyncio.gather(*(agent.run_task(task) for task in tasks))
    hook.remove()
    model.close()
    assert [trajectory.task_id for trajectory in trajectories] == [task.id for task in tasks]
    assert all(len(trajectory.turns) == 2 for trajectory in trajectories)
    assert max(cache.slots for cache in caches if cache is not None) == 4


def test_any_source_can_be_searched():
    def look_up(query: str) -> list[Passage]:
        return make_passages(f"about {query}")

    sources: list[Callable[..., Any]] = [look_up]
    for source in sources:
        answer = MaskSearchAgent(ScriptedChatModel(script=echo), source).invoke("q")
        assert answer.retrieved[0].text == "about founder of Harrow"


@pytest.mark.parametrize("tokens_per_reply", [None, 7])
async def test_a_reply_from_langchain_s_cache_is_one_like_any_other(tokens_per_reply: int | None):
    class Form(BaseModel):
        name: str

    def reply(messages: list[BaseMessage]) -> Any:
        if "in the form" in messages[0].text:
            return AIMessage("", tool_calls=[{"name": "Form", "args": {"name": "Ada"}, "id": "1"}])
        return ANSWER if "<information>" in messages[-1].text else SEARCH

    model = ToolModel(script=reply, tokens_per_reply=tokens_per_reply)
    agent = make_agent(model).replace(response_format=Form)
    set_llm_cache(InMemoryCache())
    try:
        first, second, third = agent.invoke("who?"), agent.invoke("who?"), await agent.ainvoke("who?")
    finally:
        set_llm_cache(None)
    # The first run's two steps and form. What comes from the cache says that it cost nothing, where it said nothing
    # before, so that the second run's second step reads other messages.
    assert len(model.calls) == 4
    for again in (second, third):
        assert (again.answer, again.structured, again.searches) == ("Ada", Form(name="Ada"), first.searches)
        assert again.usage.sampled_tokens == first.usage.sampled_tokens
