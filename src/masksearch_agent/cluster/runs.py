"""Generation, masking and evaluation by workers: the driver's side.

For the same recipe a run gives what the same command gives in one process: the trajectories as a set, the tasks as a
file, the results question by question. Results are written as they come, so a restart does only what is missing.
"""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import chain, islice
from pathlib import Path
from typing import Any

from masksearch_agent.calls.accounting import Spending
from masksearch_agent.cluster.shards import Job, Json, Shard, ShardPool, cut_shards
from masksearch_agent.config.ramp import RampSettings
from masksearch_agent.config.recipe import Recipe
from masksearch_agent.corpus.report import CorpusReport
from masksearch_agent.errors import EvaluationError, GenerationError, TaskError
from masksearch_agent.evaluation.answering import Answered, BatchAgent, FailedAnswer
from masksearch_agent.evaluation.asking import AgentChoice, QuestionFiles, score_files
from masksearch_agent.failures import Failures
from masksearch_agent.files import holding
from masksearch_agent.generator.runner import GenerationReport
from masksearch_agent.jsonl import dump_record, load_record, read_jsonl, write_jsonl
from masksearch_agent.ramp.extraction.rules import passage_flaw
from masksearch_agent.ramp.near_copies import NearCopies
from masksearch_agent.ramp.tasks import RampReport
from masksearch_agent.ramp.two_passages.chains import interleave_share
from masksearch_agent.records import Passage, SearchTask, Trajectory, Usage
from masksearch_agent.retrieval.adapters import is_folder
from masksearch_agent.stages.costs import spent_text
from masksearch_agent.stages.display import Bar
from masksearch_agent.stages.tasks import Split, corpus_passages, read_chains, summarise_masking
from masksearch_agent.stages.trajectories import summarise_generation
from masksearch_agent.traces.store import PackedTrajectory, TraceStore

__all__ = ("build_tasks", "evaluate_files", "generate_trajectories")


def generate_trajectories(
    pool: ShardPool,
    files: Sequence[Path],
    index: str | Path,
    recipe: Recipe,
    out: Path,
    stage: str,
    limit: int | None = None,
    bar: Bar | None = None,
    retry_failed: bool = False,
) -> dict[str, Any]:
    """Do what `stages.trajectories.generate_trajectories` does, for the tasks of the files.

    Only this process writes to the store: a shard's trajectories in one transaction, when they arrive.

    Raises:
        TaskError: A file is missing or malformed, or there is no task.
        ServiceError: Too many tasks in a row failed, because a service did.
        ClusterError: The workers cannot do their part.
    """
    job = Job("generate", {"recipe": _settings_of(recipe), "index": _everywhere(index)})
    report, spending = GenerationReport(), Spending()
    report.failures.most_in_a_row = recipe.generator.max_failures_in_a_row
    if bar is not None:
        lines = sum(_count_lines(file) for file in files)
        bar.start(0, lines if limit is None else min(lines, limit))
    with TraceStore(out) as store:
        failed = {} if retry_failed else store.failures(stage)
        tasks = _unfinished(_read_raw(files, limit), store.finished_task_ids(stage), failed, report)
        for _, result in pool.do(job, cut_shards(tasks, recipe.engine.shard_size, job)):
            outcomes: list[PackedTrajectory | Json] = result["outcomes"]
            store.add_packed([outcome for outcome in outcomes if not isinstance(outcome, dict)], stage)
            store.add_failures({o["task_id"]: o["reason"] for o in outcomes if isinstance(o, dict)}, stage)
            _add_cost(spending, result["cost"])
            for outcome in outcomes:
                if isinstance(outcome, dict):
                    report.failures.add_reason(
                        f"task {outcome['task_id']}", outcome["reason"], outcome["is_outage"]
                    )
                else:
                    report.count(outcome)
            if bar is not None:
                share = report.accepted / max(report.accepted + report.rejected, 1)
                bar.move_to(report.tasks, f"{stage}, {share:.0%} accepted{spent_text(spending)}")
    if not report.tasks:
        raise TaskError(f"no tasks in {', '.join(map(str, files))}; build some with `masksearch ramp`")
    return summarise_generation(report, spending)


def build_tasks(
    pool: ShardPool,
    corpus: Path,
    index: str | Path,
    recipe: Recipe,
    out: Path,
    limit: int | None = None,
    bar: Bar | None = None,
    split: Split = "train",
) -> dict[str, Any]:
    """Do what `stages.tasks.build_tasks` does.

    This process reads the corpus and finds near copies, which takes their order; workers do the rest. Each finished
    shard is a file in `<out>.parts`, named by what it was made of. The last step joins them in the order of the corpus.

    Raises:
        CorpusError: The corpus cannot be read.
        ClusterError: The workers cannot do their part.
    """
    spec = {"recipe": _settings_of(recipe), "index": _everywhere(index), "corpus": _everywhere(corpus)}
    # Changes when the index is built anew, and is empty for a web search.
    manifest = Path(index) / "index.json"
    version = manifest.read_text(encoding="utf-8") if manifest.is_file() else ""
    job = Job("mask", {**spec, "index_version": version, "split": split})
    documents, report = CorpusReport(), RampReport()
    passages = islice(corpus_passages(corpus, recipe.corpus, documents), limit)
    fresh = _without_near_copies(passages, recipe.ramp, report)
    parts = out.with_name(f"{out.name}.parts")
    names: list[str] = []

    def missing() -> Iterator[Shard]:
        for shard in cut_shards(map(dump_record, fresh), recipe.engine.shard_size, job):
            names.append(shard.name)
            if not (parts / shard.name).is_file():
                yield shard
            elif bar is not None:
                bar.step(count=len(shard.items))

    for shard, result in pool.do(job, missing()):
        write_jsonl(parts / shard.name, [result])
        if bar is not None:
            bar.step(count=len(shard.items))
    spending, rejections = Spending(), Counter[str]()

    def joined() -> Iterator[Json]:
        for name in names:
            part = json.loads((parts / name).read_text(encoding="utf-8"))
            counted = load_record(RampReport, part["report"], TaskError)
            for field in dataclasses.fields(RampReport):
                setattr(report, field.name, getattr(report, field.name) + getattr(counted, field.name))
            rejections.update(part["rejections"])
            _add_cost(spending, part["cost"])
            yield from part["tasks"]

    share = recipe.ramp.two_passage_questions
    chains = map(dump_record, read_chains(corpus, recipe.ramp, recipe.corpus, limit, split, report))
    with holding(out):
        kept = write_jsonl(out, interleave_share(joined(), chains, share))
        shutil.rmtree(parts)
    return summarise_masking(kept, report, documents, rejections, spending)


def evaluate_files(
    pool: ShardPool,
    choice: AgentChoice,
    questions: QuestionFiles,
    recipe: Recipe,
    on_result: Callable[[], None] | None = None,
) -> dict[str, Any]:
    """Do what `evaluation.asking.evaluate_files` does: workers answer; this process scores, keeps results and judges.

    Raises:
        EvaluationError: The agent is a deployed one, or see there.
        ClusterError: The workers cannot do their part.
    """
    if choice.is_deployed:
        raise EvaluationError("a deployed agent runs where it was deployed to; leave out --engine ray")
    sent = dataclasses.replace(
        choice,
        agent=_everywhere(choice.agent) if Path(choice.agent).exists() else str(choice.agent),
        index=_everywhere(choice.index) if choice.index is not None else None,
    )
    spec = {"recipe": _settings_of(recipe), "choice": dump_record(sent)}
    workers = _ClusterAgent(pool, Job("answer", spec), recipe.engine.shard_size)
    return score_files(workers, choice.mode, choice.label, questions, recipe, on_result)


class _ClusterAgent(BatchAgent):
    """The same agent on every worker."""

    def __init__(self, pool: ShardPool, job: Job, shard_size: int) -> None:
        self._pool = pool
        self._job = job
        self._shard_size = shard_size
        [(_, result)] = pool.do(job, [Shard("version", [])])
        self.model_version: str = result["model_version"]
        self.conditions = result["conditions"]

    def answer_tasks(self, tasks: Sequence[SearchTask]) -> Iterator[tuple[SearchTask, Answered]]:
        """Yield each task with its run and what it cost, or why it failed, as shards are finished."""
        by_id = {task.id: task for task in tasks}
        # Benchmarks are small: every worker gets its part.
        size = min(self._shard_size, -(-len(tasks) // self._pool.worker_count) or 1)
        for _, result in self._pool.do(self._job, cut_shards(map(dump_record, tasks), size, self._job)):
            for answer in result["answers"]:
                task = by_id[answer["task_id"]]
                if "reason" in answer:
                    yield task, FailedAnswer(answer["reason"], answer["is_outage"])
                    continue
                trajectory = load_record(Trajectory, answer["trajectory"], EvaluationError)
                yield task, (trajectory, load_record(Usage, answer["usage"], EvaluationError))


def _settings_of(recipe: Recipe) -> Json:
    """Return the recipe for workers: without the engine, caches that many would write to, and settings of a lab."""
    settings = recipe.model_dump(
        mode="json", exclude_unset=True, include=Recipe.model_fields.keys() - {"engine"}
    )
    settings.setdefault("ramp", {})["span_cache"] = None
    settings.setdefault("retrieval", {}).setdefault("web", {})["cache"] = None
    return settings


def _everywhere(path: str | Path) -> str:
    """Return a path that means the same in any working directory."""
    return str(Path(path).resolve()) if is_folder(path) else str(path)


def _read_raw(files: Sequence[Path], limit: int | None) -> Iterator[Json]:
    """Yield tasks as they stand in their files; the worker that gets one checks it."""
    tasks = chain.from_iterable(read_jsonl(file, dict, TaskError) for file in files)
    for task in islice(tasks, limit):
        if not isinstance(task.get("id"), str):
            raise TaskError(
                f"a task in {', '.join(map(str, files))} has no id; build tasks with `masksearch ramp`"
            )
        yield task


def _unfinished(
    tasks: Iterable[Json], finished: set[str], failed: Mapping[str, str], report: GenerationReport
) -> Iterator[Json]:
    """Yield every task that has neither an outcome nor a failure yet, once; count the others."""
    for task in tasks:
        if task["id"] in finished:
            report.skipped += 1
            continue
        finished.add(task["id"])
        if task["id"] in failed:
            report.failures.note_earlier(failed[task["id"]])
        else:
            yield task


def _without_near_copies(
    passages: Iterable[Passage], settings: RampSettings, report: RampReport
) -> Iterator[Passage]:
    """Leave out what `ramp.tasks` would drop as a near copy, and count it there."""
    known, failures = NearCopies(), Failures(reasons=report.failures)
    for passage in passages:
        is_near_copy = None
        with failures.costing(f"passage {passage.id}"):
            is_flawed = bool(passage_flaw(passage, settings))
            is_near_copy = settings.drop_near_copies and not is_flawed and known.holds_or_adds(passage.text)
        if is_near_copy is False:
            yield passage
            continue
        report.passages_read += 1
        report.drops["near_copy"] += bool(is_near_copy)


def _add_cost(spending: Spending, cost: Json) -> None:
    for role, usage in cost.items():
        spending.add(role, load_record(Usage, usage, GenerationError))


def _count_lines(file: Path) -> int:
    if not file.is_file():
        raise TaskError(f"no file at {file}")
    with file.open("rb") as stream:
        return sum(block.count(b"\n") for block in iter(lambda: stream.read(1 << 20), b""))
