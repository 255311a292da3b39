"""The masking stage: passages become RAMP tasks."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any, Literal

from masksearch_agent.calls.accounting import Spending
from masksearch_agent.calls.cache import AnswerCache
from masksearch_agent.calls.chat import open_chat_caller
from masksearch_agent.concurrency import relaxed_collector
from masksearch_agent.config.corpus import CorpusSettings
from masksearch_agent.config.ramp import RampSettings
from masksearch_agent.corpus.readers import read_passages
from masksearch_agent.corpus.report import CorpusReport
from masksearch_agent.errors import EvaluationError, TaskError
from masksearch_agent.evaluation.sources import read_good_tasks
from masksearch_agent.failures import Failures
from masksearch_agent.files import holding, replace_text
from masksearch_agent.jsonl import read_jsonl, write_jsonl
from masksearch_agent.models.local import load_checkpoint
from masksearch_agent.ramp.extraction.gliner_spans import GlinerSpanExtractor
from masksearch_agent.ramp.extraction.model_spans import ModelSpanExtractor
from masksearch_agent.ramp.extraction.spacy_spans import AskingExtractor, SpacySpanExtractor
from masksearch_agent.ramp.extraction.span_process import SpacyProcess
from masksearch_agent.ramp.perplexity import MeasuringExtractor, SpanSurprisal
from masksearch_agent.ramp.rating import count_sheet, is_blank_sheet, write_sheet
from masksearch_agent.ramp.spans import CarefulExtractor, FactMention, FactSpanExtractor, SpanExtractor
from masksearch_agent.ramp.tasks import RampReport, build_ramp_tasks
from masksearch_agent.ramp.two_passages.chains import interleave_share, two_passage_questions
from masksearch_agent.records import Passage, SearchTask
from masksearch_agent.retrieval.search import Search
from masksearch_agent.stages.costs import cost_of
from masksearch_agent.stages.display import Bar, count_steps
from masksearch_agent.stages.stage import Corpus, Searched, Site, Spent, Stage, TaskFile

__all__ = (
    *("MENTIONS", "Masking", "build_tasks", "corpus_passages", "count_rated", "open_extractor"),
    *("read_chains", "read_task_files", "summarise_masking", "write_rating_sheet"),
)

logger = logging.getLogger(__name__)

Split = Literal["train", "test"]

MENTIONS = "mentions.jsonl"
"""Beside a corpus folder's `passages.jsonl`: facts that are known, which are then the spans."""
_TASKS = "tasks.jsonl"

_NOTHING_KEPT = (
    "No task was kept; `dropped` says why. More passages that tell the same facts give some, or a recipe that asks for "
    "what a passage tells itself, such as `--recipe training/laptop.yaml`."
)


@dataclass(frozen=True, kw_only=True, eq=False)
class Masking(Stage):
    """Makes tasks of the passages of a corpus."""

    kind = "tasks"

    corpus: Corpus
    searched: Searched
    """What the tasks are to be answered from."""
    reading: CorpusSettings
    settings: RampSettings
    split: Split = "train"
    max_tasks: int | None = None

    @property
    def tasks(self) -> TaskFile:
        """The tasks."""
        return TaskFile(_TASKS, self)

    def work(self, folder: Path, site: Site, bar: Bar) -> Spent:
        """Build the tasks."""
        search = site.search(self.searched)
        built = build_tasks(
            site.where(self.corpus), search, self.settings, folder / _TASKS, self.reading,
            split=self.split, max_tasks=self.max_tasks, bar=bar,
        )  # fmt: skip
        return Spent(items=built["passages"], failed=built["failed"], failures=built["failures"])


def build_tasks(
    corpus: Path,
    search: Search,
    settings: RampSettings,
    out: Path,
    reading: CorpusSettings | None = None,
    *,
    limit: int | None = None,
    split: Split = "train",
    max_tasks: int | None = None,
    bar: Bar | None = None,
) -> dict[str, Any]:
    """Build the RAMP tasks of a corpus.

    Args:
        corpus: A folder with `mentions.jsonl` beside `passages.jsonl` says itself what can be masked.
        search: Search over what the tasks are to be answered from.
        out: JSON-lines file of tasks.
        reading: How documents are read.
        limit: Passages read at most.
        max_tasks: Tasks written at most.

    Returns:
        What was kept and dropped.

    Raises:
        ConfigError: Another process writes to `out`.
    """
    documents, spending, rejections = CorpusReport(), Spending(), Counter[str]()
    report = RampReport()
    extractor = open_extractor(corpus, settings, spending, rejections, report, has_own_process=True)
    passages = corpus_passages(corpus, reading, documents)
    spans = extractor.extract(count_steps(islice(passages, limit), bar))
    masked = build_ramp_tasks(spans, search, settings, split, report=report)
    chains = read_chains(corpus, settings, reading, limit, split, report)
    tasks = interleave_share(masked, chains, settings.two_passage_questions)
    # The search remembers hundreds of thousands of hits, none of them in a cycle.
    with holding(out), relaxed_collector():
        kept = write_jsonl(out, islice(tasks, max_tasks))
    return summarise_masking(kept, report, documents, rejections, spending)


def read_chains(
    corpus: Path,
    settings: RampSettings,
    reading: CorpusSettings | None,
    limit: int | None,
    split: Split,
    report: RampReport,
) -> list[SearchTask]:
    """Return the questions over two passages of a corpus (see `build_tasks`), which is read for them a first time."""
    if not settings.two_passage_questions:
        return []
    passages = islice(corpus_passages(corpus, reading), limit)
    return two_passage_questions(passages, settings.seed, split, Failures(reasons=report.failures))


def corpus_passages(
    corpus: Path, reading: CorpusSettings | None = None, documents: CorpusReport | None = None
) -> Iterator[Passage]:
    """Yield the passages to mask."""
    file = corpus / "passages.jsonl" if (corpus / MENTIONS).is_file() else corpus
    return read_passages(file, reading, documents, keeps_copies=False)


def open_extractor(
    corpus: Path,
    settings: RampSettings,
    spending: Spending,
    rejections: Counter[str],
    report: RampReport,
    has_own_process: bool = False,
) -> SpanExtractor:
    """Return what finds the spans of a corpus, and measures them where the mask policy asks for it.

    Args:
        corpus: See `build_tasks`.
        spending: Counts what a chat model costs.
        rejections: Counts the replies of a chat model that gave no spans.
        report: Counts the passages that cannot be read; they are left out.
        has_own_process: Run spaCy beside this process. Workers of a cluster keep the cores busy without that, and keep
            the model between their shards.
    """
    extractor: SpanExtractor
    mentions = corpus / MENTIONS
    if mentions.is_file():
        extractor = FactSpanExtractor(read_jsonl(mentions, FactMention, TaskError))
    elif settings.gliner is not None:
        extractor = GlinerSpanExtractor(settings.gliner)
    elif settings.span_model is not None:
        cache = AnswerCache(settings.span_cache) if settings.span_cache is not None else None
        model = open_chat_caller(settings.span_model, spending)
        extractor = ModelSpanExtractor(model=model, cache=cache, rejections=rejections)
    else:
        extractor = (
            SpacyProcess(settings=settings, on_failure=report.note_unread)
            if has_own_process
            else SpacySpanExtractor(settings=settings)
        )
    if settings.cloze_questions and not isinstance(extractor, (SpacyProcess, SpacySpanExtractor)):
        extractor = AskingExtractor(extractor)
    if settings.policy != "perplexity":
        return CarefulExtractor(extractor, report.note_unread)
    if settings.reference_model is None:
        raise TaskError("the mask policy 'perplexity' needs a model; set ramp.reference_model")
    reference, tokenizer = load_checkpoint(settings.reference_model, "float32")
    surprisal = SpanSurprisal(reference, tokenizer, settings.reference_batch_size)
    return CarefulExtractor(MeasuringExtractor(extractor, surprisal), report.note_unread)


def summarise_masking(
    kept: int, report: RampReport, documents: CorpusReport, rejections: Counter[str], spending: Spending
) -> dict[str, Any]:
    """Return what masking kept and dropped, for people to read."""
    over_two_passages = kept - report.tasks_kept
    return {
        "passages": report.passages_read,
        "kept": kept,
        "failed": report.failures.total(),
        "failures": dict(report.failures),
        "kept_fraction": round(report.kept_fraction, 4),
        "by_masks": dict(sorted(report.kept_by_mask_count.items())),
        **({"two_passage_questions": over_two_passages} if over_two_passages > 0 else {}),
        **({"open_questions": report.open_questions} if report.open_questions else {}),
        "dropped": dict(report.drops),
        **({"documents": documents.as_dict()} if documents.read else {}),
        **({"spans_rejected": dict(rejections)} if rejections else {}),
        **cost_of(spending),
        **({} if kept else {"advice": _NOTHING_KEPT}),
    }


def read_task_files(files: Sequence[Path]) -> list[SearchTask]:
    """Read our own task files, and Parquet files of questions in the format of a benchmark (Search-R1's, say).

    A question that cannot be read is left out, with a warning.

    Raises:
        TaskError: A file is missing, malformed or empty.
    """
    tasks = [
        task
        for file in files
        for task in (
            _read_questions(file) if file.suffix == ".parquet" else read_jsonl(file, SearchTask, TaskError)
        )
    ]
    if not tasks:
        raise TaskError(f"no tasks in {', '.join(map(str, files))}; build some with `masksearch ramp`")
    return tasks


def _read_questions(file: Path) -> Iterator[SearchTask]:
    skipped: list[str] = []
    try:
        for task in read_good_tasks(file, skipped):
            yield replace(task, split="train")
    except EvaluationError as failure:
        raise TaskError(str(failure)) from failure
    if skipped:
        logger.warning("%s: left out %d questions, the first: %s", file, len(skipped), skipped[0])


def write_rating_sheet(
    tasks: Sequence[SearchTask], count: int, seed: int, search: Search | None, out: Path
) -> dict[str, Any]:
    """Write a sheet of random tasks to rate (`ramp.rating`), with the passages of the search's index quoted.

    Raises:
        TaskError: There is a file that is not a sheet still to be filled in.
    """
    if out.exists() and not is_blank_sheet(_read_sheet(out)):
        raise TaskError(
            f"{out} is not a sheet that nobody has filled in, and stays as it is; choose another file for the new one "
            f"(`--out`)"
        )
    passages = {} if search is None else {passage.id: passage for passage in search.passages}
    replace_text(out, write_sheet(tasks, count, seed, passages.get))
    return {"sheet": str(out), "tasks": min(count, len(tasks)), "seed": seed}


def count_rated(sheet: Path) -> dict[str, Any]:
    """Count a sheet that was filled in.

    Raises:
        TaskError: It cannot be read, or is no sheet.
    """
    found = count_sheet(_read_sheet(sheet))
    low, high = found.interval
    return {
        "rated": found.rated,
        "good": found.good,
        "good_share": round(found.good / found.rated, 3) if found.rated else None,
        "interval95": [round(low, 3), round(high, 3)],
        "yes": found.yes,
        "unrated": found.unrated,
        "not_good": list(found.bad_ids),
    }


def _read_sheet(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as failure:
        raise TaskError(f"cannot read the sheet {path}: {failure}") from failure
