"""Drawings of the graphs, made from the graphs themselves."""

from __future__ import annotations

from typing import cast

from langchain_core.language_models.fake_chat_models import FakeListChatModel

from masksearch_agent.agent.graph import build_search_graph
from masksearch_agent.agent.prompts import FULL_PROMPTS
from masksearch_agent.config.agent import AgentSettings
from masksearch_agent.generator.evolution import RoundSteps, build_evolution_graph
from masksearch_agent.generator.graph import build_generator_graph
from masksearch_agent.generator.hindsight import HindsightTeacher
from masksearch_agent.generator.judge import RuleJudge
from masksearch_agent.retrieval.adapters import as_search

__all__ = ("draw_graphs",)

_PAGE = """# Graphs

What a LangGraph server loads (`langgraph.json` points here), and the graph of `masksearch evolve`. The drawings are
made from the code by `masksearch draw`.

## The search agent (`search_agent.py`)

One graph in production, in training rollouts and in evaluation.

```mermaid
{agent}```

## The trajectory generator (`trajectory_generator.py`)

`search` runs once per query, in parallel.

```mermaid
{generator}```

## Self-evolution (`masksearch evolve`)

`teach` runs the generator's teacher, `sample` the last student; both judge each trajectory as it ends.

```mermaid
{evolution}```
"""


def draw_graphs() -> str:
    """Return the Markdown page with the graphs as Mermaid drawings."""
    search = as_search(lambda query: [])
    model = FakeListChatModel(responses=["unused"])
    agent = build_search_graph(model, search).compile()
    limits = AgentSettings()
    generator = build_generator_graph(
        HindsightTeacher(), RuleJudge(limits.max_queries), search, FULL_PROMPTS, limits
    ).compile()
    evolution = build_evolution_graph(cast(RoundSteps, None)).compile()
    return _PAGE.format(
        agent=agent.get_graph().draw_mermaid(),
        generator=generator.get_graph().draw_mermaid(),
        evolution=evolution.get_graph().draw_mermaid(),
    )
