"""Many pieces of asynchronous work, a bounded number at once."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import TypeVar

__all__ = ("gather_bounded",)

_ItemT = TypeVar("_ItemT")
_ResultT = TypeVar("_ResultT")


async def gather_bounded(
    work: Callable[[_ItemT], Awaitable[_ResultT]], items: Iterable[_ItemT], limit: int
) -> list[_ResultT]:
    """Do something with every item and return the results in the order of the items.

    The first failure is raised as it is, and cancels what is still under way: nothing is left behind.

    Args:
        work: Done with each item.
        items: What to work on; read at once.
        limit: Pieces of work under way at once.
    """
    slots = asyncio.Semaphore(limit)

    async def do(item: _ItemT) -> _ResultT:
        async with slots:
            return await work(item)

    try:
        async with asyncio.TaskGroup() as group:
            running = [group.create_task(do(item)) for item in items]
    except BaseExceptionGroup as failures:
        raise failures.exceptions[0] from None
    return [done.result() for done in running]
