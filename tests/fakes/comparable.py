"""Results of an evaluation without what differs from run to run.

That is times, the random ids of model calls, and log-probabilities, whose last digits depend on what shares a batch.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from pathlib import Path

from masksearch_agent.evaluation.results import QuestionResult
from masksearch_agent.records import Trajectory
from masksearch_agent.traces.store import TraceStore


def comparable(results: Iterable[QuestionResult]) -> dict[str, QuestionResult]:
    """Return the results by task; a model call is named by its number."""
    return {result.task_id: _without_chance(result) for result in results}


def _without_chance(result: QuestionResult) -> QuestionResult:
    assert result.trajectory is not None
    numbers = {turn.id: str(number) for number, turn in enumerate(result.trajectory.turns)}
    turns = tuple(
        dataclasses.replace(
            turn,
            id=numbers[turn.id],
            parent_id=turn.parent_id and numbers[turn.parent_id],
            logprobs=(0.0,) * len(turn.logprobs),
        )
        for turn in result.trajectory.turns
    )
    return dataclasses.replace(
        result, seconds=0.0, trajectory=dataclasses.replace(result.trajectory, turns=turns)
    )


def trajectories(path: Path) -> dict[str, Trajectory]:
    """Return the trajectories of a store by their ids; each task has one."""
    with TraceStore(path) as store:
        found = list(store.trajectories("ramp"))
    assert len({trajectory.task_id for trajectory in found}) == len(found)
    return {trajectory.id: trajectory for trajectory in found}
