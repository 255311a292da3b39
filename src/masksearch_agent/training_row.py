"""A sequence to train on; one of the `records`, which hand it on."""

from __future__ import annotations

import math
from dataclasses import dataclass

from masksearch_agent.errors import TraceError
from masksearch_agent.record_base import Record

__all__ = ("TrainingRow",)


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
