from __future__ import annotations

import asyncio
import dataclasses
import json
import threading
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from fakes.backends import TableBackend
from fakes.chat_models import ScriptedChatModel, ScriptedRecordingModel

from masksearch_agent.agent import runnable
from masksearch_agent.agent.prompts import COMPACT_PROMPTS
from masksearch_agent.agent.runnable import MaskSearchAgent
from masksearch_agent.config.evaluation import EvaluationSettings
from masksearch_agent.errors import EvaluationError
from masksearch_agent.evaluation.answering import RemoteAgent
from masksearch_agent.evaluation.runner import evaluate
from masksearch_agent.records import Passage, Sampling, SearchTask
from masksearch_agent.retrieval.search import Search

GOLD = Passage("gold", "Orly", "It was built by Ann Bo.")
TASK = SearchTask("q1", "qa", "Who built Orly?", (("Ann Bo",),), gold_titles=("Orly",))
STEPS = ["<think>I look.</think><search>Orly</search>", "<think>It is there.</think><answer>Ann Bo</answer>"]


def make_agent(model: Any) -> MaskSearchAgent:
    search = Search(TableBackend({"Orly": [GOLD], TASK.question: [GOLD]}))
    return MaskSearchAgent(model, search, prompts=COMPACT_PROMPTS)


class Server:
    """Answers as a LangGraph server does: the graph's output, as JSON."""

    def __init__(self, agent: MaskSearchAgent) -> None:
        self.agent = agent

    async def ainvoke(self, given: Any) -> dict[str, Any]:
        state: Mapping[str, Any] = await self.agent.graph.ainvoke(given)
        dumped = {key: [m.model_dump(mode="json") for m in state[key]] for key in ("messages", "transcript")}
        return {**state, **dumped}


def test_a_deployed_agent_is_evaluated_like_one_in_this_process() -> None:
    server = Server(make_agent(ScriptedChatModel(script=STEPS, tokens_per_reply=7)))
    remote = RemoteAgent("http://127.0.0.1:1", client=server)
    [result] = evaluate(remote, [TASK])
    assert (result.recall, result.searches, result.gold_recall, result.stop_reason) == (1, 1, 1, "answered")
    assert result.sampled_tokens == 14
    assert result.trajectory is not None
    assert result.trajectory.producer == "search_agent@http://127.0.0.1:1"
    assert [turn.text for turn in result.trajectory.turns] == STEPS
    assert [turn.parent_id for turn in result.trajectory.turns] == [None, "remote-0"]
    assert [m.role for turn in result.trajectory.turns for m in turn.context] == ["system", "user", "user"]


def test_a_deployed_agent_cannot_do_what_needs_its_insides() -> None:
    remote = RemoteAgent("http://127.0.0.1:1", client=Server(make_agent(ScriptedChatModel(script=STEPS))))
    masked = SearchTask("m", "ramp", "Orly: by [mask].", (("Ann",),), source_passage_id="gold")
    [result] = evaluate(remote, [masked])
    assert "has to be withheld" in result.failure
    with pytest.raises(EvaluationError, match="needs an agent bundle"):
        evaluate(remote, [TASK], mode="rag")


def test_a_server_that_runs_another_graph_is_named() -> None:
    class Other:
        async def ainvoke(self, given: Any) -> dict[str, Any]:
            return {"output": 1}

    [result] = evaluate(RemoteAgent("http://127.0.0.1:1", client=Other()), [TASK])
    assert "no finished run of 'q1'" in result.failure


@pytest.mark.parametrize("mode", ["agentic", "rag"])
def test_a_recording_model_decodes_as_set_up_and_is_seeded_by_task(mode: Any) -> None:
    model = ScriptedRecordingModel(script=[STEPS[1]])
    [first] = evaluate(make_agent(model), [TASK], mode=mode)
    evaluate(make_agent(model), [TASK], mode=mode)
    asked = [(keywords["temperature"], keywords["seed"]) for keywords in model.keywords]
    assert asked[0] == asked[1]
    assert asked[0][0] == model.temperature == 0.7
    assert isinstance(asked[0][1], int)
    assert first.sampled_tokens == len(first.trajectory.turns[0].sampled_ids)  # type: ignore[union-attr]


@pytest.mark.parametrize(("mode", "identity"), [("agentic", "20cf3a1b1628bdd3"), ("rag", "c947f27546e7dd49")])
def test_ids_and_seeds_of_a_run_stay_what_they_are(mode: Any, identity: str) -> None:
    """Results and traces of earlier versions are known by them."""
    model = ScriptedRecordingModel(script=STEPS if mode == "agentic" else STEPS[1:])
    [result] = evaluate(make_agent(model), [TASK], EvaluationSettings(seed=5), mode=mode)
    assert result.trajectory is not None
    assert result.trajectory.id == identity
    assert [keywords["seed"] for keywords in model.keywords] == [830863545, 1872855620][: len(model.keywords)]


async def test_a_rollout_and_an_evaluation_of_one_seed_are_one_run() -> None:
    rollout = await make_agent(ScriptedRecordingModel(script=STEPS)).run_task(TASK, Sampling(), seed=5)
    answered, _ = await make_agent(ScriptedRecordingModel(script=STEPS)).answer_task(TASK, 5)
    assert rollout.id == answered.id == "20cf3a1b1628bdd3"
    seeds = [[turn.sampling.seed for turn in run.turns if turn.sampling] for run in (rollout, answered)]
    assert seeds == [[830863545, 1872855620]] * 2


def test_the_baseline_s_graph_is_compiled_once(monkeypatch: pytest.MonkeyPatch) -> None:
    agent = make_agent(ScriptedChatModel(script=lambda messages: STEPS[1]))
    compiled: list[str] = []
    build = runnable.build_search_graph

    def count(*arguments: Any) -> Any:
        compiled.append("graph")
        return build(*arguments)

    monkeypatch.setattr(runnable, "build_search_graph", count)
    tasks = [dataclasses.replace(TASK, id=f"q{number}") for number in range(4)]
    assert len(evaluate(agent, tasks, mode="rag")) == 4
    assert compiled == ["graph"]


def test_tokens_of_an_api_model_are_those_it_reports() -> None:
    model = ScriptedChatModel(script=STEPS, tokens_per_reply=7)
    [result] = evaluate(make_agent(model), [TASK])
    assert result.sampled_tokens == 14
    read = [sum(len(str(message.text).split()) for message in call) for call in model.calls]
    assert result.prompt_tokens == sum(read)


def test_a_langgraph_server_is_asked_over_http() -> None:
    agent = make_agent(ScriptedChatModel(script=STEPS))
    asked: list[dict[str, Any]] = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            asked.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            state = asyncio.run(Server(agent).ainvoke(asked[-1]["input"]))
            body = f"event: values\ndata: {json.dumps(state)}\n\n".encode()
            self.send_response(200)
            self.send_header("Content-Type", "text/event-stream")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *arguments: Any) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        remote = RemoteAgent(f"http://127.0.0.1:{server.server_port}")
        [result] = evaluate(remote, [TASK])
        # Each evaluation has an event loop of its own, which connections must not outlive.
        assert evaluate(remote, [TASK])[0].answer == result.answer
        server.shutdown()
    assert (result.answer, result.gold_recall) == ("Ann Bo", 1.0)
    assert asked[0]["input"] == {"question": TASK.question, "kind": "qa"}
    assert asked[0]["assistant_id"] == "search_agent"
