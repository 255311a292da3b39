"""The roles of the generator and what passes between them.

Any object with these methods can play the teacher; `generator.hindsight` is one that needs no language model.
Each role sees the task and what was found so far, and nothing else.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from masksearch_agent.agent.protocol import render_fills
from masksearch_agent.calls.accounting import CallLog
from masksearch_agent.config.agent import AnswerForm
from masksearch_agent.records import Passage, SearchTask, Trajectory

__all__ = ("CallLog", "Findings", "Judge", "Observation", "Plan", "Teacher", "Verdict", "render_answer")


@dataclass(frozen=True, slots=True)
class Findings:
    """What is known in the middle of a trajectory."""

    task: SearchTask
    queries: tuple[tuple[str, ...], ...] = ()
    """The queries of each round so far."""
    passages: tuple[tuple[Passage, ...], ...] = ()
    """The passages shown in each round so far."""
    log: CallLog = field(default_factory=CallLog, compare=False)
    """Where a role that calls a model writes its calls; their ids begin with the number of rounds so far and a dot."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What the next round looks for."""

    text: str
    """What the policy is to think about it."""
    needs: tuple[str, ...]
    """What is sought, one entry each, for the rewriter to turn into queries. Empty gives the task up."""


@dataclass(frozen=True, slots=True)
class Observation:
    """What the last round's passages say."""

    text: str
    answer: str | None
    """The answer, once the passages of the trajectory support it."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a trajectory may be trained on."""

    is_accepted: bool
    reason: str


class Teacher(Protocol):
    """Plans, rewrites and observes.

    A method may raise `ReplyError` where a model's reply cannot be used: the trajectory is then rejected with that
    reason.
    """

    @property
    def name(self) -> str:
        """Names it in trajectories and their ids."""

    async def plan(self, findings: Findings) -> Plan:
        """Say what to look for next."""

    async def rewrite(self, findings: Findings, plan: Plan) -> tuple[str, ...]:
        """Turn a plan into search queries."""

    async def observe(self, findings: Findings) -> Observation:
        """Read the passages of the last round."""


class Judge(Protocol):
    """Accepts or rejects finished trajectories."""

    async def judge(self, task: SearchTask, trajectory: Trajectory, log: CallLog | None = None) -> Verdict:
        """Return the verdict with its reason; a judge that calls a model writes its calls to the log."""


def render_answer(task: SearchTask, fills: Sequence[str], answer_form: AnswerForm) -> str:
    """Return the answer to a question, or the texts for the masks of a RAMP task, as the agent gives it."""
    return render_fills(task.question, fills, "bare_fills" if task.kind == "qa" else answer_form)
