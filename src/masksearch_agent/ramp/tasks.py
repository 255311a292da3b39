"""From passages with spans to RAMP tasks that can be answered by searching.

Retrieval-Augmented Mask Prediction (MaskSearch, arXiv 2505.20285, section 3.1): the question is a passage
with some of its facts masked. We add answerability, which the paper does not check: a mask stays only where
the rest of the corpus holds its answer, that is, where the search that the agent will use finds it without
the source passage and its near copies.

Invariant: building streams, and a task depends on its passage, the settings and the corpus, not on the order;
only of several near copies it is the first that gives the task.
"""

from __future__ import annotations

import dataclasses
import random
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import compress, islice
from typing import Literal

from masksearch_agent.config.ramp import RampSettings
from masksearch_agent.ramp.cloze import as_cloze_question
from masksearch_agent.ramp.hops import derive_hops, mask_spans
from masksearch_agent.ramp.masking import choose_spans
from masksearch_agent.ramp.near_copies import NearCopies
from masksearch_agent.ramp.rules import passage_flaw, usable_spans
from masksearch_agent.ramp.spans import Span
from masksearch_agent.records import Hop, Passage, SearchTask, content_id
from masksearch_agent.retrieval.leak_guard import LeakGuard
from masksearch_agent.retrieval.search import Search
from masksearch_agent.text.matching import contains_phrase

__all__ = ("RampReport", "build_ramp_tasks", "build_task")

_LOOK_AHEAD = 256
"""Passages whose spans are looked up together."""


@dataclass(slots=True)
class RampReport:
    """What building kept and dropped, counted while it runs."""

    passages_read: int = 0
    spans_found: int = 0
    candidates: int = 0
    """Passages with a usable span, before answerability was checked."""
    spans_answerable: int = 0
    """Usable spans of the candidates that the rest of the corpus answers."""
    drops: Counter[str] = field(default_factory=Counter)
    """Passages and spans by the name of the rule they break (`ramp.rules`). `no_spans`, `near_copy` and
    `unanswerable` count passages, the last those that no set of answerable masks was found for."""
    kept_by_mask_count: Counter[int] = field(default_factory=Counter)

    @property
    def tasks_kept(self) -> int:
        """Number of tasks."""
        return self.kept_by_mask_count.total()

    @property
    def kept_fraction(self) -> float:
        """Share of the candidates that became a task."""
        return self.tasks_kept / self.candidates if self.candidates else 0.0


def build_task(
    passage: Passage,
    spans: Sequence[Span],
    hops: Sequence[Hop] | None = None,
    split: Literal["train", "test"] = "train",
) -> SearchTask:
    """Mask spans of a passage, in the order of the text and without overlaps; return the task of filling them in.

    How each span can be looked up is derived where `hops` is None.
    """
    masked = mask_spans(passage, spans)
    question = f"{passage.title}: {masked}" if passage.title else masked
    answers = tuple((span.text,) for span in spans)
    return SearchTask(
        id=content_id("ramp", passage.id, question, answers),
        kind="ramp",
        question=question,
        answers=answers,
        category="ramp",
        hops=tuple(derive_hops(passage, spans) if hops is None else hops),
        source_passage_id=passage.id,
        split=split,
    )


def build_ramp_tasks(
    passages_with_spans: Iterable[tuple[Passage, Sequence[Span]]],
    search: Search | None,
    settings: RampSettings,
    split: Literal["train", "test"] = "train",
    report: RampReport | None = None,
) -> Iterator[SearchTask]:
    """Yield at most one task per passage.

    Args:
        passages_with_spans: What a span extractor yields.
        search: Over the corpus that the tasks are to be answered from; None skips answerability.
        settings: What to mask and how deep to look for the answers.
        split: Of the tasks.
        report: Counts what happens; added to.
    """
    builder = _TaskBuilder(search, settings, split, RampReport() if report is None else report)
    stream = iter(passages_with_spans)
    while read := list(islice(stream, 1 if search is None else _LOOK_AHEAD)):
        candidates = [found for passage, spans in read if (found := builder.prepare(passage, spans))]
        if search is not None:
            # Their first queries in one request: an embedder is much faster with many texts.
            queries = [hop.query for candidate in candidates for hop in candidate.hops]
            search.prefetch(queries, settings.answerability_depth)
        yield from filter(None, map(builder.build, candidates))


@dataclass(frozen=True, slots=True)
class _Candidate:
    """A passage with spans that may be masked and found, and how each of them can be looked up on its own."""

    passage: Passage
    spans: tuple[Span, ...]
    hops: tuple[Hop, ...]


@dataclass(frozen=True, slots=True)
class _TaskBuilder:
    search: Search | None
    settings: RampSettings
    split: Literal["train", "test"]
    report: RampReport
    near_copies: NearCopies = field(default_factory=NearCopies)

    def prepare(self, passage: Passage, found: Sequence[Span]) -> _Candidate | None:
        """Return what may be masked, or None where nothing may; count what happened."""
        self.report.passages_read += 1
        self.report.spans_found += len(found)
        flaw = passage_flaw(passage, self.settings)
        if not flaw and self.settings.drop_near_copies and self.near_copies.holds_or_adds(passage.text):
            flaw = "near_copy"
        if flaw:
            self.report.drops[flaw] += 1
            return None
        usable = usable_spans(passage, found, self.settings, self.report.drops)
        if not usable:
            self.report.drops["no_spans"] += 1
            return None
        self.report.candidates += 1
        if self.search is None:
            return _Candidate(passage, usable, ())
        # Each span on its own first: drawing before looking would leave hardly a task with several masks.
        hops = [derive_hops(passage, (span,), self.settings.name_kinds)[0] for span in usable]
        # Searching takes most of the time, and nothing finds what no other passage holds.
        is_sought = [self.search.may_find(hop.answer, besides=passage.id) for hop in hops]
        return _Candidate(passage, tuple(compress(usable, is_sought)), tuple(compress(hops, is_sought)))

    def build(self, candidate: _Candidate) -> SearchTask | None:
        """Return a passage's task, or None where no set of answerable masks is found; count what happened."""
        masked = self._mask(candidate.passage, candidate.spans, candidate.hops)
        if masked is None:
            self.report.drops["unanswerable"] += 1
            return None
        task, spans = masked
        self.report.kept_by_mask_count[len(spans)] += 1
        draw = random.Random(content_id("question", self.settings.seed, candidate.passage.id)).random()
        is_asked = len(spans) == 1 and draw < self.settings.cloze_questions
        return as_cloze_question(task, candidate.passage, spans[0]) if is_asked else task

    def _mask(
        self, passage: Passage, usable: Sequence[Span], hops: Sequence[Hop]
    ) -> tuple[SearchTask, Sequence[Span]] | None:
        """Draw from the spans that can be looked up and mask them; None where those do not make a task."""
        if self.search is not None:
            usable = _pick(usable, self._find_support(passage, hops))
            self.report.spans_answerable += len(usable)
        spans = choose_spans(passage, usable, self.settings)
        while spans:
            hops = derive_hops(passage, spans, self.settings.name_kinds)
            task = build_task(passage, spans, hops, self.split)
            if self.search is None:
                return task, spans
            # Masked together the spans lose each other as context, so their queries are looked up once more.
            support = self._find_support(passage, task.hops)
            if all(support):
                return dataclasses.replace(task, gold_passage_ids=tuple(dict.fromkeys(support))), spans
            spans = _pick(spans, support)
        return None

    def _find_support(self, passage: Passage, hops: Sequence[Hop]) -> list[str]:
        """Return for each hop the id of the first retrieved passage that holds its answer, or `""`."""
        if self.search is None:
            return []
        guard = LeakGuard(passage.text, passage.id)
        results = self.search.search(
            [hop.query for hop in hops], self.settings.answerability_depth, guard=guard
        )
        return [
            next((found.passage.id for found in ranked if _holds(found.passage, hop.answer)), "")
            for hop, ranked in zip(hops, results, strict=True)
        ]


def _pick(spans: Sequence[Span], support: Sequence[str]) -> tuple[Span, ...]:
    return tuple(span for span, found in zip(spans, support, strict=True) if found)


def _holds(passage: Passage, answer: str) -> bool:
    return contains_phrase(f"{passage.title}\n{passage.text}", answer)
