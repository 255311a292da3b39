"""Turn concurrent calls into few large ones.

A hundred rollouts that search at the same time each bring one query, and embedding them one by one costs
several times what embedding them together does. Whatever arrives while a call is running waits and goes
into the next call, so nobody waits for a timer and a lone caller loses nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from threading import Lock
from typing import Generic, TypeVar

__all__ = ("CallMerger",)

_InT = TypeVar("_InT")
_OutT = TypeVar("_OutT")


class CallMerger(Generic[_InT, _OutT]):
    """Runs a function of a list, which returns one result per item, in one thread over all items that wait for it."""

    def __init__(self, function: Callable[[list[_InT]], Sequence[_OutT]]) -> None:
        self._function = function
        self._waiting: list[tuple[list[_InT], Future[list[_OutT]]]] = []
        self._lock = Lock()
        self._worker = ThreadPoolExecutor(max_workers=1, thread_name_prefix="merged-calls")

    def submit(self, items: Sequence[_InT]) -> Future[list[_OutT]]:
        """Return a future of the results for `items`."""
        future: Future[list[_OutT]] = Future()
        with self._lock:
            self._waiting.append((list(items), future))
        self._worker.submit(self._run)
        return future

    def _run(self) -> None:
        with self._lock:
            calls, self._waiting = self._waiting, []
        calls = [call for call in calls if call[1].set_running_or_notify_cancel()]
        if not calls:  # An earlier run took them along, or nobody waits any more.
            return
        try:
            results = self._function([item for items, _ in calls for item in items])
        except Exception as failure:  # noqa: BLE001 - raised again where the caller waits
            for _, future in calls:
                future.set_exception(failure)
            return
        rest = iter(results)
        for items, future in calls:
            future.set_result(list(islice(rest, len(items))))
