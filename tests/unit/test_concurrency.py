from __future__ import annotations

import asyncio

import pytest

from masksearch_agent.concurrency import gather_bounded


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
