from __future__ import annotations

import asyncio
import gc
import importlib.util
import os
import signal
import threading
import time

import pytest

from masksearch_agent.concurrency import (
    finish_within,
    gather_bounded,
    is_bound_to_thread,
    open_runner,
    run_many,
    write_in_thread,
)


async def test_results_stand_in_the_order_of_the_items() -> None:
    async def work(item: int) -> int:
        await asyncio.sleep(0.001 * (3 - item))
        return item * 10

    assert await gather_bounded(work, [0, 1, 2], limit=3) == [0, 10, 20]


async def test_no_more_than_the_limit_are_under_way() -> None:
    under_way, most = 0, 0

    async def work(item: int) -> None:
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        await asyncio.sleep(0)
        under_way -= 1

    await gather_bounded(work, range(10), limit=3)
    assert most == 3


async def test_the_first_failure_is_raised_as_it_is_and_cancels_the_others() -> None:
    cancelled: list[int] = []

    async def work(item: int) -> None:
        if item == 1:
            await asyncio.sleep(0)
            raise KeyError("gone")
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            cancelled.append(item)
            raise

    with pytest.raises(KeyError, match="gone"):
        await gather_bounded(work, [0, 1, 2], limit=3)
    assert sorted(cancelled) == [0, 2]  # a task group keeps its tasks in a set, whose order is not fixed


async def loop_and_threshold() -> tuple[str, int]:
    return type(asyncio.get_running_loop()).__module__, gc.get_threshold()[0]


def test_many_runs_get_a_fast_loop_and_a_relaxed_collector() -> None:
    pytest.importorskip("uvloop")
    before = gc.get_threshold()
    module, threshold = run_many(loop_and_threshold())
    assert module.startswith("uvloop")
    assert threshold > 100_000
    assert gc.get_threshold() == before


def test_without_uvloop_python_brings_the_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert run_many(loop_and_threshold())[0].startswith("asyncio")


def test_a_runner_that_is_passed_in_stays_open() -> None:
    async def this_loop() -> asyncio.AbstractEventLoop:
        return asyncio.get_running_loop()

    with open_runner() as runner:
        assert run_many(this_loop(), runner) is run_many(this_loop(), runner)


@pytest.mark.usefixtures("ctrl_c")
def test_ctrl_c_cancels_the_work_and_is_raised() -> None:
    cleaned_up: list[bool] = []

    async def work() -> None:
        threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT)).start()
        try:
            await asyncio.sleep(60)
        finally:
            cleaned_up.append(True)

    with pytest.raises(KeyboardInterrupt):
        run_many(work())
    assert cleaned_up == [True]


@pytest.mark.usefixtures("ctrl_c")
def test_ctrl_c_waits_for_a_write_that_is_under_way() -> None:
    events: list[str] = []

    def write() -> None:
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.3)
        events.append("written")

    # A runner that stays open does not wait for its threads.
    with open_runner() as runner:
        with pytest.raises(KeyboardInterrupt):
            run_many(write_in_thread(write), runner)
        events.append("returned")
        time.sleep(0.4)
    assert events == ["written", "returned"]


def test_a_write_that_fails_says_so() -> None:
    def write(what: str) -> None:
        raise OSError(what)

    with pytest.raises(OSError, match="full"):
        run_many(write_in_thread(write, "full"))


@pytest.mark.parametrize(
    ("said", "is_bound"),
    [
        ("SQLite objects created in a thread can only be used in that same thread. The object was", True),
        (
            "(sqlite3.ProgrammingError) SQLite objects created in a thread can only be used in that same thread",
            True,
        ),
        ("cannot switch to a different thread (which happens to have exited)", True),
        ("There is no current event loop in thread 'Thread-1'.", True),
        ("signal only works in main thread of the main interpreter", True),
        ("Thread 12 not found", False),
        ("rejected execution on EsThreadPoolExecutor[search, active threads = 7]", False),
        ("can't start new thread", False),
    ],
)
def test_only_what_says_that_it_is_bound_to_a_thread_is(said: str, is_bound: bool) -> None:
    assert is_bound_to_thread(RuntimeError(said)) == is_bound


@pytest.mark.parametrize("limit_s", [1e10, float("inf")])
def test_a_limit_may_be_longer_than_threads_wait(limit_s: float) -> None:
    def work() -> str:
        time.sleep(0.05)
        return "done"

    assert finish_within(limit_s, work) == "done"
