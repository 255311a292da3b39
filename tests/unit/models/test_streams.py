"""Models that record stream what they sample, and record what they would have recorded without."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from fakes.vllm_server import FakeVLLMServer
from langchain_core.messages import AIMessageChunk, HumanMessage, SystemMessage

from masksearch_agent.errors import ModelError, ServingError
from masksearch_agent.models.heard import HeardText
from masksearch_agent.models.local import LocalChatModel
from masksearch_agent.models.vllm import VLLMChatModel
from masksearch_agent.records import Turn
from masksearch_agent.traces.recorder import CallRecording, Recorder

QUESTION = [SystemMessage("Answer."), HumanMessage("Who is the founder of Harrow Ltd?")]
SAMPLED: dict[str, Any] = {"temperature": 0.9, "seed": 7, "max_tokens": 24, "stop": ["</search>"]}


@pytest.fixture(params=["local", "vllm"])
def model(request: pytest.FixtureRequest, tiny_model: Any, tiny_tokenizer: Any) -> Iterator[Any]:
    if request.param == "local":
        model: Any = LocalChatModel(model=tiny_model, tokenizer=tiny_tokenizer)
    else:
        model = connect(request.getfixturevalue("server"), tiny_tokenizer)
    yield model
    model.close()


def connect(server: FakeVLLMServer, tokenizer: Any) -> VLLMChatModel:
    return VLLMChatModel(tokenizer=tokenizer, base_url="http://vllm", transport=server)


def without_ids(turn: Turn) -> tuple[Any, ...]:
    return (turn.context_ids, turn.sampled_ids, turn.text, turn.finish_reason, turn.sampling, turn.context)


async def test_a_stream_says_and_records_what_a_call_does(model: Any):
    recorders = [Recorder() for _ in range(3)]
    keywords = [{**SAMPLED, "recording": CallRecording(recorder, "policy", None)} for recorder in recorders]
    whole = await model.ainvoke(QUESTION, **keywords[0])
    streams = [
        list(model.stream(QUESTION, **keywords[1])),
        [chunk async for chunk in model.astream(QUESTION, **keywords[2])],
    ]
    [turn] = recorders[0].turns
    assert len(turn.sampled_ids) > 5
    for chunks, recorder in zip(streams, recorders[1:], strict=True):
        merged = sum(chunks[1:], chunks[0])
        assert len([chunk for chunk in chunks if chunk.content]) > 3
        assert merged.content == whole.content == turn.text
        assert merged.usage_metadata == whole.usage_metadata
        assert merged.response_metadata == {
            **whole.response_metadata,
            "turn_id": recorder.turns[0].id,
        }
        assert [without_ids(t) for t in recorder.turns] == [without_ids(turn)]
        assert recorder.turns[0].logprobs == pytest.approx(turn.logprobs, abs=1e-5)
        assert chunks[-1].chunk_position == "last"


def test_a_local_stream_says_a_token_before_the_last_is_sampled(tiny_model: Any, tiny_tokenizer: Any):
    model = LocalChatModel(model=tiny_model, tokenizer=tiny_tokenizer, max_tokens=60, temperature=0.9)
    may_go_on, passes = threading.Event(), 0

    def wait(_module: Any, _args: Any, _output: Any) -> None:
        nonlocal passes
        passes += 1
        assert passes < 20 or may_go_on.wait(30)

    hook = tiny_model.register_forward_hook(wait)
    try:
        stream = model.stream(QUESTION, seed=7)
        assert next(stream).content
        may_go_on.set()
        assert len(list(stream)) > 20
    finally:
        may_go_on.set()
        hook.remove()
        model.close()


async def test_a_stream_that_nobody_reads_on_stops_sampling(tiny_model: Any, tiny_tokenizer: Any):
    model = LocalChatModel(model=tiny_model, tokenizer=tiny_tokenizer, max_tokens=400, temperature=0.9)
    recorder = Recorder()
    keywords: dict[str, Any] = {"recording": CallRecording(recorder, "policy", None)}
    for _ in range(2):
        next(iter(model.stream(QUESTION, **keywords)))
        async for _ in model.astream(QUESTION, **keywords):
            break
    await asyncio.sleep(0)
    sampled = await asyncio.to_thread(lambda: model.invoke(QUESTION, max_tokens=2))
    assert sampled.usage_metadata["output_tokens"] <= 2
    assert recorder.turns == ()
    model.close()


async def test_many_streams_are_sampled_together(tiny_model: Any, tiny_tokenizer: Any):
    model = LocalChatModel(model=tiny_model, tokenizer=tiny_tokenizer, max_tokens=30, temperature=0.9)
    passes = 0

    def count(*_: Any) -> None:
        nonlocal passes
        passes += 1

    async def read(seed: int) -> str:
        return "".join([chunk.text async for chunk in model.astream(QUESTION, seed=seed)])

    hook = tiny_model.register_forward_hook(count)
    try:
        streamed = await asyncio.gather(*map(read, range(12)))
    finally:
        hook.remove()
    called = await asyncio.gather(*(model.ainvoke(QUESTION, seed=seed) for seed in range(12)))
    assert streamed == [reply.text for reply in called]
    assert passes < 90, "alone they would take up to 360"
    model.close()


def test_a_stream_whose_prompt_is_too_long_fails_at_once(tiny_model: Any, tiny_tokenizer: Any):
    model = LocalChatModel(model=tiny_model, tokenizer=tiny_tokenizer)
    with pytest.raises(ModelError, match="reads at most 512"):
        next(iter(model.stream("Ada " * 2000)))


# --- vLLM --------------------------------------------------------------------------------------------------


def test_vllm_is_asked_to_stream(server: FakeVLLMServer, tiny_tokenizer: Any):
    model = connect(server, tiny_tokenizer)
    assert sum(bool(chunk.content) for chunk in model.stream(QUESTION, **SAMPLED)) > 1
    path, body = server.requests[-1]
    assert (path, body["stream"], body["return_token_ids"]) == ("/v1/completions", True, True)
    model.invoke(QUESTION, **SAMPLED)
    assert "stream" not in server.requests[-1][1]


def test_a_stream_without_the_prompt_s_ids_is_checked_by_their_number(
    server: FakeVLLMServer, tiny_tokenizer: Any
):
    server.hides_prompts = True
    model = connect(server, tiny_tokenizer)
    assert "".join(chunk.text for chunk in model.stream(QUESTION, **SAMPLED)) == (
        model.invoke(QUESTION, **SAMPLED).text
    )


def test_a_stream_that_breaks_off_is_an_error_and_no_turn(server: FakeVLLMServer, tiny_tokenizer: Any):
    server.breaks_off = True
    recorder, asked = Recorder(), len(server.requests)
    with pytest.raises(ServingError, match="broke off after 2 tokens"):
        list(
            connect(server, tiny_tokenizer).stream(
                QUESTION, **SAMPLED, recording=CallRecording(recorder, "policy", None)
            )
        )
    assert recorder.turns == ()
    sent = [path for path, _ in server.requests[asked:]]
    assert sent.count("/v1/completions") == 1, "what was heard in part is not sampled again"


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"finish_reason": "abort"}, "ended a request with 'abort'"),
        ({"token_ids": None}, "without token ids"),
        ({"prompt_token_ids": [1, 2]}, "did not read the prompt as it was sent"),
    ],
)
def test_a_stream_that_cannot_be_trained_on_is_an_error(
    server: FakeVLLMServer, tiny_tokenizer: Any, overrides: dict[str, Any], message: str
):
    server.overrides = overrides
    with pytest.raises(ServingError, match=message):
        list(connect(server, tiny_tokenizer).stream(QUESTION, **SAMPLED))


# --- text --------------------------------------------------------------------------------------------------


class BytesFormat:
    """Ids are the bytes of the text."""

    def decode_reply(self, ids: Sequence[int]) -> str:
        return bytes(ids).decode(errors="replace")


def test_a_character_is_said_once_it_is_whole():
    heard = HeardText(BytesFormat())  # type: ignore[arg-type]
    said = [heard.add([byte]) for byte in "a€ü".encode()]
    assert said == ["a", "", "", "€", "", "ü"]
    assert heard.rest("a€üb") == "b"


def test_a_text_that_changes_what_was_said_is_refused():
    heard = HeardText(BytesFormat())  # type: ignore[arg-type]
    assert heard.add(b"abc") == "abc"
    with pytest.raises(ModelError, match="cannot be streamed"):
        heard.rest("xyz")


def test_chunks_are_ai_message_chunks(model: Any):
    assert {type(chunk) for chunk in model.stream("Who?", max_tokens=3)} == {AIMessageChunk}
