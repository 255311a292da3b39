"""Weights that change while somebody asks: no reply is of two versions, and each says of which it is."""

from __future__ import annotations

import asyncio
import copy
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch
from fakes.tiny_models import make_test_model
from fakes.vllm_server import FakeVLLMServer

from masksearch_agent.models.chat_format import ChatFormat
from masksearch_agent.models.engine import BatchingEngine
from masksearch_agent.models.local import LocalChatModel
from masksearch_agent.models.recording import Completion, RecordingChatModel
from masksearch_agent.models.vllm import VLLMChatModel
from masksearch_agent.records import Sampling, Turn
from masksearch_agent.traces.recorder import CallRecording, Recorder

WAIT_S = 60


@pytest.fixture
def versions(tiny_tokenizer: Any) -> dict[str, Any]:
    """Two models of one shape, by the version of their weights."""
    return {f"tiny@{seed}": make_test_model(tiny_tokenizer, seed=seed) for seed in (0, 1)}


@pytest.fixture
def sampler(versions: dict[str, Any]) -> Any:
    return copy.deepcopy(versions["tiny@0"])


@pytest.fixture(params=["local", "served"])
def chat(request: pytest.FixtureRequest, sampler: Any, tiny_tokenizer: Any) -> Iterator[RecordingChatModel]:
    settings = {"tokenizer": tiny_tokenizer, "model_version": "tiny@0", "temperature": 1.0, "max_tokens": 6}
    if request.param == "local":
        local = LocalChatModel(model=sampler, **settings)
        yield local
        local.close()
        return
    server = FakeVLLMServer(sampler, tiny_tokenizer, ChatFormat(tiny_tokenizer).end_of_turn_id)
    served = VLLMChatModel(base_url="http://vllm", transport=server, **settings)
    yield served
    served.close()
    server.engine.close()


def logprobs_of(model: Any, prompt: tuple[int, ...], sampled: tuple[int, ...]) -> list[float]:
    with torch.no_grad():
        logits = model(torch.tensor([[*prompt, *sampled]])).logits[0, len(prompt) - 1 : -1]
    return logits.log_softmax(-1).gather(1, torch.tensor(sampled)[:, None])[:, 0].tolist()  # type: ignore[no-any-return]


def test_a_reply_under_way_keeps_its_weights_and_the_next_one_has_the_new_ones(
    chat: RecordingChatModel, sampler: Any, versions: dict[str, Any]
) -> None:
    under_way, may_go_on, has_begun = threading.Event(), threading.Event(), threading.Event()

    def watch(model: Any, args: Any, kwargs: dict[str, Any]) -> None:
        if "past_key_values" in kwargs:
            under_way.set()
            assert may_go_on.wait(WAIT_S)

    def ask(recorder: Recorder) -> Turn:
        parent = recorder.turns[-1].id if recorder.turns else None
        known = [*recorder.messages(parent)] if parent else []
        asked = [(message.role, message.content) for message in known] + [("user", "Who is the mayor?")]
        chat.invoke(asked, recording=CallRecording(recorder, "policy", parent))
        return recorder.turns[-1]

    def exchange() -> Any:
        with chat.exchange():
            has_begun.set()
            first.result(WAIT_S)  # Sampled before; it would not be now.
            later = pool.submit(ask, recorder)
            with pytest.raises(TimeoutError):
                later.result(0.2)
            sampler.load_state_dict(versions["tiny@1"].state_dict())
            chat.model_version = "tiny@1"
            return later

    recorder = Recorder()
    hook = sampler.register_forward_pre_hook(watch, with_kwargs=True)
    with ThreadPoolExecutor(3) as pool:
        first = pool.submit(ask, recorder)
        assert under_way.wait(WAIT_S)
        exchanged = pool.submit(exchange)
        assert not has_begun.wait(0.2)
        may_go_on.set()
        turns = [first.result(WAIT_S), exchanged.result(WAIT_S).result(WAIT_S)]
    hook.remove()
    assert [turn.model_version for turn in turns] == ["tiny@0", "tiny@1"]
    assert turns[1].parent_id == turns[0].id
    prompt: tuple[int, ...] = ()
    for turn in turns:
        prompt += turn.context_ids
        for version, model in versions.items():
            is_its = turn.logprobs == pytest.approx(logprobs_of(model, prompt, turn.sampled_ids), abs=1e-4)
            assert is_its is (version == turn.model_version)
        prompt += turn.sampled_ids


def test_callers_in_lockstep_go_on_with_the_new_weights(
    sampler: Any, versions: dict[str, Any], tiny_tokenizer: Any, caplog: pytest.LogCaptureFixture
) -> None:
    engine = BatchingEngine(sampler, tiny_tokenizer, tiny_tokenizer.eos_token_id, max_batch_size=3)
    named = ["tiny@0"]

    def exchange() -> None:
        with engine.exchange():
            sampler.load_state_dict(versions["tiny@1"].state_dict())
            named.append("tiny@1")

    async def ask(number: int, party: Any) -> list[tuple[tuple[int, ...], Completion]]:
        ids, found = (5 + number, 6, 7), list[tuple[tuple[int, ...], Completion]]()
        with party:
            while not found or found[-1][1].model_version == "tiny@0":
                if number == 0 and len(found) == 1:
                    exchanging.start()
                sampling = Sampling(temperature=1.0, max_tokens=3 + number, seed=number)
                asked = engine.submit(ids, sampling, version=lambda: named[-1])
                found.append((ids, await asyncio.wrap_future(asked)))
                ids = (*ids, *found[-1][1].ids, 9)[-200:]
        return found

    async def ask_all(parties: Any) -> list[list[tuple[tuple[int, ...], Completion]]]:
        return list(await asyncio.gather(*(ask(number, party) for number, party in enumerate(parties))))

    exchanging = threading.Thread(target=exchange)
    with engine.in_lockstep(4) as parties:
        asked_by_all = asyncio.run(ask_all(parties))
    exchanging.join(WAIT_S)
    engine.close()
    assert "did not ask" not in caplog.text
    for found in asked_by_all:
        assert [each.model_version for _, each in found] == ["tiny@0"] * (len(found) - 1) + ["tiny@1"]
        for prompt, each in (found[0], found[-1]):
            expected = logprobs_of(versions[each.model_version], prompt, each.ids)
            assert each.logprobs == pytest.approx(expected, abs=1e-4)


def test_a_failing_model_does_not_hold_up_an_exchange(sampler: Any, tiny_tokenizer: Any) -> None:
    engine = BatchingEngine(sampler, tiny_tokenizer, tiny_tokenizer.eos_token_id)
    has_begun, exchanged = threading.Event(), threading.Event()

    def exchange() -> None:
        with engine.exchange():
            exchanged.set()

    thread = threading.Thread(target=exchange)

    def fail(model: Any, args: Any, kwargs: dict[str, Any]) -> None:
        if "past_key_values" in kwargs:
            thread.start()
            has_begun.set()
            raise RuntimeError("out of memory")

    hook = sampler.register_forward_pre_hook(fail, with_kwargs=True)
    with pytest.raises(RuntimeError, match="out of memory"):
        engine.submit([5, 6], Sampling(max_tokens=2)).result(WAIT_S)
    hook.remove()
    assert has_begun.is_set()
    assert exchanged.wait(WAIT_S)
    assert engine.submit([5, 6], Sampling(max_tokens=2)).result(WAIT_S).ids
    engine.close()


def test_an_exchange_that_is_stopped_while_it_waits_holds_up_nobody(
    chat: RecordingChatModel, sampler: Any, ctrl_c: None
) -> None:
    under_way, may_go_on = threading.Event(), threading.Event()

    def watch(*_: Any) -> None:
        under_way.set()
        assert may_go_on.wait(WAIT_S)

    hook = sampler.register_forward_pre_hook(watch)
    stop = threading.Timer(0.3, signal.pthread_kill, (threading.get_ident(), signal.SIGINT))
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(chat.invoke, "Who is the mayor?")
        assert under_way.wait(WAIT_S)
        stop.start()
        with pytest.raises(KeyboardInterrupt), chat.exchange():
            pytest.fail("began while something was sampled")
        hook.remove()
        may_go_on.set()
        assert first.result(WAIT_S)
        assert pool.submit(chat.invoke, "Who else?").result(WAIT_S)
        with chat.exchange():
            pass
