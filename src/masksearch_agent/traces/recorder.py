"""What the model calls of a graph run leave behind: a tree of turns, each holding only the tokens it added.

A recording chat model writes every call here. The graph's state carries messages and turn ids only; the
recorder reaches the model through the run context, and each call says its role and its parent turn explicitly.
Concatenating a root-to-turn path gives exactly what the model saw and wrote.
"""

from __future__ import annotations

import logging
import secrets
import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from masksearch_agent.errors import TraceError
from masksearch_agent.records import Message, Sampling, Turn

__all__ = ("CallRecording", "Recorder", "RecordingModel", "conversation_of", "new_turn_id", "path_to")

logger = logging.getLogger(__name__)


def new_turn_id() -> str:
    """Return an id that no other turn has, in this process or another."""
    return secrets.token_hex(8)


def path_to(turn: Turn, turns: Mapping[str, Turn]) -> list[Turn]:
    """Return the turns from the root to a turn, out of all turns by their ids.

    Raises:
        TraceError: A parent is missing, or damaged ids form a circle.
    """
    path = [turn]
    while (parent_id := path[-1].parent_id) is not None:
        if parent_id not in turns or len(path) == len(turns):
            raise TraceError(f"turn {path[-1].id!r} names a parent that is missing: turn {parent_id!r}")
        path.append(turns[parent_id])
    return path[::-1]


def conversation_of(path: Iterable[Turn]) -> list[Message]:
    """Return all messages of a path of turns, the replies included."""
    return [message for turn in path for message in (*turn.context, Message("assistant", turn.text))]


class Recorder:
    """Collects the turns of one graph run; safe to share between threads and concurrent nodes.

    Args:
        turns: What the run recorded before, for one that is resumed from a checkpoint by another process.
        overview: A recorder of several runs that is to hold the turns of this one too. Nothing of it is seen here.
    """

    def __init__(self, turns: Iterable[Turn] = (), overview: Recorder | None = None) -> None:
        self._turns: dict[str, Turn] = {}
        self._lock = threading.Lock()
        self._overview = overview
        for turn in turns:
            self._insert(turn)

    def add(self, turn: Turn) -> None:
        """Add a finished turn; a fork is logged.

        Raises:
            TraceError: Its id is taken, or its parent was never recorded here.
        """
        self._insert(turn)
        if turn.forked_from is not None:
            is_known = turn.forked_from in self._turns
            why = "whose conversation was rewritten" if is_known else "which is not recorded here"
            message = "turn %s (%s) cannot continue turn %s, %s; it starts a sequence of its own"
            logger.info(message, turn.id, turn.role, turn.forked_from, why)

    def _insert(self, turn: Turn) -> None:
        with self._lock:
            if turn.id in self._turns:
                raise TraceError(f"turn {turn.id!r} is recorded already; every call needs an id of its own")
            if turn.parent_id is not None and turn.parent_id not in self._turns:
                raise TraceError(
                    f"turn {turn.id!r} names the parent {turn.parent_id!r}, which this recorder never saw; "
                    f"use one recorder for the whole run"
                )
            if self._overview is not None:
                self._overview._insert(turn)
            self._turns[turn.id] = turn

    @property
    def turns(self) -> tuple[Turn, ...]:
        """All turns in the order in which they finished."""
        with self._lock:
            return tuple(self._turns.values())

    def __contains__(self, turn_id: object) -> bool:
        return turn_id in self._turns

    def path(self, turn_id: str) -> list[Turn]:
        """Return the turns from the root to a turn."""
        return path_to(self._turns[turn_id], self._turns)

    def ids(self, turn_id: str) -> list[int]:
        """Return the exact token sequence up to and including a turn's reply."""
        return [token for turn in self.path(turn_id) for token in (*turn.context_ids, *turn.sampled_ids)]

    def messages(self, turn_id: str) -> list[Message]:
        """Return the conversation up to and including a turn's reply."""
        return conversation_of(self.path(turn_id))

    def split_known(self, parent_id: str | None, conversation: Sequence[Message]) -> tuple[str | None, int]:
        """Return the parent that a conversation can extend, and how many of its leading messages that one covers.

        `(None, 0)` where the parent is unknown or said something else: the conversation then starts a sequence of its
        own (a fork).
        """
        if parent_id is not None and parent_id in self._turns:
            known = self.messages(parent_id)
            if list(conversation[: len(known)]) == known:
                return parent_id, len(known)
        return None, 0


@dataclass(frozen=True, slots=True)
class CallRecording:
    """How one model call is to be recorded; passed to a recording model as the keyword `recording`."""

    recorder: Recorder
    role: str
    """`policy` for turns that train; anything else is kept as context."""
    parent_id: str | None
    """The turn whose conversation this call continues; None starts a new one."""
    sampling: Sampling | None = None
    """Overrides of the model's own sampling settings."""


@runtime_checkable
class RecordingModel(Protocol):
    """A chat model that records exact tokens when it is called with `recording=CallRecording(...)`."""

    is_recording_model: bool
    model_version: str

    async def ainvoke(self, input: Any, config: Any = None, **kwargs: Any) -> Any:
        """Call the model."""
