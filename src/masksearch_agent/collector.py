"""Python's cyclic garbage collector while many graph runs are in flight.

The collector runs when a few hundred more objects were made than freed, and thousands of runs hold a few thousand
living objects each: it then scans them over and over and finds nothing, because a finished run leaves no cycles. At a
thousand concurrent runs that takes half of the time (`benchmarks/graph_concurrency.py`).
"""

from __future__ import annotations

import gc
import threading
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ("relaxed_collector",)

_THRESHOLDS = (1_000_000, 50, 50)
"""Of `gc.set_threshold`. Garbage that is in cycles is still found: at the latest when there are this many objects of
it, a few hundred megabytes. A thousand runs in flight hold more than 200,000 living objects, too many for a threshold
of as many."""

_lock = threading.Lock()
_users = 0
_thresholds_before = (0, 0, 0)


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
            # A first threshold of 0 means never.
            if 0 < _thresholds_before[0] < _THRESHOLDS[0]:
                gc.set_threshold(*_THRESHOLDS)
    try:
        yield
    finally:
        with _lock:
            _users -= 1
            if _users == 0:
                gc.set_threshold(*_thresholds_before)
