"""What a worker does with a shard: it opens the job's index, models and roles once, and then answers with plain data.

Nothing is written here, so nothing is torn or doubled when a worker dies.
"""

from __future__ import annotations

import functools
import json
import socket
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

from masksearch_agent.calls.accounting import Spending
from masksearch_agent.cluster.shards import Job, Json, WorkName
from masksearch_agent.concurrency import gather_bounded, open_runner, run_many
from masksearch_agent.config.recipe import Recipe
from masksearch_agent.errors import EvaluationError, MaskSearchError, ServiceError, TaskError
from masksearch_agent.evaluation.answering import answerer_of
from masksearch_agent.evaluation.asking import AgentChoice, open_agent
from masksearch_agent.generator.casting import cast_roles
from masksearch_agent.generator.runner import TrajectoryGenerator
from masksearch_agent.jsonl import dump_record, load_record
from masksearch_agent.ramp.tasks import RampReport, build_ramp_tasks
from masksearch_agent.records import Passage, SearchTask
from masksearch_agent.retrieval.adapters import open_search
from masksearch_agent.stages.plan import prompts_of
from masksearch_agent.stages.tasks import open_extractor
from masksearch_agent.traces.store import PackedTrajectory, pack_trajectory

__all__ = ("do_shard",)


class _Work(Protocol):
    def do(self, items: Sequence[Json]) -> Json: ...


def do_shard(job: Job, items: Sequence[Json]) -> Json:
    """Do a shard in this process.

    Returns:
        What the job's kind of work returns. Errors of this package come as `error` and `host`: an exception would have
        to survive its way through the cluster.
    """
    try:
        return _open(job.work, json.dumps(job.spec, sort_keys=True)).do(items)
    except MaskSearchError as failure:
        return {"error": str(failure), "host": socket.gethostname()}


@functools.lru_cache(maxsize=1)
def _open(work: WorkName, spec: str) -> _Work:
    """Open what a job needs; kept for the next shard of the job."""
    return _WORKS[work](json.loads(spec))


class _Generation:
    """Tasks to packed trajectories."""

    def __init__(self, spec: Json) -> None:
        recipe = Recipe.model_validate(spec["recipe"])
        self._spending = Spending()
        teacher, judge = cast_roles(recipe.generator, recipe.agent, self._spending)
        search = open_search(spec["index"], recipe.retrieval)
        self._generator = TrajectoryGenerator(
            search, prompts_of(recipe), recipe.agent, recipe.generator, teacher, judge
        )
        self._concurrency = recipe.generator.concurrency
        # One loop for all shards: connections to models belong to the loop that opened them.
        self._loop = open_runner()

    def do(self, items: Sequence[Json]) -> Json:
        """Return an outcome per task, in their order, and the `cost`.

        An outcome is a packed trajectory, or the message of a service that failed.
        """
        self._spending.by_role.clear()
        tasks = [load_record(SearchTask, item, TaskError) for item in items]

        async def finish(task: SearchTask) -> PackedTrajectory | str:
            try:
                return pack_trajectory(await self._generator.run_task(task))
            except ServiceError as failure:
                return str(failure)

        outcomes = run_many(gather_bounded(finish, tasks, self._concurrency), self._loop)
        return {"outcomes": outcomes, "cost": _cost(self._spending)}


class _Masking:
    """Passages to RAMP tasks."""

    def __init__(self, spec: Json) -> None:
        recipe = Recipe.model_validate(spec["recipe"])
        self._spending, self._rejections = Spending(), Counter[str]()
        self._extractor = open_extractor(
            Path(spec["corpus"]), recipe.masking, self._spending, self._rejections
        )
        self._search = open_search(spec["index"], recipe.retrieval)
        # Which of several near copies is the first, only the driver sees.
        self._settings = recipe.ramp.model_copy(update={"drop_near_copies": False})
        self._split = spec["split"]

    def do(self, items: Sequence[Json]) -> Json:
        """Return the `tasks` in the order of their passages, the `report`, span `rejections` and the `cost`."""
        self._spending.by_role.clear()
        self._rejections.clear()
        report = RampReport()
        spans = self._extractor.extract([load_record(Passage, item, TaskError) for item in items])
        tasks = build_ramp_tasks(spans, self._search, self._settings, self._split, report=report)
        return {
            "tasks": [dump_record(task) for task in tasks],
            "report": dump_record(report),
            "rejections": dict(self._rejections),
            "cost": _cost(self._spending),
        }


class _Answering:
    """Questions to an agent's runs."""

    def __init__(self, spec: Json) -> None:
        recipe = Recipe.model_validate(spec["recipe"])
        choice = load_record(AgentChoice, spec["choice"], EvaluationError)
        self._answerer = answerer_of(*open_agent(choice, recipe))
        self._settings = recipe.evaluation
        self._loop = open_runner()

    def do(self, items: Sequence[Json]) -> Json:
        """Return the agent's `model_version` and its `answers`, in the order of the questions."""
        tasks = [load_record(SearchTask, item, TaskError) for item in items]

        async def finish(task: SearchTask) -> Json:
            trajectory, usage = await self._answerer.answer_task(task, self._settings.seed)
            return {"trajectory": dump_record(trajectory), "usage": dump_record(usage)}

        answers = run_many(gather_bounded(finish, tasks, self._settings.concurrency), self._loop)
        return {"model_version": self._answerer.model_version, "answers": answers}


_WORKS: dict[WorkName, Callable[[Json], _Work]] = {
    "generate": _Generation,
    "mask": _Masking,
    "answer": _Answering,
}


def _cost(spending: Spending) -> Json:
    return {role: dump_record(usage) for role, usage in spending.by_role.items()}
