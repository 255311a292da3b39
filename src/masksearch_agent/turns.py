"""The records of model calls, and of the sequences to train on that are made of them; `records` hands them on."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from masksearch_agent.errors import TraceError
from masksearch_agent.record_base import Record

__all__ = ("Message", "Sampling", "TrainingRow", "Turn")


@dataclass(frozen=True, slots=True)
class Message(Record):
    """A chat message as stored in a trace."""

    role: Literal["system", "user", "assistant", "tool"]
    content: str


@dataclass(frozen=True, slots=True)
class Sampling(Record):
    """Effective sampling settings of one model call."""

    temperature: float = 0.0
    """0 means greedy."""
    top_p: float = 1.0
    max_tokens: int = 256
    """Limit on sampled tokens of the call."""
    stop: tuple[str, ...] = ()
    seed: int | None = None
    """Makes the sampled tokens depend on nothing but the context; None draws them anew each time."""


@dataclass(frozen=True, slots=True)
class Turn(Record):
    """One model call: the tokens it added to its parent's sequence, and the tokens it sampled.

    Concatenating `context_ids + sampled_ids` from the root to a turn gives exactly what the model saw and
    wrote. A turn of a model without token access has empty id tuples and keeps its text only.
    """

    id: str
    parent_id: str | None
    role: str
    """Who spoke: `policy`, `planner`, `rewriter`, `judge`, … Only `policy` turns train."""
    context: tuple[Message, ...]
    """Messages added since the parent turn's reply (system prompt, question, search results, repairs)."""
    text: str
    """The reply, decoded."""
    context_ids: tuple[int, ...] = ()
    sampled_ids: tuple[int, ...] = ()
    logprobs: tuple[float, ...] = ()
    """Natural-log probability of each sampled id under the unscaled (temperature 1) distribution."""
    finish_reason: Literal["stop", "length"] = "stop"
    """`length` where the call hit `max_tokens` before a stop string or the end-of-turn token."""
    model_version: str = ""
    sampling: Sampling | None = None
    forked_from: str | None = None
    """The turn that the call was to continue but could not, because its conversation had been rewritten or was recorded
    elsewhere; the turn then starts a sequence of its own. None where nothing was lost."""
    is_constrained: bool = False
    """Whether its answer was held to what the run was shown (`AgentSettings.answers_from_passages`): `logprobs` are
    those of the free distribution, which it was then not sampled from."""

    def __post_init__(self) -> None:
        Record.__post_init__(self)
        if len(self.logprobs) != len(self.sampled_ids):
            raise TraceError(
                f"turn {self.id!r} has {len(self.sampled_ids)} sampled ids but {len(self.logprobs)} log-probabilities"
            )
        if self.sampled_ids and not self.context_ids and self.parent_id is None:
            raise TraceError(f"turn {self.id!r} starts a sequence but records no prompt ids")

    @property
    def is_tokenised(self) -> bool:
        """Whether the turn carries the ids that the model sampled."""
        return bool(self.sampled_ids)


@dataclass(frozen=True, slots=True)
class TrainingRow(Record):
    """One sequence to train on, with the exact positions that carry a loss."""

    input_ids: tuple[int, ...]
    """`(T,)` token ids, prompt included."""
    trainable: tuple[bool, ...]
    """`(T,)` True where a policy token trains here."""
    logprobs: tuple[float, ...] | None
    """`(T,)` recorded log-probability at trainable positions, 0.0 elsewhere; None for rows whose text was not sampled
    from a model with token access (SFT on hindsight or API text)."""
    trajectory_id: str
    is_truncated: bool = False
    """Whether the last policy turn was cut by a token limit."""
    is_constrained: bool = False
    """Whether a turn that trains here was; RL leaves the row out."""

    def __post_init__(self) -> None:
        row = f"row of trajectory {self.trajectory_id!r}"
        logprobs = self.trainable if self.logprobs is None else self.logprobs
        if not len(self.input_ids) == len(self.trainable) == len(logprobs):
            raise TraceError(
                f"{row}: ids, mask and log-probabilities differ in length ({len(self.input_ids)}, "
                f"{len(self.trainable)}, {'none' if self.logprobs is None else len(self.logprobs)})"
            )
        if not any(self.trainable):
            raise TraceError(f"{row} has no trainable position")
        for position, (is_trainable, value) in enumerate(zip(self.trainable, logprobs, strict=True)):
            if is_trainable and not math.isfinite(value):
                raise TraceError(f"{row}: log-probability at trainable position {position} is {value}")

    @property
    def prompt_length(self) -> int:
        """Tokens before the first trainable position."""
        return self.trainable.index(True)

    @property
    def trainable_count(self) -> int:
        """Number of trainable positions."""
        return sum(self.trainable)
