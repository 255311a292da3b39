from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from conformance.recording_model import RecordingModelConformance, Subject
from fakes.vllm_server import FakeVLLMServer
from langchain_core.messages import HumanMessage, SystemMessage

from masksearch_agent.errors import ModelError, ServingError
from masksearch_agent.models import vllm_client
from masksearch_agent.models.local import LocalChatModel
from masksearch_agent.models.vllm import VLLMChatModel
from masksearch_agent.records import Message
from masksearch_agent.traces.recorder import CallRecording, Recorder

QUESTION = [SystemMessage("Answer."), HumanMessage("Who is the founder of Harrow Ltd?")]


@pytest.fixture
def model(server: FakeVLLMServer, tiny_tokenizer: Any) -> Iterator[VLLMChatModel]:
    model = connect(server, tiny_tokenizer)
    yield model
    model.close()


def connect(server: FakeVLLMServer, tokenizer: Any, **settings: Any) -> VLLMChatModel:
    settings = {"max_tokens": 8, **settings}
    return VLLMChatModel(tokenizer=tokenizer, base_url="http://vllm", transport=server, **settings)


class TestVLLMChatModel(RecordingModelConformance):
    @pytest.fixture
    def subject(self, model: VLLMChatModel, server: FakeVLLMServer) -> Subject:
        return Subject(model, server.sent)

    @pytest.fixture(autouse=True)
    def _show_what_was_sent(self, subject: Subject, server: FakeVLLMServer, monkeypatch: Any) -> None:
        complete = server._complete

        async def note(body: dict[str, Any]) -> dict[str, Any]:
            subject.sent.append(tuple(body["prompt"]))
            return await complete(body)

        monkeypatch.setattr(server, "_complete", note)


@pytest.mark.parametrize("temperature", [0.0, 0.8])
def test_a_turn_is_recorded_as_the_local_model_records_it(
    model: VLLMChatModel, tiny_model: Any, tiny_tokenizer: Any, temperature: float
):
    local = LocalChatModel(model=tiny_model, tokenizer=tiny_tokenizer, max_tokens=8)
    turns = []
    for chat_model in (local, model):
        recorder = Recorder()
        chat_model.invoke(
            QUESTION,
            stop=["</search>"],
            temperature=temperature,
            seed=7,
            recording=CallRecording(recorder, "policy", None),
        )
        turns.append(recorder.turns[0])
    local.close()
    first, second = turns
    assert second.context_ids == first.context_ids
    assert second.sampled_ids == first.sampled_ids
    assert second.logprobs == pytest.approx(first.logprobs, abs=1e-6)
    assert (second.text, second.finish_reason, second.sampling) == (
        first.text,
        first.finish_reason,
        first.sampling,
    )


def test_sampling_settings_are_sent_and_the_checkpoint_s_own_are_not_added(
    model: VLLMChatModel, server: FakeVLLMServer
):
    model.invoke(QUESTION, stop=["</search>"], temperature=0.7, top_p=0.9, max_tokens=5, seed=11)
    _, body = server.requests[-1]
    expected = {"temperature": 0.7, "top_p": 0.9, "max_tokens": 5, "seed": 11, "stop": ["</search>"]}
    expected |= {"top_k": 0, "min_p": 0.0, "repetition_penalty": 1.0, "model": "served"}
    assert {name: body[name] for name in expected} == expected


def test_the_version_is_the_served_model_unless_it_is_said(server: FakeVLLMServer, tiny_tokenizer: Any):
    assert connect(server, tiny_tokenizer).model_version == "served"
    assert connect(server, tiny_tokenizer, model_version="mine#1").model_version == "mine#1"


def test_a_reply_is_cut_to_the_server_s_context(
    model: VLLMChatModel, server: FakeVLLMServer, tiny_tokenizer: Any
):
    question = Message("user", "Who is the founder of Harrow Ltd?")
    length = len(model.chat_format.encode_context([question], is_first=True, is_closed=False))
    server.max_model_len = length + 3
    connect(server, tiny_tokenizer).invoke(question.content)
    assert server.requests[-1][1]["max_tokens"] == 3
    server.max_model_len = length
    with pytest.raises(ModelError, match=f"{length} tokens but the server reads at most {length}"):
        connect(server, tiny_tokenizer).invoke(question.content)


def test_a_lost_connection_and_a_busy_server_are_tried_again(model: VLLMChatModel, server: FakeVLLMServer):
    server.failures = [httpx.ConnectError("refused"), httpx.Response(503), httpx.ReadError("reset")]
    asked = len(server.requests)
    assert model.invoke(QUESTION).usage_metadata["output_tokens"] > 0
    assert len(server.requests) - asked == 4


def test_a_server_that_stays_away_is_an_error_after_the_last_attempt(
    server: FakeVLLMServer, tiny_tokenizer: Any, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(vllm_client, "_MAX_ATTEMPTS", 2)
    model = connect(server, tiny_tokenizer)
    asked = len(server.requests)
    server.failures = [httpx.ConnectError("refused")] * 5
    with pytest.raises(ServingError, match=r"http://vllm did not answer 2 attempts \(refused\)"):
        model.invoke(QUESTION)
    assert len(server.requests) - asked == 2


@pytest.mark.parametrize("failure", [httpx.Response(400, text="no such field"), httpx.ReadTimeout("slow")])
def test_a_refusal_and_a_timeout_are_not_tried_again(
    model: VLLMChatModel, server: FakeVLLMServer, failure: Any
):
    server.failures = [failure]
    asked = len(server.requests)
    with pytest.raises(ServingError, match=r"status 400: no such field|longer than 600 s"):
        model.invoke(QUESTION)
    assert len(server.requests) - asked == 1


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"token_ids": None}, "without token ids or log-probabilities"),
        ({"logprobs": None}, "without token ids or log-probabilities"),
        ({"logprobs": {"token_logprobs": [-0.1]}}, "after 8 tokens and 1 log-probabilities"),
        ({"prompt_token_ids": [1, 2]}, "did not read the prompt as it was sent"),
        ({"finish_reason": "abort"}, "ended a request with 'abort'"),
    ],
)
def test_an_answer_that_cannot_be_trained_on_is_an_error(
    model: VLLMChatModel, server: FakeVLLMServer, overrides: dict[str, Any], message: str
):
    server.overrides = overrides
    recorder = Recorder()
    with pytest.raises(ServingError, match=message):
        model.invoke(QUESTION, temperature=0.0, recording=CallRecording(recorder, "policy", None))
    assert recorder.turns == ()


def test_concurrent_calls_keep_to_the_limit(server: FakeVLLMServer, tiny_tokenizer: Any):
    model = connect(server, tiny_tokenizer, max_concurrent_requests=3)
    asyncio.run(_ask_many(model, 12))
    assert len(server.sent) == 12
    assert server.most_open_requests == 3


def test_calls_from_several_event_loops_share_one_model(model: VLLMChatModel, server: FakeVLLMServer):
    asyncio.run(_ask_many(model, 2))
    asyncio.run(_ask_many(model, 2))
    model.close()
    asyncio.run(_ask_many(model, 1))
    assert len(server.sent) == 5


async def test_a_cancelled_call_is_withdrawn_from_the_server(model: VLLMChatModel, server: FakeVLLMServer):
    started, is_withdrawn = asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()

    async def hang(_body: dict[str, Any]) -> dict[str, Any]:
        loop.call_soon_threadsafe(started.set)
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            loop.call_soon_threadsafe(is_withdrawn.set)
            raise
        return {}

    server._complete = hang  # type: ignore[method-assign]
    call = asyncio.create_task(model.ainvoke(QUESTION))
    await started.wait()
    call.cancel()
    await asyncio.wait_for(is_withdrawn.wait(), timeout=5)
    with pytest.raises(asyncio.CancelledError):
        await call


def test_a_reload_waits_drops_the_cache_and_names_the_weights(
    model: VLLMChatModel, server: FakeVLLMServer, tmp_path: Path
):
    before = len(server.requests)
    model.client.reload_weights(tmp_path, "tiny@3")
    assert server.requests[before:] == [
        ("/pause", {"mode": "wait"}),
        ("/collective_rpc", {"method": "reload_weights", "kwargs": {"weights_path": str(tmp_path)}}),
        ("/reset_prefix_cache", {}),
        ("/update_weight_version", {"new_version": "tiny@3"}),
        ("/resume", {}),
    ]
    assert model.client.weight_version() == "tiny@3"


def test_a_server_without_the_endpoints_for_weights_says_what_to_start(
    model: VLLMChatModel, server: FakeVLLMServer, tmp_path: Path
):
    server.failures = [httpx.Response(404)]
    with pytest.raises(ServingError, match="masksearch serve --refreshable"):
        model.client.reload_weights(tmp_path, "tiny@3")


def test_a_server_that_is_not_vllm_is_refused(server: FakeVLLMServer, tiny_tokenizer: Any):
    server.failures = [httpx.Response(200, json={"data": [{"id": "gpt"}]})]
    with pytest.raises(ServingError, match="so it is not vLLM"):
        connect(server, tiny_tokenizer)


async def _ask_many(model: VLLMChatModel, count: int) -> None:
    await asyncio.gather(*(model.ainvoke([HumanMessage(f"question {n}")]) for n in range(count)))
