from __future__ import annotations

import asyncio
import logging
import random
import threading
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Any

import pytest
from fakes.tiny_models import make_test_model

from masksearch_agent.models import lockstep as lockstep_module
from masksearch_agent.models.engine import BatchingEngine
from masksearch_agent.models.lockstep import TURNAROUND_TOKENS, Lockstep, Party
from masksearch_agent.records import Sampling

CALLERS = 6
WAIT_S = 60


@pytest.fixture
def engine(tiny_model: Any, tiny_tokenizer: Any) -> Iterator[BatchingEngine]:
    engine = BatchingEngine(tiny_model, tiny_tokenizer, tiny_tokenizer.eos_token_id, max_batch_size=4)
    yield engine
    engine.close()


def converse(
    engine: BatchingEngine, contexts: Sequence[AbstractContextManager[Any]], pace: random.Random
) -> list[list[Any]]:
    """Have each caller ask three times, with a pause of any length before."""

    async def ask(number: int) -> list[Any]:
        ids, found = [5 + number, 6, 7 + number % 2] * (1 + number % 3), []
        with contexts[number]:
            for turn in range(3):
                await asyncio.sleep(pace.random() * 0.02)
                sampling = Sampling(temperature=1.0, max_tokens=3 + (number + turn) % 4, seed=number)
                completion = await asyncio.wrap_future(engine.submit(ids, sampling))
                found.append(completion)
                ids = [*ids, *completion.ids, 9]
        return found

    async def ask_all() -> list[list[Any]]:
        return list(await asyncio.gather(*map(ask, range(CALLERS))))

    return asyncio.run(ask_all())


def watched(engine: BatchingEngine, pace: random.Random) -> tuple[list[list[Any]], list[Any]]:
    """Return what was sampled in lockstep, and what each pass read."""
    passes: list[Any] = []

    def note(model: Any, args: Any, kwargs: dict[str, Any]) -> None:
        if "past_key_values" in kwargs:
            passes.append(kwargs["input_ids"].tolist())

    hook = engine.model.register_forward_pre_hook(note, with_kwargs=True)
    with engine.in_lockstep(CALLERS) as parties:
        found = converse(engine, parties, pace)
    hook.remove()
    return found, passes


def test_passes_and_probabilities_are_the_same_to_the_last_bit_at_any_pace(engine: BatchingEngine) -> None:
    first, *others = [watched(engine, random.Random(seed)) for seed in range(3)]
    found, passes = first
    assert len(passes) > 10
    assert max(len(rows) for rows in passes) == 4, "the engine's limit holds"
    for other in others:
        assert other == (found, passes)


def test_what_is_sampled_is_what_each_seed_gives_alone(engine: BatchingEngine) -> None:
    found, _ = watched(engine, random.Random(0))
    for number, turns in enumerate(found):
        ids = [5 + number, 6, 7 + number % 2] * (1 + number % 3)
        for turn, completion in enumerate(turns):
            sampling = Sampling(temperature=1.0, max_tokens=3 + (number + turn) % 4, seed=number)
            alone = engine.submit(ids, sampling).result(WAIT_S)
            assert completion.ids == alone.ids
            assert completion.logprobs == pytest.approx(alone.logprobs, abs=1e-4)
            ids = [*ids, *completion.ids, 9]


def test_a_caller_that_leaves_is_not_awaited(engine: BatchingEngine) -> None:
    with engine.in_lockstep(3) as (one, two, three):
        with one:
            asked = engine.submit([5, 6], Sampling(max_tokens=2))
        two.leave()
        assert not asked.done(), "the third may still ask"
        with three:
            other = engine.submit([5, 7], Sampling(max_tokens=2))
            assert len(other.result(WAIT_S).ids) == len(asked.result(WAIT_S).ids) == 2
    assert engine.lockstep is None


def test_nothing_is_sampled_before_all_have_come(engine: BatchingEngine) -> None:
    with engine.in_lockstep(2) as (one, two):
        with one:
            asked = engine.submit([5, 6], Sampling(max_tokens=1))
        # Its caller has left, so only what it asked is open; the other one is due at once and not there.
        with pytest.raises(TimeoutError):
            asked.result(0.2)
        two.leave()
        assert asked.result(WAIT_S).ids


def test_others_may_ask_meanwhile(engine: BatchingEngine) -> None:
    with engine.in_lockstep(1) as [party], party:
        inside = engine.submit([5, 6], Sampling(max_tokens=2))
        done: list[Any] = []
        thread = threading.Thread(
            target=lambda: done.append(engine.submit([8, 9], Sampling(max_tokens=2)).result(WAIT_S))
        )
        thread.start()
        assert inside.result(WAIT_S).ids
        party.leave()
        thread.join(WAIT_S)
    assert len(done[0].ids) == 2


def test_whoever_does_not_come_is_given_up_with_a_warning(
    engine: BatchingEngine, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(lockstep_module, "_PATIENCE_S", 0.1)
    with caplog.at_level(logging.WARNING), engine.in_lockstep(2) as (one, _), one:
        assert engine.submit([5, 6], Sampling(max_tokens=2)).result(WAIT_S).ids
        assert engine.submit([5, 6, 7], Sampling(max_tokens=2)).result(WAIT_S).ids
    assert "1 callers of the local engine did not ask for 0 s" in caplog.text
    assert "not reproducible" in caplog.text


def test_a_failure_of_the_model_reaches_those_who_ask_and_ends_the_lockstep(
    engine: BatchingEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*given: Any, **named: Any) -> Any:
        raise RuntimeError("out of memory")

    with engine.in_lockstep(2) as parties:
        hook = engine.model.register_forward_pre_hook(fail)
        asked = []
        for party in parties:
            with party:
                asked.append(engine.submit([5, 6], Sampling(max_tokens=2)))
        for future in asked:
            with pytest.raises(RuntimeError, match="out of memory"):
                future.result(WAIT_S)
        hook.remove()
    assert engine.submit([5, 6], Sampling(max_tokens=2)).result(WAIT_S).ids


def test_cancelled_requests_and_a_closed_engine_let_everybody_go(engine: BatchingEngine) -> None:
    with engine.in_lockstep(2) as (one, two):
        with one:
            engine.submit([5, 6], Sampling(max_tokens=2)).cancel()
        two.leave()
    with engine.in_lockstep(2):
        engine.close()
    with engine.in_lockstep(0) as parties:
        assert parties == []


def test_the_clock_awaits_who_was_answered_a_number_of_tokens_ago() -> None:
    told: list[Party] = []
    clock = Lockstep[str]()
    one, two = (Party(number, clock, told.append) for number in range(2))
    clock.awaited = {one: 0, two: 0}
    clock.ask(two, "b")
    assert clock.lacks
    clock.ask(one, "a")
    assert not clock.lacks
    assert clock.due() == ["a", "b"], "by their numbers, whoever came first"
    clock.now = 10
    clock.answer(one)
    assert not clock.lacks
    clock.now = 10 + TURNAROUND_TOKENS - 1
    assert not clock.lacks
    clock.ask(one, "c")
    assert clock.due() == []
    clock.now += 1
    assert clock.due() == ["c"]
    clock.answer(two)
    two.leave()
    assert told == [two]


def test_rollouts_of_a_local_model_leave_nothing_in_memory(tiny_tokenizer: Any) -> None:
    from masksearch_agent.models.local import LocalChatModel

    for is_reproducible, is_search_known in ((None, True), (None, False), (True, False), (False, True)):
        chat = LocalChatModel(
            model=make_test_model(tiny_tokenizer), tokenizer=tiny_tokenizer, is_reproducible=is_reproducible
        )
        with chat.rollouts(1, is_search_known) as [context], context:
            is_wanted = is_search_known if is_reproducible is None else is_reproducible
            assert isinstance(context, Party) is is_wanted
            assert chat.invoke("Who?", max_tokens=4).content
            assert chat._engine.prefixes.size_bytes > 0
        assert chat._engine.prefixes.size_bytes == 0
        chat.close()
