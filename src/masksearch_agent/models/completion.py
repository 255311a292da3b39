"""What a sampler returns for one request, wherever it runs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = ("Completion",)


@dataclass(frozen=True, slots=True)
class Completion:
    """What was sampled for one request."""

    ids: tuple[int, ...]
    """Everything that was sampled, the end-of-turn token and the tokens of a stop string included."""
    logprobs: tuple[float, ...]
    """Natural-log probability of each id under the unscaled (temperature 1) distribution."""
    finish_reason: Literal["stop", "length"]
    """`stop` at the end-of-turn token or a stop string, `length` at the token limit."""
