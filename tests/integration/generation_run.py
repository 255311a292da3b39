"""A generation run as a process of its own, to be killed: `generation_run.py URL STORE TASKS`."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from fakes.backends import TableBackend
from fakes.chat_server import HttpChatModel, code_passage, code_task

from masksearch_agent.agent.prompts import FULL_PROMPTS
from masksearch_agent.calls.chat import ChatCaller
from masksearch_agent.config.agent import AgentSettings
from masksearch_agent.config.calls import CallSettings
from masksearch_agent.config.generator import GeneratorSettings
from masksearch_agent.generator.judge import GroundedJudge, RuleJudge
from masksearch_agent.generator.model_roles import ModelTeacher
from masksearch_agent.generator.runner import GenerationReport, TrajectoryGenerator
from masksearch_agent.judging.judge import ModelJudge
from masksearch_agent.retrieval.search import Search
from masksearch_agent.traces.store import TraceStore

CALLS = CallSettings(timeout_s=3.0, first_wait_s=0.02, longest_wait_s=0.2, patience_s=400)


def run(url: str, store_path: Path, count: int, concurrency: int = 32) -> GenerationReport:
    """Generate trajectories for `count` code tasks with every role played through the server."""
    caller = ChatCaller(HttpChatModel(url=url), "fake", CALLS)
    table = {f"code of item {number}": [code_passage(number)] for number in range(count)}
    agent, settings = AgentSettings(), GeneratorSettings(concurrency=concurrency)
    generator = TrajectoryGenerator(
        Search(TableBackend(table)),
        FULL_PROMPTS,
        agent,
        settings,
        ModelTeacher(caller, caller, caller, agent, settings),
        GroundedJudge(ModelJudge(caller), RuleJudge(agent.max_queries), are_rules_asked=True),
    )
    with TraceStore(store_path) as store:
        return generator.run((code_task(number) for number in range(count)), store, "s")


if __name__ == "__main__":
    run(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]))
