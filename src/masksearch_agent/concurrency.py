"""Many pieces of asynchronous work at once: how many, and on what.

A graph run is a few hundred callbacks of the event loop, and `run_many` runs them on uvloop where that is installed.
It relaxes the garbage collector too: that runs when a few hundred more objects were made than freed, and each of many
runs holds a few thousand, so it scans them over and over and finds nothing, because a finished run leaves no cycles. At
a thousand concurrent runs that takes half of the time (`benchmarks/graph_concurrency.py` measures both).
"""

from __future__ import annotations

import asyncio
import contextvars
import gc
import importlib.util
import threading
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager, nullcontext
from typing import Any, TypeVar

from masksearch_agent.errors import OutOfTimeError

__all__ = (
    "afinish_within",
    "finish_in_thread",
    "finish_within",
    "gather_bounded",
    "is_bound_to_thread",
    "open_runner",
    "relaxed_collector",
    "run_many",
    "write_in_thread",
)

_ItemT = TypeVar("_ItemT")
_ResultT = TypeVar("_ResultT")

_THRESHOLDS = (1_000_000, 50, 50)
"""Of `gc.set_threshold`. Garbage that is in cycles is still found: at the latest when there are this many objects of
it, a few hundred megabytes. A thousand runs in flight hold more than 200,000 living objects, too many for a threshold
of as many."""

_BOUND_TO_THREAD = (
    "can only be used in that same thread",  # sqlite3
    "cannot switch to a different thread",  # greenlet
    "no current event loop in thread",  # asyncio
    "signal only works in main thread",
    "main thread is not in main loop",  # tkinter
)
"""What libraries say, in small letters, that were used in another thread than their own."""

_lock = threading.Lock()
_users = 0
_thresholds_before = (0, 0, 0)


async def gather_bounded(
    work: Callable[[_ItemT], Awaitable[_ResultT]], items: Iterable[_ItemT], limit: int
) -> list[_ResultT]:
    """Do something with every item and return the results in the order of the items.

    The items are read at once, and at most `limit` are worked on at a time. The first failure is raised as it is, and
    cancels what is still under way: nothing is left behind.
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


async def write_in_thread(write: Callable[..., _ResultT], *arguments: Any) -> _ResultT:
    """Run a function in a thread; who is cancelled meanwhile waits for its end, and nothing is written after that."""
    work = asyncio.create_task(asyncio.to_thread(write, *arguments))
    try:
        return await asyncio.shield(work)
    except asyncio.CancelledError:
        await asyncio.wait([work])
        raise


def open_runner() -> asyncio.Runner:
    """Return a runner on a fast event loop: uvloop's, or Python's own where it is not installed (on Windows, say)."""
    if importlib.util.find_spec("uvloop") is None:
        return asyncio.Runner()
    import uvloop

    return asyncio.Runner(loop_factory=uvloop.new_event_loop)


def run_many(work: Coroutine[Any, Any, _ResultT], runner: asyncio.Runner | None = None) -> _ResultT:
    """Run a coroutine that keeps many graph runs in flight: on a runner that is used again, or one of its own."""
    with relaxed_collector(), nullcontext(runner) if runner else open_runner() as used:
        return used.run(work)


@contextmanager
def relaxed_collector() -> Iterator[None]:
    """Let the garbage collector run less often; what it was set to comes back, after errors too.

    The setting is the process's. Where several threads are in the context at once, the last one to leave restores it.
    A collector that was switched off, or set to run less often than this, stays so.
    """
    global _users, _thresholds_before
    with _lock:
        _users += 1
        if _users == 1:
            _thresholds_before = gc.get_threshold()
            if 0 < _thresholds_before[0] < _THRESHOLDS[0]:  # 0 means never
                gc.set_threshold(*_THRESHOLDS)
    try:
        yield
    finally:
        with _lock:
            _users -= 1
            if _users == 0:
                gc.set_threshold(*_thresholds_before)


def finish_within(limit_s: float, work: Callable[[], _ResultT]) -> _ResultT:
    """Return what a function returns, which runs in a thread and in the caller's context.

    Raises:
        OutOfTimeError: It took longer. The thread is left behind, and does not keep the process alive.
    """
    future: Future[_ResultT] = Future()
    context = contextvars.copy_context()

    def run() -> None:
        try:
            future.set_result(context.run(work))
        except BaseException as failure:  # noqa: BLE001 (raised again by the waiting thread)
            future.set_exception(failure)

    threading.Thread(target=run, daemon=True).start()
    wait([future], min(max(0.0, limit_s), threading.TIMEOUT_MAX))
    if not future.done():
        raise OutOfTimeError(f"no result came within {limit_s:.1f} s")
    return future.result()


async def afinish_within(limit_s: float, work: Awaitable[_ResultT]) -> _ResultT:
    """Return what an awaitable returns.

    Raises:
        OutOfTimeError: It took longer, and was cancelled.
    """
    try:
        async with asyncio.timeout(max(0.0, limit_s)) as limit:
            return await work
    except TimeoutError as failure:
        if not limit.expired():
            raise
        raise OutOfTimeError(f"no result came within {limit_s:.1f} s") from failure


def finish_in_thread(work: Callable[[], Coroutine[Any, Any, _ResultT]]) -> _ResultT:
    """Return what a coroutine returns, from sync code that an event loop may have called.

    It runs in an event loop and a thread of its own, and in the caller's context.
    """
    context = contextvars.copy_context()
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(context.run, asyncio.run, work()).result()


def is_bound_to_thread(failure: Exception) -> bool:
    """Whether something failed because it was used in another thread than its own.

    So do connections of SQLite, which only the thread may use that opened them, greenlets, and what asks for the
    event loop of a thread that has none. There is no type that they share, and libraries wrap them: what each of them
    says tells them.
    """
    return any(said in str(failure).lower() for said in _BOUND_TO_THREAD)
