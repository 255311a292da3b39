"""What callbacks and traces see of a run: its searches as retrievers' runs, and none of its tokens."""

from __future__ import annotations

import json
from typing import Any
from uuid import UUID

import pytest
from fakes.agents import PASSAGES, SEARCH, echo, make_agent
from fakes.chat_models import ScriptedChatModel, ScriptedRecordingModel
from fakes.passages import make_passages
from fakes.retrievers import DictRetriever
from langchain_core.documents import Document
from langchain_core.tools import tool
from langchain_core.tracers import BaseTracer
from langchain_core.tracers.schemas import Run

from masksearch_agent.agent.prompts import COMPACT_PROMPTS
from masksearch_agent.agent.runnable import MaskSearchAgent
from masksearch_agent.config.agent import AgentSettings
from masksearch_agent.config.retrieval import RetrievalSettings
from masksearch_agent.models.local import LocalChatModel
from masksearch_agent.retrieval.index import build_index


class KeepingTracer(BaseTracer):
    """Keeps what a tracer would send."""

    def __init__(self) -> None:
        super().__init__()
        self.runs: dict[UUID, Run] = {}

    def _persist_run(self, run: Run) -> None:
        pending = [run]
        while pending:
            one = pending.pop()
            self.runs[one.id] = one
            pending += one.child_runs

    def of_type(self, run_type: str) -> list[Run]:
        return [run for run in self.runs.values() if run.run_type == run_type]


async def ask_function(query: str) -> list[str]:
    return PASSAGES.get(query, [])


@tool
def look_up(query: str) -> str:
    """Look something up."""
    return "\n".join(PASSAGES.get(query, []))


FOUND = ["Ada founded Harrow.", "Ada is a founder."]
SOURCES = {
    "retriever": (DictRetriever(entries=PASSAGES), "DictRetriever", FOUND),
    "function": (lambda query: PASSAGES[query], "search", PASSAGES["founder of Harrow"]),
    "tool": (look_up, "search", ["\n".join(PASSAGES["founder of Harrow"])]),
}


@pytest.mark.parametrize(("source", "name", "texts"), SOURCES.values(), ids=SOURCES.keys())
async def test_a_search_is_one_run_of_a_retriever(source: Any, name: str, texts: list[str]):
    agent = MaskSearchAgent(ScriptedChatModel(script=echo), source, AgentSettings(), COMPACT_PROMPTS)
    for is_async in (False, True):
        tracer = KeepingTracer()
        config: Any = {"callbacks": [tracer]}
        answer = await agent.ainvoke("q", config) if is_async else agent.invoke("q", config)
        assert answer.answer == "q"
        [run] = tracer.of_type("retriever")
        assert (run.name, run.inputs) == (name, {"query": "founder of Harrow"})
        assert run.outputs is not None
        assert [document.page_content for document in run.outputs["documents"]] == texts
        assert run.parent_run_id in tracer.runs
        assert tracer.runs[run.parent_run_id].name == "search", "it is the search node's"


async def test_our_own_index_shows_in_events(tmp_path: Any):
    build_index(make_passages("red fox", "grey owl"), tmp_path / "index", RetrievalSettings(mode="bm25"))
    script = ["<think></think><search>fox\nowl</search>", "<think></think><answer>x</answer>"]
    agent = MaskSearchAgent(ScriptedChatModel(script=script), tmp_path / "index", prompts=COMPACT_PROMPTS)
    events = [e async for e in agent.astream_events("q", version="v2") if "retriever" in e["event"]]
    starts = [e["data"]["input"] for e in events if e["event"] == "on_retriever_start"]
    ends = [e["data"]["output"] for e in events if e["event"] == "on_retriever_end"]
    assert starts == [{"query": "fox"}, {"query": "owl"}]
    assert [[document.page_content for document in found] for found in ends] == [["red fox"], ["grey owl"]]
    assert isinstance(ends[0][0], Document)
    assert ends[0][0].id


async def test_a_search_that_fails_is_a_run_that_failed():
    def fail(query: str) -> list[str]:
        raise ConnectionError("the index is gone")

    agent = MaskSearchAgent(ScriptedChatModel(script=[SEARCH]), fail, prompts=COMPACT_PROMPTS)
    tracer = KeepingTracer()
    with pytest.raises(ConnectionError):
        agent.invoke("q", {"callbacks": [tracer]})
    with pytest.raises(ConnectionError):
        await agent.ainvoke("q", {"callbacks": [tracer]})
    assert ["the index is gone" in str(run.error) for run in tracer.of_type("retriever")] == [True, True]


# --- what must not be seen ---------------------------------------------------------------------------------


def shown_parameters(run: Run) -> str:
    """Return all that a run was told: its inputs, its parameters, its metadata, and what it is."""
    return json.dumps([run.inputs, run.extra, run.serialized, run.tags], default=repr)


async def test_no_run_is_told_tokens_recorders_or_weights(tiny_model: Any, tiny_tokenizer: Any):
    model = LocalChatModel(model=tiny_model, tokenizer=tiny_tokenizer, max_tokens=6)
    settings = AgentSettings(answers_from_passages=True, max_step_tokens=6, max_repairs=0)
    agent = MaskSearchAgent(model, lambda query: ["red fox"], settings, COMPACT_PROMPTS)
    for is_async in (False, True):
        tracer = KeepingTracer()
        config: Any = {"callbacks": [tracer]}
        answer = await agent.ainvoke("q", config) if is_async else agent.invoke("q", config)
        assert answer.trajectory is not None
        [turn] = answer.trajectory.turns
        assert len(turn.sampled_ids) > 2
        [call] = tracer.of_type("llm")
        told = call.extra["invocation_params"]
        assert told["max_tokens"] == 6
        assert not {"recording", "answers"} & set(told)
        for run in tracer.runs.values():
            shown = shown_parameters(run)
            for leak in ("Recorder", "CallRecording", "AnswerSpans", "Embedding(", "AddedToken"):
                assert leak not in shown, (run.name, leak)
            assert str(list(turn.context_ids))[1:-1] not in shown
            assert "Turn(" not in shown
            for ids in (turn.context_ids, turn.sampled_ids, turn.logprobs):
                assert str(ids)[1:-1] not in repr(run.outputs), "nor do outputs hold them"
        [root] = [run for run in tracer.runs.values() if run.parent_run_id is None]
        assert root.outputs is not None
        assert [turn.text for turn in root.outputs["output"].trajectory.turns] == [turn.text]
        streamed = KeepingTracer()
        list(model.stream("q", {"callbacks": [streamed]}, recording=None, answers=None))
        assert not {"recording", "answers"} & set(streamed.of_type("llm")[0].extra["options"])
    model.close()


def test_the_graph_s_own_runs_are_told_no_recorder():
    tracer = KeepingTracer()
    make_agent(ScriptedRecordingModel(script=echo)).invoke("q", {"callbacks": [tracer]})
    runs = [run for run in tracer.runs.values() if run.run_type != "llm"]
    assert {run.name for run in runs} >= {"MaskSearchAgent", "masksearch", "think", "search"}
    assert not any("Recorder" in shown_parameters(run) for run in runs)
