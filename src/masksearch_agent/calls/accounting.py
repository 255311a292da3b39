"""What calls to chat models cost, for one trajectory and for a whole run."""

from __future__ import annotations

from dataclasses import dataclass, field

from masksearch_agent.records import Turn, Usage

__all__ = ("CallLog", "Spending")


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
