"""The rule judge: a trajectory may train where it is well formed, right, and grounded in what it retrieved."""

from __future__ import annotations

from masksearch_agent.agent.protocol import FormatError, parse_step
from masksearch_agent.generator.roles import CallLog, Verdict
from masksearch_agent.records import SearchTask, Trajectory
from masksearch_agent.text.matching import answer_exact, contains_phrase
from masksearch_agent.traces.rows import POLICY_ROLE

__all__ = ("RuleJudge", "is_grounded")


class RuleJudge:
    """Checks format, correctness and grounding, in this order, and names the first that fails."""

    def __init__(self, max_queries: int) -> None:
        self.max_queries = max_queries

    async def judge(self, task: SearchTask, trajectory: Trajectory, log: CallLog | None = None) -> Verdict:
        """Return the verdict."""
        form = self.check_form(trajectory)
        if not form.is_accepted:
            return form
        if answer_exact(task, trajectory.answer) < 1.0:
            return Verdict(False, "wrong answer")
        if not is_grounded(task, trajectory):
            return Verdict(False, "answer not in the retrieved passages")
        return Verdict(True, "accepted")

    def check_form(self, trajectory: Trajectory) -> Verdict:
        """Accept what is well formed and has an answer."""
        for turn in trajectory.turns:
            if turn.role != POLICY_ROLE:
                continue
            step = parse_step(turn.text, self.max_queries)
            if isinstance(step, FormatError):
                return Verdict(False, f"malformed step: {step.kind}")
        return Verdict(True, "accepted") if trajectory.answer else Verdict(False, "no answer")


def is_grounded(task: SearchTask, trajectory: Trajectory) -> bool:
    """Return whether every fact behind the answer stands in a passage that the trajectory retrieved.

    Where the hops are known each hop's answer must stand in a passage (the answer of a comparison or a count
    follows from them); otherwise one alias of every expected answer must.
    """
    texts = [f"{passage.title}: {passage.text}" for shown in trajectory.retrieved for passage in shown]
    expected: list[tuple[str, ...]] = [(hop.answer,) for hop in task.hops] or list(task.answers)
    return all(
        any(contains_phrase(text, alias) for text in texts for alias in aliases) for aliases in expected
    )
