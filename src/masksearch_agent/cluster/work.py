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

from masksearch_agent.calls.accounting import Spending
from masksearch_agent.cluster.shards import Job, Json, WorkName
from masksearch_agent.concurrency import gather_bounded, open_runner, run_many
from masksearch_agent.config.recipe import Recipe
from masksearch_agent.errors import EvaluationError, MaskSearchError, TaskError
from masksearch_agent.evaluation.answering import answerer_of, conditions_of
from masksearch_agent.evaluation.asking import AgentChoice, open_agent
from masksearch_agent.failures import is_outage, reason_of, stops_run
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


_Work = Callable[[Sequence[Json]], Json]
"""Does the shards of one job."""


def do_shard(job: Job, items: Sequence[Json]) -> Json:
    """Do a shard in this process, and return what the job's kind of work does.

    Errors of this package come as `error` and `host`: an exception would have to survive its way through the cluster.
    """
    try:
        return _open(job.work, json.dumps(job.spec, sort_keys=True))(items)
    except MaskSearchError as failure:
        return {"error": str(failure), "host": socket.gethostname()}


@functools.lru_cache(maxsize=1)
def _open(work: WorkName, spec: str) -> _Work:
    """Open what a job needs; kept for the next shard of the job."""
    return _OPENERS[work](json.loads(spec))


def _open_generation(spec: Json) -> _Work:
    """Tasks to an outcome each, in their order, and the `cost`.

    An outcome is a packed trajectory, or why the task failed.
    """
    recipe = Recipe.model_validate(spec["recipe"])
    spending = Spending()
    teacher, judge = cast_roles(recipe.generator, recipe.agent, spending)
    search = open_search(spec["index"], recipe.retrieval)
    generator = TrajectoryGenerator(
        search, prompts_of(recipe), recipe.agent, recipe.generator, teacher, judge
    )
    # One loop for all shards: connections to models belong to the loop that opened them.
    loop = open_runner()

    async def finish(task: SearchTask) -> PackedTrajectory | Json:
        try:
            return pack_trajectory(await generator.run_task(task))
        except Exception as failure:  # noqa: BLE001 (raised again where it is more than this task's)
            return {"task_id": task.id, **_failed(failure)}

    def generate(items: Sequence[Json]) -> Json:
        spending.by_role.clear()
        tasks = [load_record(SearchTask, item, TaskError) for item in items]
        outcomes = run_many(gather_bounded(finish, tasks, recipe.generator.concurrency), loop)
        return {"outcomes": outcomes, "cost": _cost(spending)}

    return generate


def _open_masking(spec: Json) -> _Work:
    """Passages to RAMP `tasks` in the same order, the `report`, span `rejections` and the `cost`."""
    recipe = Recipe.model_validate(spec["recipe"])
    spending, rejections = Spending(), Counter[str]()
    unread = RampReport()
    extractor = open_extractor(Path(spec["corpus"]), recipe.masking, spending, rejections, unread)
    search = open_search(spec["index"], recipe.retrieval)
    # Which of several near copies is the first, only the driver sees.
    settings = recipe.ramp.model_copy(update={"drop_near_copies": False})

    def mask(items: Sequence[Json]) -> Json:
        spending.by_role.clear()
        rejections.clear()
        unread.failures, unread.passages_read = Counter(), 0
        report = RampReport()
        spans = extractor.extract([load_record(Passage, item, TaskError) for item in items])
        tasks = list(build_ramp_tasks(spans, search, settings, spec["split"], report=report))
        report.failures += unread.failures
        report.passages_read += unread.passages_read
        return {
            "tasks": [dump_record(task) for task in tasks],
            "report": dump_record(report),
            "rejections": dict(rejections),
            "cost": _cost(spending),
        }

    return mask


def _open_answering(spec: Json) -> _Work:
    """Questions to the agent's `answers` in the same order, with its `model_version` and `conditions`."""
    recipe = Recipe.model_validate(spec["recipe"])
    choice = load_record(AgentChoice, spec["choice"], EvaluationError)
    agent, mode = open_agent(choice, recipe)
    answerer, conditions = answerer_of(agent, mode), conditions_of(agent, mode)
    loop = open_runner()

    async def finish(task: SearchTask) -> Json:
        try:
            trajectory, usage = await answerer.answer_task(task, recipe.evaluation.seed)
        except Exception as failure:  # noqa: BLE001 (raised again where it is more than this question's)
            return {"task_id": task.id, **_failed(failure)}
        return {"task_id": task.id, "trajectory": dump_record(trajectory), "usage": dump_record(usage)}

    def answer(items: Sequence[Json]) -> Json:
        tasks = [load_record(SearchTask, item, TaskError) for item in items]
        answers = run_many(gather_bounded(finish, tasks, recipe.evaluation.concurrency), loop)
        return {"model_version": answerer.model_version, "conditions": conditions, "answers": answers}

    return answer


_OPENERS: dict[WorkName, Callable[[Json], _Work]] = {
    "generate": _open_generation,
    "mask": _open_masking,
    "answer": _open_answering,
}


def _failed(failure: Exception) -> Json:
    """Return why an item failed; raise what is more than one item's."""
    if stops_run(failure):
        raise failure
    return {"reason": reason_of(failure), "is_outage": is_outage(failure)}


def _cost(spending: Spending) -> Json:
    return {role: dump_record(usage) for role, usage in spending.by_role.items()}
