"""Reproducible admission: what is sampled together depends on what is asked, not on when it arrives.

Rounding depends on the shape of a batch, and what an engine batches together on how fast each caller comes back with
its next request. So callers that are known beforehand, the rollouts of a batch, ask by a clock that counts tokens
instead of seconds: who was answered at one token is awaited, and joins, `TURNAROUND_TOKENS` later; whoever is back
before waits, and whoever is not yet back is waited for. Meanwhile the others are sampled. With the same weights and
seeds each pass then reads the same tokens in the same rows, in every run, and computes the same to the last bit.

It holds for callers that ask one thing at a time, on one device type, number of threads and version of torch.
"""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable
from contextvars import ContextVar, Token
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Generic, TypeVar

__all__ = ("TURNAROUND_TOKENS", "Lockstep", "Party", "current_party")

logger = logging.getLogger(__name__)

TURNAROUND_TOKENS = 4
"""Tokens from one's answer to one's next request: the time in which a search and the graph around it are done."""

_PATIENCE_S = 120.0
"""After which a caller that is due and does not come is taken to wait for something else, so nothing stands still."""

_current: ContextVar[Party | None] = ContextVar("masksearch_party", default=None)

_RequestT = TypeVar("_RequestT")


@dataclass(slots=True, eq=False)
class Party:
    """One caller. What is asked inside its context, in this task or those that it starts, is asked by it."""

    number: int
    lockstep: Lockstep[Any]
    tell: Callable[[Party], None]
    """Tells the engine that it has left."""
    has_left: bool = False
    _token: Token[Party | None] | None = None

    def __enter__(self) -> Party:
        self._token = _current.set(self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, failure: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._token is not None:
            _current.reset(self._token)
            self._token = None
        self.leave()

    def leave(self) -> None:
        """Ask nothing more."""
        if not self.has_left:
            self.has_left = True
            self.tell(self)


def current_party() -> Party | None:
    """Return who asks; None for callers that nobody counts on."""
    return _current.get()


@dataclass(slots=True, eq=False)
class Lockstep(Generic[_RequestT]):
    """The clock of some callers, and what they ask. All but the event belongs to the engine's thread."""

    awaited: dict[Party, int] = field(default_factory=dict)
    """Those who are to ask or leave, and when they are due."""
    asked: list[tuple[int, int, _RequestT]] = field(default_factory=list)
    """Requests that have not joined yet: when they are due, the caller's number, and what it asks."""
    sampled: int = 0
    """Requests that have joined and are not answered."""
    now: int = 0
    """Tokens since it began."""
    is_over: threading.Event = field(default_factory=threading.Event)

    @property
    def is_open(self) -> bool:
        """Whether somebody may still ask, or waits for an answer."""
        return bool(self.awaited or self.asked or self.sampled)

    @property
    def lacks(self) -> bool:
        """Whether somebody is due who has neither asked nor left."""
        return any(due <= self.now for due in self.awaited.values())

    def ask(self, party: Party, request: _RequestT) -> None:
        """Note a request."""
        # Who asks twice at a time is not awaited; the second request then joins when it comes.
        self.asked.append((self.awaited.pop(party, self.now), party.number, request))

    def end(self) -> None:
        """Await nobody any more."""
        self.awaited.clear()
        self.asked.clear()
        self.is_over.set()

    def skip(self) -> None:
        """Go on to when the next one is due, where nothing else is sampled until then."""
        self.now = max(self.now, min([due for due, _, _ in self.asked] + [*self.awaited.values()]))

    def due(self) -> list[_RequestT]:
        """Return what joins now, in an order that depends on nothing else."""
        joining = sorted((each for each in self.asked if each[0] <= self.now), key=lambda each: each[:2])
        self.asked = [each for each in self.asked if each[0] > self.now]
        self.sampled += len(joining)
        return [request for _, _, request in joining]

    def answer(self, party: Party) -> None:
        """Note that what somebody asked is answered, or was taken back."""
        self.sampled -= 1
        if not party.has_left:
            self.awaited[party] = self.now + TURNAROUND_TOKENS

    def wait(self, take: Callable[[float], None]) -> bool:
        """Take what arrives until nobody lacks who is due.

        Args:
            take: Takes one message of the engine's queue, waiting for it at most so many seconds.

        Returns:
            Whether all came; else it is over, and its callers are sampled as they come.
        """
        try:
            while self.lacks:
                take(_PATIENCE_S)
        except queue.Empty:
            logger.warning(
                "%d callers of the local engine did not ask for %.0f s; rollouts go on without them, and are not "
                "reproducible",
                len(self.awaited), _PATIENCE_S,
            )  # fmt: skip
            return False
        return True
