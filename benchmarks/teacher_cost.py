"""What a trajectory of an LLM teacher costs: calls, tokens and bytes, without paying for one.

    masksearch index corpus.json --out runs/index --set retrieval.mode=bm25
    masksearch ramp corpus.json --index runs/index --out runs/ramp.jsonl
    python benchmarks/teacher_cost.py runs/ramp.jsonl runs/index 500

The roles are asked with their real prompts over the real passages, but a stand-in replies with what the hindsight
teacher would write in the form that the prompts ask for. A token is taken as four characters. Models that reason before
they reply sample more; models that need more rounds read more.
"""

from __future__ import annotations

import json
import sys
import tempfile
from contextvars import ContextVar
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage
from langchain_core.outputs import ChatGeneration, ChatResult

from masksearch_agent.agent.prompts import FULL_PROMPTS
from masksearch_agent.calls.chat import ChatCaller
from masksearch_agent.config.agent import AgentSettings
from masksearch_agent.config.generator import GeneratorSettings
from masksearch_agent.config.retrieval import RetrievalSettings
from masksearch_agent.errors import TaskError
from masksearch_agent.generator.hindsight import HindsightTeacher
from masksearch_agent.generator.judge import GroundedJudge, RuleJudge
from masksearch_agent.generator.model_roles import ModelTeacher
from masksearch_agent.generator.roles import Findings, Observation, Plan
from masksearch_agent.generator.runner import TrajectoryGenerator
from masksearch_agent.jsonl import read_jsonl
from masksearch_agent.judging.judge import ModelJudge
from masksearch_agent.records import SearchTask, Usage
from masksearch_agent.retrieval.adapters import open_search
from masksearch_agent.traces.store import TraceStore

_VERDICT = (
    "<reason>The passages say so and the answer is the expected one.</reason>\n<verdict>right</verdict>"
)
_NEXT_REPLY: ContextVar[str] = ContextVar("next_reply", default=_VERDICT)


class StandIn(BaseChatModel):
    """Replies with what was put down for it."""

    @property
    def _llm_type(self) -> str:
        return "stand-in"

    def _generate(
        self, messages: Any, stop: Any = None, run_manager: Any = None, **kwargs: Any
    ) -> ChatResult:
        return ChatResult(generations=[ChatGeneration(message=AIMessage(_NEXT_REPLY.get()))])

    async def _agenerate(
        self, messages: Any, stop: Any = None, run_manager: Any = None, **kwargs: Any
    ) -> ChatResult:
        return self._generate(messages)


@dataclass(frozen=True)
class PlayedTeacher(ModelTeacher):
    """The chat-model teacher, with the hindsight teacher's words."""

    known: HindsightTeacher = field(default_factory=HindsightTeacher)

    async def plan(self, findings: Findings) -> Plan:
        """Ask the planner."""
        plan = await self.known.plan(findings)
        _NEXT_REPLY.set(f"<thought>{plan.text}</thought>\n<needs>\n{_lines(plan.needs)}\n</needs>")
        return await super().plan(findings)

    async def rewrite(self, findings: Findings, plan: Plan) -> tuple[str, ...]:
        """Ask the rewriter."""
        queries = await self.known.rewrite(findings, plan)
        _NEXT_REPLY.set(f"<queries>\n{_lines(queries)}\n</queries>")
        return await super().rewrite(findings, plan)

    async def observe(self, findings: Findings) -> Observation:
        """Ask the observer."""
        seen = await self.known.observe(findings)
        answer = _lines(tuple(slot[0] for slot in findings.task.answers)) if seen.answer is not None else ""
        _NEXT_REPLY.set(f"<findings>{seen.text}</findings>\n<answer>\n{answer}\n</answer>")
        return await super().observe(findings)


class PlayedJudge(GroundedJudge):
    """The chat-model judge, which accepts what the rules accept."""

    async def judge(self, *arguments: Any, **named: Any) -> Any:
        """Ask the judge."""
        _NEXT_REPLY.set(_VERDICT)
        return await super().judge(*arguments, **named)


def measure(tasks: list[SearchTask], index: Path) -> dict[str, float]:
    """Generate trajectories and return the means of one."""
    agent, settings = AgentSettings(), GeneratorSettings()
    caller = ChatCaller(StandIn(), "stand-in")
    teacher = PlayedTeacher(caller, caller, caller, agent, settings, HindsightTeacher(settings))
    judge = PlayedJudge(ModelJudge(caller), RuleJudge(agent.max_queries), are_rules_asked=True)
    search = open_search(index, RetrievalSettings())
    generator = TrajectoryGenerator(search, FULL_PROMPTS, agent, settings, teacher, judge)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "traces.sqlite")
        with TraceStore(path) as store:
            report = generator.run(tasks, store, "cost")
            made = list(store.trajectories())
        size_bytes = path.stat().st_size
    count = len(made)
    total = sum((trajectory.usage or Usage() for trajectory in made), Usage())
    return {
        "trajectories": count,
        "accepted": report.accepted / count,
        "calls": total.model_calls / count,
        "searches": sum(len(trajectory.queries) for trajectory in made) / count,
        "prompt_tokens": total.prompt_tokens / count,
        "sampled_tokens": total.sampled_tokens / count,
        "bytes": size_bytes / count,
    }


def _lines(texts: tuple[str, ...]) -> str:
    return "\n".join(texts)


if __name__ == "__main__":
    read = list(islice(read_jsonl(Path(sys.argv[1]), SearchTask, TaskError), int(sys.argv[3])))
    print(json.dumps(measure(read, Path(sys.argv[2])), indent=2))
