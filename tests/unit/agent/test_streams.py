"""What streams show of a run: thoughts and the answer as they are written, searches, and nothing of the protocol."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import pytest
from fakes.agents import ANSWER, PASSAGES, SEARCH, THREAD, echo, make_agent
from fakes.chat_models import ScriptedChatModel, StreamingChatModel
from fakes.retrievers import DictRetriever
from fakes.tiny_models import forced_continuation
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.messages import AIMessage, AIMessageChunk, HumanMessage
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, StateGraph
from langgraph.graph.message import MessagesState

from masksearch_agent.agent.escaping import neutralise
from masksearch_agent.agent.prompts import COMPACT_PROMPTS
from masksearch_agent.agent.protocol import AnswerStep, SearchStep, parse_step, render_step
from masksearch_agent.agent.runnable import MaskSearchAgent
from masksearch_agent.agent.speech import StepReader
from masksearch_agent.config.agent import AgentSettings
from masksearch_agent.models.local import LocalChatModel
from masksearch_agent.records import Message, SearchAnswer
from masksearch_agent.traces.rows import make_rows

MARKS = ("<", "think>", "information>", COMPACT_PROMPTS.question_system)


def said(chunks: Iterable[Any]) -> list[tuple[str, str]]:
    """Return what the messages of a stream say, one entry for each run of a kind."""
    blocks = [
        (block["type"], block.get("reasoning") or block.get("text") or block.get("args") or "")
        for message, _ in chunks
        for block in message.content_blocks
    ]
    joined: list[tuple[str, str]] = []
    for kind, text in blocks:
        if joined and joined[-1][0] == kind:
            joined[-1] = (kind, joined[-1][1] + text)
        else:
            joined.append((kind, text))
    return joined


async def streams_of(graph: Any, input: Any, model: Any = None, **options: Any) -> Iterator[list[Any]]:
    """Return what a graph's sync and async streams of messages give; the script of a model starts again between."""
    options = {"stream_mode": "messages", **options}
    sync = list(graph.stream(input, **options))
    if model is not None:
        model.calls.clear()
    return iter([sync, [chunk async for chunk in graph.astream(input, **options)]])


# --- a step ------------------------------------------------------------------------------------------------


def read_step(pieces: Iterable[str], is_tagged: bool = True) -> dict[str, str]:
    reader = StepReader(is_tagged)
    found = {"reasoning": "", "text": ""}
    for blocks in [*map(reader.read, pieces), reader.end()]:
        for block in blocks:
            found[block["type"]] += block[block["type"]]
    return found


STEPS = {
    "<think> a b </think><search>q</search>": ("a b", ""),
    "<think></think>\n<answer> A\nB </answer> more": ("", "A\nB"),
    "a thought</think><answer>A</answer>": ("a thought", "A"),
    "<think>one</think><think>two</think><answer>A</answer>": ("one\n\ntwo", "A"),
    "<think>of <search> and < b</think><answer>1 < 2</answer>": ("of  and < b", "1 < 2"),
    "<THINK>a</ think ><information>[1] x</information><answer>A": ("a", "A"),
    "<think>a</think><answer>if a<b": ("a", "if a<b"),
    "<think>a</think><answer>A</ans": ("a", "A"),
    "plain text": ("", ""),
    f"<think>{neutralise('<search>')}</think><answer>{neutralise('</answer> <|im_end|>')}</answer>": (
        "<search>",
        "</answer> <|im_end|>",
    ),
}


@pytest.mark.parametrize("size", [1, 2, 5, 1000])
@pytest.mark.parametrize(("step", "expected"), STEPS.items())
def test_a_step_says_its_thought_and_its_answer(step: str, expected: tuple[str, str], size: int):
    found = read_step(step[start : start + size] for start in range(0, len(step), size))
    assert (found["reasoning"], found["text"]) == expected


@given(st.text(), st.text(), st.integers(1, 7), st.booleans())
def test_a_well_formed_step_says_what_it_is(thought: str, action: str, size: int, is_answer: bool):
    thought, action = neutralise(thought).strip(), neutralise(" ".join(action.split())) or "x"
    text = render_step(AnswerStep(thought, action) if is_answer else SearchStep(thought, (action,)))
    step = parse_step(text, 1)
    found = read_step(text[start : start + size] for start in range(0, len(text), size))
    assert neutralise(found["reasoning"]) == step.think  # type: ignore[union-attr]
    assert neutralise(found["text"]) == (action if is_answer else "")


@given(st.lists(st.sampled_from(["<", "/", "think", "answer", "search", ">", " ", "a", "information"])))
def test_no_tag_is_ever_said(pieces: list[str]):
    found = read_step(pieces)
    for name in ("think", "answer", "search", "information"):
        assert f"<{name}>" not in found["text"].replace(" ", "")
        assert f"</{name}>" not in found["reasoning"].replace(" ", "")


def test_text_without_tags_is_what_a_reply_says_that_is_no_step_in_tags():
    assert read_step(["<thi", "nk>a</think> The <search> an", "swer"], is_tagged=False) == {
        "reasoning": "a",
        "text": "The <search> answer",
    }


# --- messages ----------------------------------------------------------------------------------------------

REASONER = [
    AIMessage("<search>founder of Harrow</search>", additional_kwargs={"reasoning_content": "who is it?"}),
    AIMessage("<answer>Ada</answer>", additional_kwargs={"reasoning_content": "found"}),
]
SPOKEN = {
    "streaming": (StreamingChatModel(script=echo), [("reasoning", "who?ok"), ("text", "q")]),
    "whole": (ScriptedChatModel(script=echo), [("reasoning", "who?ok"), ("text", "q")]),
    "cut at the stop string": (
        StreamingChatModel(script=echo, is_cutting_stop=True),
        [("reasoning", "who?ok"), ("text", "q")],
    ),
    "malformed": (
        StreamingChatModel(script=["It is Ada.", SEARCH, ANSWER]),
        [("reasoning", "who?found"), ("text", "Ada")],
    ),
}


@pytest.mark.parametrize(("model", "expected"), SPOKEN.values(), ids=SPOKEN.keys())
async def test_messages_are_thoughts_and_the_answer(model: Any, expected: list[tuple[str, str]]):
    for chunks in await streams_of(make_agent(model).graph, {"question": "q"}, model):
        assert said(chunks) == expected
        assert not any(mark in str(message.content) for message, _ in chunks for mark in MARKS)
        assert {meta["langgraph_node"] for _, meta in chunks} == {"think"}


async def test_a_reasoning_model_s_own_thought_is_streamed_as_such():
    for model in (StreamingChatModel(script=REASONER), ScriptedChatModel(script=REASONER)):
        for chunks in await streams_of(make_agent(model).graph, {"question": "q"}, model):
            assert said(chunks) == [("reasoning", "who is it?found"), ("text", "Ada")]


def test_the_pieces_make_the_message_that_closes_the_run():
    agent = make_agent(StreamingChatModel(script=echo))
    chunks, closing = [], None
    for mode, chunk in agent.graph.stream({"question": "a long answer"}, stream_mode=["messages", "values"]):
        if mode == "messages":
            chunks.append(chunk[0])
        elif chunk["messages"]:
            closing = chunk["messages"][-1]
    assert closing is not None
    answered = [chunk for chunk in chunks if chunk.id == closing.id]
    merged = sum(answered[1:], answered[0])
    assert len(answered) > 4
    assert isinstance(merged, AIMessageChunk)
    assert [(b["type"], b.get("text") or b.get("reasoning")) for b in merged.content_blocks] == [
        ("reasoning", "ok"),
        ("text", "a long answer"),
    ]
    assert closing.text == "a long answer"


def test_a_reply_that_comes_again_from_a_cache_closes_another_run():
    script = [AIMessage(SEARCH, id="1"), AIMessage(ANSWER, id="2")] * 2
    agent = make_agent(ScriptedChatModel(script=script), InMemorySaver())
    for _ in range(2):
        agent.graph.invoke({"question": "one"}, THREAD)
    messages = agent.graph.get_state(THREAD).values["messages"]
    assert [message.text.partition("\n")[0] for message in messages] == ["Ada [1]", "Ada [1]"]


async def test_a_run_that_streams_keeps_and_records_what_one_that_does_not_does():
    agent = make_agent(StreamingChatModel(script=echo))
    plain = agent.graph.invoke({"question": "q"})
    *_, (_, streamed) = agent.graph.stream({"question": "q"}, stream_mode=["messages", "values"])
    assert [m.text for m in streamed["transcript"]] == [m.text for m in plain["transcript"]]
    assert [m.type for m in streamed["transcript"]] == ["system", "human", "ai", "human", "ai"]


class ToolModel(StreamingChatModel):
    def bind_tools(self, tools: Any, **kwargs: Any) -> Any:
        return self.bind(**kwargs)


async def test_a_model_that_calls_tools_streams_as_it_does_anywhere():
    call = {"name": "search", "args": {"queries": ["founder of Harrow"]}, "id": "1", "type": "tool_call"}
    script = [AIMessage("I look.", tool_calls=[call]), AIMessage("<think>found</think>Ada it is")]
    model = ToolModel(script=script)
    agent = MaskSearchAgent(model, DictRetriever(entries=PASSAGES), AgentSettings(dialect="tools"))
    for chunks in await streams_of(agent.graph, {"question": "q"}, model):
        assert said(chunks) == [
            ("text", "I look."),
            ("tool_call_chunk", '{"queries": ["founder of Harrow"]}'),
            ("reasoning", "found"),
            ("text", "Ada it is"),
        ]


# --- inside a parent ---------------------------------------------------------------------------------------


def parent_of(agent: MaskSearchAgent, **options: Any) -> Any:
    parent = StateGraph(MessagesState)
    parent.add_node("research", agent.graph)
    parent.add_edge(START, "research")
    return parent.compile(**options)


@pytest.mark.parametrize("model", [StreamingChatModel, ScriptedChatModel])
async def test_a_parent_streams_the_closing_message_alone(model: Any):
    graph = parent_of(make_agent(model(script=echo)), checkpointer=InMemorySaver())
    for turn in ("one", "two"):
        for chunks in await streams_of(graph, {"messages": [HumanMessage(turn)]}, config=THREAD):
            [(message, meta)] = chunks
            assert (message.type, message.text) == ("ai", f"{turn}")
            assert meta["langgraph_node"] == "research"


async def test_a_parent_that_looks_inside_streams_what_is_said_there():
    graph = parent_of(make_agent(StreamingChatModel(script=echo)))
    for chunks in await streams_of(graph, {"messages": [HumanMessage("one")]}, subgraphs=True):
        assert said(chunk for _, chunk in chunks) == [("reasoning", "who?ok"), ("text", "one")]
        assert all(namespace[0].startswith("research:") for namespace, _ in chunks)


async def test_the_newer_protocol_of_streams_shows_no_tags_either():
    agent = make_agent(StreamingChatModel(script=echo))
    events = [str(event) for event in agent.graph.stream_events({"question": "q"}, version="v3")]
    assert any("'reasoning': 'ok'" in event or "who?" in event for event in events)


# --- searches ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("search_first", [False, True])
async def test_custom_says_what_is_searched_and_found(search_first: bool):
    question = "founder of Harrow"
    agent = make_agent(search_first=search_first, max_searches=1)
    expected = [
        {"type": "search", "status": "started", "queries": ["founder of Harrow"]},
        {
            "type": "search",
            "status": "finished",
            "queries": ["founder of Harrow"],
            "passages": [("Harrow", "Ada founded Harrow."), ("Ada", "Ada is a founder.")],
        },
    ]
    for events in await streams_of(agent.graph, {"question": question}, stream_mode="custom"):
        shown = [
            {**event, "passages": [(p["title"], p["text"]) for p in event["passages"]]}
            if "passages" in event
            else event
            for event in events
        ]
        assert shown == expected


async def test_a_parent_gets_the_custom_events_too():
    graph = parent_of(make_agent())
    for events in await streams_of(
        graph, {"messages": [HumanMessage("q")]}, stream_mode="custom", subgraphs=True
    ):
        assert [event["status"] for _, event in events] == ["started", "finished"]


# --- local models ------------------------------------------------------------------------------------------

PIECES = ("<think>", " mayor", "</think>", "<answer>", " founder", "</answer>")


async def test_a_local_model_s_tokens_are_streamed_and_recorded_as_ever(tiny_model: Any, tiny_tokenizer: Any):
    model = LocalChatModel(model=tiny_model, tokenizer=tiny_tokenizer, max_tokens=20)
    agent = MaskSearchAgent(model, lambda query: [], AgentSettings(), COMPACT_PROMPTS)
    prompt = model.chat_format.encode_context([Message("user", "u")], is_first=True, is_closed=False)
    chain = [prompt[-1], *(tiny_tokenizer(piece)["input_ids"][0] for piece in PIECES)]
    with forced_continuation(tiny_model, chain):
        for chunks in await streams_of(agent.graph, {"question": "Who?"}):
            assert said(chunks) == [("reasoning", "mayor"), ("text", "founder")]
            assert len(chunks) >= 3, "token by token"
        plain = agent.invoke("Who?")
        streamed: list[SearchAnswer] = []

        def research(state: MessagesState) -> dict[str, Any]:
            streamed.append(agent.invoke(state))
            return {"messages": streamed[-1].messages}

        parent = StateGraph(MessagesState)
        parent.add_node("research", research)
        parent.add_edge(START, "research")
        asked = {"messages": [HumanMessage("Who?")]}
        chunks = list(parent.compile().stream(asked, stream_mode="messages", subgraphs=True))
    assert said(chunk for namespace, chunk in chunks if namespace) == [
        ("reasoning", "mayor"),
        ("text", "founder"),
    ]
    trajectories = [plain.trajectory, streamed[0].trajectory]
    rows = [make_rows(trajectory) for trajectory in trajectories if trajectory is not None]
    shapes = [[(row.input_ids, row.trainable, row.logprobs) for row in made] for made in rows]
    assert len(shapes[0]) == 1
    assert shapes[0] == shapes[1]
    model.close()
