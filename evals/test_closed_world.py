"""The quickstart's agent on entities it has never seen.

pytest evals --agent runs/quickstart/agent
"""

from __future__ import annotations

from pathlib import Path

import pytest

from masksearch_agent import MaskSearchAgent
from masksearch_agent.evaluation.benchmarks import read_tasks
from masksearch_agent.evaluation.runner import evaluate, summarise

RECALL_THRESHOLDS = {"qa_1hop": 0.80, "qa_2hop": 0.80, "qa_3hop": 0.60, "ramp": 0.70}


@pytest.fixture(scope="module")
def agent(agent_path: Path) -> MaskSearchAgent:
    return MaskSearchAgent.from_pretrained(agent_path)


@pytest.mark.parametrize("name", sorted(RECALL_THRESHOLDS))
def test_recall_on_unseen_entities(agent: MaskSearchAgent, questions: Path, limit: int, name: str) -> None:
    file = questions / f"{name}_test.jsonl"
    if not file.is_file():
        pytest.skip(f"no questions at {file}")
    scores = summarise(evaluate(agent, list(read_tasks(file))[:limit]))
    assert scores.recall >= RECALL_THRESHOLDS[name], (
        f"recall on {name} is {scores.recall:.3f} (95% {scores.ci95[0]:.3f} to {scores.ci95[1]:.3f}, n = {scores.n})"
    )
