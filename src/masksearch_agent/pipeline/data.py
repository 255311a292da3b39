"""Data stages on files: what the command line runs one by one and the quickstart in a row."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from masksearch_agent.calls.accounting import Spending
from masksearch_agent.calls.cache import AnswerCache
from masksearch_agent.calls.chat import open_chat_caller
from masksearch_agent.concurrency import relaxed_collector
from masksearch_agent.config.ramp import RampSettings
from masksearch_agent.config.recipe import QuestionSet, Recipe
from masksearch_agent.corpus.readers import read_passages
from masksearch_agent.corpus.report import CorpusReport
from masksearch_agent.errors import TaskError
from masksearch_agent.generator.casting import cast_roles
from masksearch_agent.generator.runner import GenerationReport, TrajectoryGenerator
from masksearch_agent.jsonl import dump_record, read_jsonl, write_jsonl
from masksearch_agent.lab.closed_world import ClosedWorld, Split, make_world, write_world
from masksearch_agent.lab.world_questions import make_questions
from masksearch_agent.models.local import load_checkpoint
from masksearch_agent.pipeline.display import Bar, count_steps
from masksearch_agent.pipeline.training import prompts_of
from masksearch_agent.ramp.gliner_spans import GlinerSpanExtractor
from masksearch_agent.ramp.model_spans import ModelSpanExtractor
from masksearch_agent.ramp.perplexity import MeasuringExtractor, SpanSurprisal
from masksearch_agent.ramp.span_process import SpacyProcess
from masksearch_agent.ramp.spans import FactMention, FactSpanExtractor, SpacySpanExtractor, SpanExtractor
from masksearch_agent.ramp.tasks import RampReport, build_ramp_tasks
from masksearch_agent.records import Passage, SearchTask, Trajectory
from masksearch_agent.retrieval.search import Search
from masksearch_agent.traces.store import TraceStore

__all__ = (
    "build_tasks",
    "corpus_passages",
    "cost_of",
    "generate_trajectories",
    "open_extractor",
    "read_task_files",
    "spent_text",
    "summarise_generation",
    "summarise_masking",
    "world_passages",
    "write_closed_world",
)

_PASSAGES = "passages.jsonl"
_MENTIONS = "mentions.jsonl"
_SPLITS = "splits.json"


def write_closed_world(recipe: Recipe, seed: int, directory: Path) -> dict[str, Any]:
    """Write a closed world and its questions: passages, fact mentions, splits, `questions/*.jsonl`.

    Returns:
        What was written, for people to read.
    """
    settings = recipe.world
    world = make_world(seed, settings.train_entities, settings.test_entities)
    write_world(world, directory)
    split_of = {passage.id: world.split_of(passage) for passage in world.passages}
    (directory / _SPLITS).write_text(json.dumps(split_of), encoding="utf-8")
    train = [task for wanted in settings.train_questions for task in _questions(world, "train", wanted)]
    counts = {"qa_train": write_jsonl(directory / "questions" / "qa_train.jsonl", train)}
    for wanted in settings.test_questions:
        tasks = _questions(world, "test", wanted)
        name = f"{wanted.name}_test"
        counts[name] = write_jsonl(directory / "questions" / f"{name}.jsonl", tasks)
    return {"world": str(directory), "passages": len(world.passages), "questions": counts}


def world_passages(directory: Path, split: Split) -> Iterator[Passage]:
    """Yield the passages of one split of a world that was written to a folder."""
    split_of = json.loads((directory / _SPLITS).read_text(encoding="utf-8"))
    return (passage for passage in read_passages(directory / _PASSAGES) if split_of[passage.id] == split)


def build_tasks(
    corpus: Path,
    search: Search,
    recipe: Recipe,
    out: Path,
    limit: int | None = None,
    bar: Bar | None = None,
    split: Split = "train",
    max_tasks: int | None = None,
) -> dict[str, Any]:
    """Build RAMP tasks of a corpus, or of one split of a closed world.

    Args:
        corpus: A corpus, or a folder that `write_closed_world` wrote: its facts are then the spans.
        search: Search over what the tasks are to be answered from.
        recipe: What to mask.
        out: JSON-lines file of tasks.
        limit: Passages read at most.
        bar: Progress.
        split: Of the closed world, and of the tasks.
        max_tasks: Tasks written at most.

    Returns:
        What was kept and dropped.
    """
    documents, spending, rejections = CorpusReport(), Spending(), Counter[str]()
    extractor = open_extractor(corpus, recipe, spending, rejections, has_own_process=True)
    passages = corpus_passages(corpus, recipe, split, documents)
    report = RampReport()
    spans = extractor.extract(count_steps(islice(passages, limit), bar))
    tasks = build_ramp_tasks(spans, search, recipe.ramp, split, report=report)
    with relaxed_collector():  # The search remembers hundreds of thousands of hits, none of them in a cycle.
        kept = write_jsonl(out, islice(tasks, max_tasks))
    return summarise_masking(kept, report, documents, rejections, spending)


def corpus_passages(corpus: Path, recipe: Recipe, split: Split, documents: CorpusReport) -> Iterator[Passage]:
    """Yield the passages to mask: those of a corpus, or of one split of a closed world."""
    if (corpus / _MENTIONS).is_file():
        return world_passages(corpus, split)
    return read_passages(corpus, recipe.corpus, documents)


def open_extractor(
    corpus: Path,
    recipe: Recipe,
    spending: Spending,
    rejections: Counter[str],
    has_own_process: bool = False,
) -> SpanExtractor:
    """Return what finds the spans of a corpus, and measures them where the mask policy asks for it.

    Those of a closed world are its facts.

    Args:
        corpus: A corpus, or a folder that `write_closed_world` wrote.
        recipe: What to mask, and how facts are found.
        spending: Counts what a chat model costs.
        rejections: Counts the replies of a chat model that gave no spans.
        has_own_process: Run spaCy beside this process. Workers of a cluster keep the cores busy without that, and keep
            the model between their shards.
    """
    extractor: SpanExtractor
    if (corpus / _MENTIONS).is_file():
        extractor = FactSpanExtractor(read_jsonl(corpus / _MENTIONS, FactMention, TaskError))
    else:
        extractor = _span_extractor(recipe.ramp, spending, rejections, has_own_process)
    if recipe.ramp.policy == "perplexity":
        extractor = MeasuringExtractor(extractor, _reference_model(recipe.ramp))
    return extractor


def summarise_masking(
    kept: int, report: RampReport, documents: CorpusReport, rejections: Counter[str], spending: Spending
) -> dict[str, Any]:
    """Return what masking kept and dropped, for people to read."""
    return {
        "kept": kept,
        "kept_fraction": round(report.kept_fraction, 4),
        "by_masks": dict(sorted(report.kept_by_mask_count.items())),
        "dropped": dict(report.drops),
        **({"documents": documents.as_dict()} if documents.read else {}),
        **({"spans_rejected": dict(rejections)} if rejections else {}),
        **cost_of(spending),
    }


def generate_trajectories(
    files: Sequence[Path],
    search: Search,
    recipe: Recipe,
    out: Path,
    stage: str,
    limit: int | None = None,
    bar: Bar | None = None,
) -> dict[str, Any]:
    """Generate a trajectory for every task of the files that has none yet in the stage."""
    tasks = read_task_files(files)[:limit]
    spending = Spending()
    teacher, judge = cast_roles(recipe.generator, recipe.agent, spending)
    generator = TrajectoryGenerator(
        search, prompts_of(recipe), recipe.agent, recipe.generator, teacher, judge
    )
    with TraceStore(out) as store:
        accepted = done = 0
        if bar is not None:
            task_ids = {task.id for task in tasks}
            bar.start(len(store.finished_task_ids(stage) & task_ids), len(task_ids))

        def count(trajectory: Trajectory) -> None:
            nonlocal accepted, done
            accepted, done = accepted + bool(trajectory.accepted), done + 1
            if bar is not None:
                bar.step(f"{stage}, {accepted / done:.0%} accepted{spent_text(spending)}")

        report = generator.run(tasks, store, stage, count)
    return summarise_generation(report, spending)


def summarise_generation(report: GenerationReport, spending: Spending) -> dict[str, Any]:
    """Return what a generation run did, for people to read."""
    return {
        "accepted": report.accepted,
        "rejected": report.rejected,
        "skipped": report.skipped,
        "failed": report.failed,
        "reasons": dict(report.reasons),
        **cost_of(spending),
    }


def _span_extractor(
    settings: RampSettings, spending: Spending, rejections: Counter[str], has_own_process: bool
) -> SpanExtractor:
    if settings.gliner is not None:
        return GlinerSpanExtractor(settings.gliner)
    if settings.span_model is None:
        return SpacyProcess() if has_own_process else SpacySpanExtractor()
    cache = AnswerCache(settings.span_cache) if settings.span_cache is not None else None
    extractor = ModelSpanExtractor(open_chat_caller(settings.span_model, spending), cache=cache)
    extractor.rejections = rejections
    return extractor


def _reference_model(settings: RampSettings) -> SpanSurprisal:
    model, tokenizer = load_checkpoint(settings.reference_model, "float32")
    return SpanSurprisal(model, tokenizer, settings.reference_batch_size)


def spent_text(spending: Spending) -> str:
    """Return what was spent so far as the end of a progress note; empty where no model was called."""
    total = spending.total
    if not total.model_calls:
        return ""
    dollars = f", ${total.cost_usd:.2f}" if total.cost_usd else ""
    return f", {(total.prompt_tokens + total.sampled_tokens) / 1000:,.0f}k tokens{dollars}"


def cost_of(spending: Spending) -> dict[str, Any]:
    """Return what the chat models of this process cost, by role; nothing where none was called."""
    if not spending.by_role:
        return {}
    return {"cost": {role: dump_record(usage) for role, usage in sorted(spending.by_role.items())}}


def read_task_files(files: Sequence[Path]) -> list[SearchTask]:
    """Read our own task files.

    Raises:
        TaskError: A file is missing, malformed or empty.
    """
    tasks = [task for file in files for task in read_jsonl(file, SearchTask, TaskError)]
    if not tasks:
        raise TaskError(f"no tasks in {', '.join(map(str, files))}; build some with `masksearch ramp`")
    return tasks


def _questions(world: ClosedWorld, split: Split, wanted: QuestionSet) -> list[SearchTask]:
    return make_questions(world, split, wanted.count, wanted.hops, wanted.category)
