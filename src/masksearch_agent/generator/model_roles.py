"""Planner, rewriter and observer played by chat models, each by one of its own if wanted.

The teacher never sees the expected answer or the hops: what it writes is what an agent could know. Passages are
shown as the agent reads them, with forged tags neutralised.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from masksearch_agent.agent.protocol import clean_text, render_information
from masksearch_agent.calls.chat import ChatCaller
from masksearch_agent.calls.replies import Reply, ReplyT
from masksearch_agent.config.agent import AgentSettings
from masksearch_agent.config.generator import GeneratorSettings
from masksearch_agent.generator import role_prompts
from masksearch_agent.generator.roles import Findings, Observation, Plan, render_answer
from masksearch_agent.records import Message

__all__ = ("ModelTeacher",)


@dataclass(frozen=True)
class ModelTeacher:
    """Chat models as planner, rewriter and observer."""

    planner: ChatCaller
    rewriter: ChatCaller
    observer: ChatCaller
    agent_settings: AgentSettings
    settings: GeneratorSettings

    @property
    def name(self) -> str:
        """The models and the version of the prompts; part of every trajectory's id."""
        names = dict.fromkeys((self.planner.name, self.rewriter.name, self.observer.name))
        return f"{'+'.join(names)}, role prompts {role_prompts.ROLE_PROMPTS_VERSION}"

    async def plan(self, findings: Findings) -> Plan:
        """Ask the planner what to look for."""
        most = self.agent_settings.max_queries
        prompt = role_prompts.PLANNER_PROMPT.format(max_needs=most)
        reply = await self._ask("planner", prompt, findings, role_prompts.NextNeeds, _at_most(most, "needs"))
        return Plan(reply.thought, reply.needs)

    async def rewrite(self, findings: Findings, plan: Plan) -> tuple[str, ...]:
        """Ask the rewriter for queries."""
        most, more = self.agent_settings.max_queries, f"\n\nLook for now:\n{_listed(plan.needs)}"
        prompt = role_prompts.REWRITER_PROMPT.format(max_queries=most)
        reply = await self._ask(
            "rewriter", prompt, findings, role_prompts.Queries, _at_most(most, "queries"), more
        )
        return reply.queries

    async def observe(self, findings: Findings) -> Observation:
        """Ask the observer what the passages say."""
        task = findings.task
        count = max(task.mask_count, 1)
        form = (
            f"the text for each [mask], one per line, {count} lines in the order of the masks"
            if task.kind == "ramp"
            else "the short answer, in one line"
        )

        def check(said: role_prompts.Reading) -> str:
            return "" if len(said.answer) in (0, count) else f"<answer> must have {count} lines or none"

        prompt = role_prompts.OBSERVER_PROMPT.format(answer_form=form)
        reply = await self._ask("observer", prompt, findings, role_prompts.Reading, check)
        if not reply.answer:
            return Observation(reply.findings, None)
        return Observation(reply.findings, render_answer(task, reply.answer, self.agent_settings.answer_form))

    async def _ask(
        self,
        role: Literal["planner", "rewriter", "observer"],
        prompt: str,
        findings: Findings,
        schema: type[ReplyT],
        check: Callable[[ReplyT], str],
        more: str = "",
    ) -> ReplyT:
        """Show a role the task, the rounds so far and what more it needs, and return what it replies."""
        caller: ChatCaller = getattr(self, role)
        return await caller.ask(
            [Message("system", prompt), Message("user", _state_of(findings) + more)],
            schema,
            role,
            check=check,
            max_repairs=self.settings.max_repairs,
            log=findings.log,
            turn_id=f"{len(findings.queries)}.{role}",
        )


def _state_of(findings: Findings) -> str:
    """Return the task and the rounds so far as a role reads them."""
    parts = [f"Task:\n{clean_text(findings.task.question)}"]
    rounds = zip(findings.queries, findings.passages, strict=True)
    for number, (queries, passages) in enumerate(rounds, start=1):
        parts.append(f"Search {number}:\n{_listed(queries)}\n{render_information(passages)}")
    if not findings.queries:
        parts.append("Nothing was searched yet.")
    return "\n\n".join(parts)


def _listed(entries: tuple[str, ...]) -> str:
    return "\n".join(f"- {entry}" for entry in entries)


def _at_most(count: int, field: str) -> Callable[[Reply], str]:
    problem = f"<{field}> has more than {count} lines"
    return lambda reply: problem if len(getattr(reply, field)) > count else ""
