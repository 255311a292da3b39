"""Public benchmarks, each skipped where its data are absent.

pytest evals/ --agent runs/quickstart/agent --data my_benchmarks --limit 50
"""

from __future__ import annotations

from typing import Any

from masksearch_agent.evaluation.answering import RemoteAgent
from masksearch_agent.pytest_plugin import Evaluate, assert_at_least


def test_scores_reach_their_thresholds(evaluate: Evaluate, name: str, expected: dict[str, Any]) -> None:
    # A deployed agent searches what it was deployed with.
    corpus = "agent" if isinstance(evaluate.agent, RemoteAgent) else expected["corpus"]
    assert_at_least(evaluate(name, corpus=corpus), expected["at_least"])
