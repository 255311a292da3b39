"""The quickstart's agent on entities it has never seen.

pytest evals/test_closed_world.py --agent runs/quickstart/agent
"""

from __future__ import annotations

from pathlib import Path

import pytest

from masksearch_agent.pytest_plugin import Evaluate, assert_at_least


def test_scores_on_unseen_entities(
    evaluate: Evaluate, pytestconfig: pytest.Config, name: str, expected: dict[str, float]
) -> None:
    run_folder = Path(pytestconfig.getoption("masksearch_agent")).parent
    is_masks = name == "ramp"
    folder = run_folder / ("held_out_tasks" if is_masks else "world/questions")
    questions = folder / ("tasks.jsonl" if is_masks else f"{name}_test.jsonl")
    if not questions.is_file():
        pytest.skip(f"the agent comes from no quickstart: no questions at {questions}")
    assert_at_least(evaluate(questions, limit=200), expected)
