from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import Iterator

import pytest

from masksearch_agent.concurrency import relaxed_collector


def collected() -> int:
    return sum(generation["collected"] for generation in gc.get_stats())


@pytest.fixture(autouse=True)
def thresholds() -> Iterator[tuple[int, int, int]]:
    """Set thresholds that nothing else uses, and put back what was there."""
    before = gc.get_threshold()
    gc.set_threshold(701, 11, 12)
    yield 701, 11, 12
    gc.set_threshold(*before)


def test_the_collector_runs_less_often_inside_and_as_before_after(thresholds: tuple[int, int, int]) -> None:
    with relaxed_collector():
        assert gc.get_threshold()[0] > 100_000
        assert gc.isenabled()
    assert gc.get_threshold() == thresholds


def test_an_error_inside_restores_the_collector(thresholds: tuple[int, int, int]) -> None:
    with pytest.raises(KeyError), relaxed_collector():
        raise KeyError
    assert gc.get_threshold() == thresholds


def test_a_cancelled_run_restores_the_collector(thresholds: tuple[int, int, int]) -> None:
    async def work() -> None:
        with relaxed_collector():
            await asyncio.sleep(60)

    async def cancel() -> None:
        task = asyncio.create_task(work())
        await asyncio.sleep(0)
        assert gc.get_threshold() != thresholds
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    asyncio.run(cancel())
    assert gc.get_threshold() == thresholds


def test_the_last_of_several_threads_restores_the_collector(thresholds: tuple[int, int, int]) -> None:
    entered, may_leave = threading.Event(), threading.Event()

    def work() -> None:
        with relaxed_collector():
            entered.set()
            may_leave.wait(60)

    thread = threading.Thread(target=work)
    with relaxed_collector():
        thread.start()
        assert entered.wait(60)
        inside = gc.get_threshold()
    assert gc.get_threshold() == inside != thresholds
    may_leave.set()
    thread.join()
    assert gc.get_threshold() == thresholds


@pytest.mark.parametrize("rarer", [(0, 10, 10), (2_000_000, 5, 5)])
def test_a_collector_that_runs_less_often_already_is_left_alone(rarer: tuple[int, int, int]) -> None:
    gc.set_threshold(*rarer)
    with relaxed_collector():
        assert gc.get_threshold() == rarer
    assert gc.get_threshold() == rarer


def test_garbage_in_cycles_is_still_collected_inside() -> None:
    class Node:
        def __init__(self) -> None:
            self.itself = self

    with relaxed_collector():
        before = collected()
        for _ in range(2_250_000):
            Node()
        assert collected() - before >= 1_500_000
