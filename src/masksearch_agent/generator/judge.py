"""Who decides what may train: a trajectory that is well formed, right, and grounded in what it retrieved."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import chain

from masksearch_agent.agent.protocol import FormatError, parse_step
from masksearch_agent.generator.evidence import holds_evidence
from masksearch_agent.generator.roles import CallLog, Verdict
from masksearch_agent.judging.judge import ModelJudge
from masksearch_agent.records import SearchTask, Trajectory
from masksearch_agent.text.matching import answer_exact, contains_phrase
from masksearch_agent.traces.rows import POLICY_ROLE

__all__ = ("GroundedJudge", "RuleJudge", "is_grounded")

_VERDICTS = {
    "right": Verdict(True, "accepted"),
    "wrong": Verdict(False, "model judge: wrong answer"),
    "ungrounded": Verdict(False, "model judge: answer not in the retrieved passages"),
}


@dataclass(frozen=True)
class RuleJudge:
    """Checks format, correctness and grounding, in this order, and names the first that fails."""

    max_queries: int

    async def judge(self, task: SearchTask, trajectory: Trajectory, log: CallLog | None = None) -> Verdict:
        """Return the verdict."""
        if not (form := self.check_form(trajectory)).is_accepted:
            return form
        if answer_exact(task, trajectory.answer) < 1.0:
            return Verdict(False, "wrong answer")
        if not is_grounded(task, trajectory):
            return Verdict(False, "answer not in the retrieved passages")
        return Verdict(True, "accepted")

    def check_form(self, trajectory: Trajectory) -> Verdict:
        """Accept what is well formed and has an answer."""
        for turn in trajectory.turns:
            step = parse_step(turn.text, self.max_queries) if turn.role == POLICY_ROLE else None
            if isinstance(step, FormatError):
                return Verdict(False, f"malformed step: {step.kind}")
        return Verdict(True, "accepted") if trajectory.answer else Verdict(False, "no answer")


@dataclass(frozen=True)
class GroundedJudge:
    """The model judge, after or instead of the rules for correctness and grounding.

    The form of the steps is always checked by rule.
    """

    model: ModelJudge
    rules: RuleJudge
    are_rules_asked: bool = False
    """Whether the rule judge must accept the trajectory as well."""

    async def judge(self, task: SearchTask, trajectory: Trajectory, log: CallLog | None = None) -> Verdict:
        """Return the verdict; the reason in words is in the judge's turn."""
        rules = self.rules
        ruled = await rules.judge(task, trajectory) if self.are_rules_asked else rules.check_form(trajectory)
        if not ruled.is_accepted:
            return ruled
        passages, turn_id = list(chain.from_iterable(trajectory.retrieved)), f"{len(trajectory.turns)}.judge"
        said = await self.model.judge(task, trajectory.answer, passages=passages, log=log, turn_id=turn_id)
        return _VERDICTS[said.verdict]


def is_grounded(task: SearchTask, trajectory: Trajectory) -> bool:
    """Return whether every fact behind the answer stands in a passage that the trajectory retrieved.

    That is so where all known evidence was retrieved, with the facts that it tells. Else, where the hops are known,
    each hop's answer must stand in a passage (what follows from them, as a count, need not); otherwise one alias of
    every expected answer must.
    """
    if task.evidence and holds_evidence(task, list(chain.from_iterable(trajectory.retrieved))):
        return True
    texts = [f"{passage.title}: {passage.text}" for passage in chain.from_iterable(trajectory.retrieved)]
    expected: list[tuple[str, ...]] = [(hop.answer,) for hop in task.hops] or list(task.answers)
    return all(
        any(contains_phrase(text, alias) for text in texts for alias in aliases) for aliases in expected
    )
