"""What calls to chat models cost, for one trajectory and for a whole run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from masksearch_agent.records import Turn, Usage

__all__ = ("CallLog", "Spending", "read_usage")

_CHARS_PER_TOKEN = 4


@dataclass
class CallLog:
    """The calls of one piece of work, such as a trajectory, in the order in which they finished."""

    turns: list[Turn] = field(default_factory=list)
    usage: Usage = field(default_factory=Usage)


@dataclass
class Spending:
    """What all calls of a process cost, by role; also those whose work was given up."""

    by_role: dict[str, Usage] = field(default_factory=dict)

    def add(self, role: str, usage: Usage) -> None:
        """Count a call."""
        self.by_role[role] = self.by_role.get(role, Usage()) + usage

    @property
    def total(self) -> Usage:
        """The sum over all roles."""
        return sum(self.by_role.values(), Usage())


def read_usage(message: Any, prompt_chars: int, seconds: float, prices_usd: tuple[float, float]) -> Usage:
    """Return what one call cost; where its reply reports no usage, a token is taken as four characters.

    Args:
        message: The reply.
        prompt_chars: Characters that were sent.
        seconds: Wall time.
        prices_usd: Of a million prompt tokens and of a million sampled tokens.
    """
    reported: Mapping[str, int] = getattr(message, "usage_metadata", None) or {}
    prompt_tokens = reported.get("input_tokens", prompt_chars // _CHARS_PER_TOKEN)
    sampled_tokens = reported.get("output_tokens", len(str(message.text)) // _CHARS_PER_TOKEN)
    cost_usd = (prompt_tokens * prices_usd[0] + sampled_tokens * prices_usd[1]) / 1e6
    return Usage(1, prompt_tokens, sampled_tokens, 0, seconds, cost_usd)
