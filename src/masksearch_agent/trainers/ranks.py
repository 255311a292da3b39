"""The processes that share a training batch, and how they share it."""

from __future__ import annotations

import atexit
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

__all__ = ("Ranks", "leave_group_at_exit", "share_evenly")

ItemT = TypeVar("ItemT")


@dataclass(frozen=True, slots=True)
class Ranks:
    """The processes of a run, as one of them sees them."""

    index: int
    """Number of this process, from 0."""
    count: int
    gather: Callable[[list[Any]], list[Any]]
    """Returns the lists of all processes in order as one, the same on each; every process has to call it."""


def share_evenly(items: Sequence[ItemT], ranks: Ranks) -> tuple[list[ItemT], int]:
    """Move items from ranks that have more than their share to those that have fewer.

    Returns:
        The items of this rank, and the share, which no rank exceeds.
    """
    counts = ranks.gather([len(items)])
    share = -(-sum(counts) // ranks.count)
    spare = ranks.gather(list(items[share:]))
    taken_before = sum(max(0, share - count) for count in counts[: ranks.index])
    missing = max(0, share - len(items))
    return [*items[:share], *spare[taken_before : taken_before + missing]], share


def leave_group_at_exit() -> None:
    """Close torch's process group, if there is one, before the interpreter ends.

    Nobody else does, and threads of a group that is still open can abort a process whose training is long done: it then
    ends with an error, and whoever launched it takes the run for failed.
    """
    # Registered once, however many trainers a process makes.
    atexit.unregister(_leave_group)
    atexit.register(_leave_group)


def _leave_group() -> None:
    import torch

    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
