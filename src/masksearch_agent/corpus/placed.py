"""What every reader of many things yields: where something stands, and how to get it.

So a row, a page or a document that cannot be read costs itself and not what follows it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NoReturn, TypeVar

__all__ = ("Placed", "failing", "given")

_ValueT = TypeVar("_ValueT")

Placed = tuple[str, Callable[[], _ValueT]]
"""Where it stands (`line 7`), and a function that returns it or raises why it cannot be read."""


def given(value: _ValueT) -> Callable[[], _ValueT]:
    """Return a function that returns a value."""
    return lambda: value


def failing(failure: Exception) -> Callable[[], NoReturn]:
    """Return a function that raises a failure."""

    def fail() -> NoReturn:
        raise failure

    return fail
