from __future__ import annotations

import asyncio
import threading

import pytest

from masksearch_agent.retrieval.modes.dense import CallMerger


def test_what_arrives_during_a_call_shares_the_next_one():
    started, release, batches = threading.Event(), threading.Event(), []

    def double(items: list[int]) -> list[int]:
        batches.append(list(items))
        started.set()
        assert release.wait(5)
        return [2 * item for item in items]

    merger = CallMerger(double)
    first = merger.submit([1])
    assert started.wait(5)
    later = [merger.submit([2, 3]), merger.submit([]), merger.submit([4])]
    release.set()
    assert first.result(5) == [2]
    assert [future.result(5) for future in later] == [[4, 6], [], [8]]
    assert batches == [[1], [2, 3, 4]]


def test_a_failure_reaches_every_caller_and_the_next_call_works():
    def invert(items: list[int]) -> list[float]:
        return [1 / item for item in items]

    merger = CallMerger(invert)
    with pytest.raises(ZeroDivisionError):
        merger.submit([1, 0]).result(5)
    assert merger.submit([4]).result(5) == [0.25]


async def test_a_cancelled_caller_does_not_disturb_the_others():
    started, release = threading.Event(), threading.Event()

    def wait(items: list[str]) -> list[str]:
        started.set()
        assert release.wait(5)
        return items

    merger = CallMerger(wait)
    first = asyncio.wrap_future(merger.submit(["a"]))
    await asyncio.to_thread(started.wait, 5)
    cancelled, kept = merger.submit(["b"]), asyncio.wrap_future(merger.submit(["c"]))
    assert cancelled.cancel()
    release.set()
    assert await asyncio.gather(first, kept) == [["a"], ["c"]]


def test_what_one_caller_brings_does_not_fail_those_who_share_its_call():
    started, release = threading.Event(), threading.Event()

    def invert(items: list[int]) -> list[float]:
        started.set()
        assert release.wait(5)
        return [1 / item for item in items]

    merger = CallMerger(invert)
    merger.submit([1])
    assert started.wait(5)
    bad, good = merger.submit([0]), merger.submit([4, 5])
    release.set()
    assert good.result(5) == [0.25, 0.2]
    with pytest.raises(ZeroDivisionError):
        bad.result(5)
