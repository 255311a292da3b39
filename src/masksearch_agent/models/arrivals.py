"""What was asked of an engine and has not joined its batch yet: in the order in which it came, or in lockstep."""

from __future__ import annotations

import queue
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeAlias

from masksearch_agent.models.answer_spans import AnswerSpans
from masksearch_agent.models.heard import TokenListener
from masksearch_agent.models.lockstep import Party
from masksearch_agent.models.recording import Completion
from masksearch_agent.records import Sampling

if TYPE_CHECKING:
    from masksearch_agent.models.engine import BatchingEngine

__all__ = ("Arrivals", "Exchange", "Message", "Request")


@dataclass(frozen=True, slots=True)
class Request:
    """What was asked for."""

    prompt_ids: tuple[int, ...]
    sampling: Sampling
    future: Future[Completion]
    answers: AnswerSpans | None
    party: Party | None
    """Who asks, where that is one of several who are sampled in lockstep."""
    hear: TokenListener | None = None
    """Told each token; None where nobody listens."""
    version: Callable[[], str] = str
    """Says what the weights are called."""


@dataclass(frozen=True, slots=True, eq=False)
class Exchange:
    """A change of the weights, which another thread makes while nothing is sampled."""

    may_begin: threading.Event = field(default_factory=threading.Event)
    is_over: threading.Event = field(default_factory=threading.Event)


Message: TypeAlias = Request | Party | Exchange | None
"""What an engine's queue holds: a party has left; None: close."""


class Arrivals:
    """The engine's queue, as a batch takes from it."""

    def __init__(self, engine: BatchingEngine, first: Request | Party | Exchange) -> None:
        self.engine = engine
        self.waiting = deque[Request]()
        """Those that join as soon as there is room."""
        self.exchanges: list[Exchange] = []
        """Those that wait until nothing is sampled; until they are over, nobody joins."""
        self.is_closing = False
        """Whether the engine is to stop."""
        self._take(first)

    @property
    def is_open(self) -> bool:
        """Whether there is somebody to sample for, or will be."""
        lockstep = self.engine.lockstep
        return bool(self.waiting or self.exchanges) or (lockstep is not None and lockstep.is_open)

    def collect(self, linger_s: float) -> None:
        """Take what has arrived; wait up to `linger_s` for each further request while there is room."""
        while len(self.waiting) < self.engine.max_batch_size and not self.is_closing:
            try:
                self._take_next(linger_s)
            except queue.Empty:
                return

    def join_in_lockstep(self, is_idle: bool) -> None:
        """Let those wait no longer whose time has come, once all of them are there; idle: nothing is sampled now."""
        if (lockstep := self.engine.lockstep) is None:
            return
        if is_idle and not self.waiting and lockstep.is_open:
            lockstep.skip()
        if lockstep.wait(self._take_next):
            self.waiting += lockstep.due()
        else:
            self.disband()

    def exchange_weights(self) -> None:
        """Let those change the weights who asked to, one after the other; nothing may be sampled now."""
        for exchange in self.exchanges:
            exchange.may_begin.set()
            exchange.is_over.wait()
        self.exchanges.clear()

    def count_token(self) -> None:
        """Note that each row was sampled a token."""
        if self.engine.lockstep is not None:
            self.engine.lockstep.now += 1

    def note_answered(self, request: Request) -> None:
        """Note that a request left the batch."""
        if request.party is not None and request.party.lockstep is self.engine.lockstep:
            request.party.lockstep.answer(request.party)

    def end_lockstep(self) -> None:
        """Let go of a lockstep in which nobody is left; one may have begun meanwhile, which goes on."""
        if self.engine.lockstep is not None and not self.engine.lockstep.is_open:
            self.disband()

    def disband(self) -> None:
        """Go on without lockstep: it is over, or somebody did not keep to it."""
        if (lockstep := self.engine.lockstep) is not None:
            self.engine.lockstep = None
            self.waiting += [request for _, _, request in lockstep.asked]
            lockstep.end()

    def _take_next(self, timeout_s: float) -> None:
        """Take one message; raise `queue.Empty` where none comes in that time, in seconds."""
        self._take(self.engine.requests.get(block=timeout_s > 0, timeout=timeout_s))

    def _take(self, message: Message) -> None:
        if message is None:
            self.is_closing = True
            self.disband()
        elif isinstance(message, Exchange):
            self.exchanges.append(message)
        elif isinstance(message, Party):
            message.lockstep.awaited.pop(message, None)
        elif message.party is not None and message.party.lockstep is self.engine.lockstep:
            message.party.lockstep.ask(message.party, message)
        else:
            self.waiting.append(message)
