"""What surrounds a node that calls a model or a search: its seconds count, and what it calls sees its caller's context.

The limit on a run's time is one on the seconds that its nodes work, which the state adds up: what passes while a person
is waited for, or until somebody resumes the run, is none of them.
"""

from __future__ import annotations

import inspect
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import wraps
from typing import Any, TypeVar

from masksearch_agent.agent.context import as_caller

__all__ = ("working",)

_NodeT = TypeVar("_NodeT", bound=Callable[..., Any])


def working(node: _NodeT) -> _NodeT:
    """Return a node, sync or async, that adds the seconds it takes to those of its run."""

    @wraps(node)
    def work(self: Any, state: Mapping[str, Any], *args: Any, **kwargs: Any) -> dict[str, Any]:
        with _measured(state) as worked:
            update = node(self, state, *args, **kwargs)
        return {**update, **worked}

    @wraps(node)
    async def awork(self: Any, state: Mapping[str, Any], *args: Any, **kwargs: Any) -> dict[str, Any]:
        with _measured(state) as worked:
            update = await node(self, state, *args, **kwargs)
        return {**update, **worked}

    return awork if inspect.iscoroutinefunction(node) else work  # type: ignore[return-value]


@contextmanager
def _measured(state: Mapping[str, Any]) -> Iterator[dict[str, float]]:
    """Give the update that, once the work is done, says how long the run has worked."""
    started_s, worked = time.monotonic(), dict[str, float]()
    with as_caller():
        yield worked
    worked["worked_s"] = state.get("worked_s", 0.0) + time.monotonic() - started_s
