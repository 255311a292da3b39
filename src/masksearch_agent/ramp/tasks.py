"""From passages with spans to RAMP tasks that can be answered by searching.

Retrieval-Augmented Mask Prediction (MaskSearch, arXiv 2505.20285, section 3.1): the question is a passage
with some of its facts masked. We add answerability, which the paper does not check: a mask stays only where
the rest of the corpus holds its answer, that is, where the search that the agent will use finds it without
the source passage and its near copies.

Invariant: building streams, and a task depends on its passage, the settings and the corpus, not on the order;
only of several near copies, and of passages that give the same question, it is the first that gives the task.
"""

from __future__ import annotations

import dataclasses
import random
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import compress, islice
from typing import Literal

from masksearch_agent.config.ramp import RampSettings
from masksearch_agent.failures import Failures, stops_run
from masksearch_agent.ramp.cloze import build_question
from masksearch_agent.ramp.extraction.rules import askable_spans, passage_flaw, usable_spans
from masksearch_agent.ramp.hops import derive_hops, mask_spans
from masksearch_agent.ramp.lexicon.glossary import Glossary
from masksearch_agent.ramp.lexicon.titles import CONTEXT
from masksearch_agent.ramp.masking import choose_spans
from masksearch_agent.ramp.near_copies import NearCopies
from masksearch_agent.ramp.spans import Span
from masksearch_agent.ramp.support import supports
from masksearch_agent.records import Hop, Passage, SearchTask, content_id
from masksearch_agent.retrieval.leak_guard import LeakGuard
from masksearch_agent.retrieval.search import Search
from masksearch_agent.text.matching import contains_phrase

__all__ = ("RampReport", "build_ramp_tasks", "build_task")

_MAX_COUNTED = 100_000
"""Passages whose phrases are counted, in a minute; of more of them everything recurs."""
_OWN_TITLE_SHARE = 0.15
"""Of the passages that could only be asked for their own title, what is asked so: who knows the title has not read."""
_SAME_WORDS = 6
"""At the end of a question, that make two passages say the same."""
_LOOK_AHEAD = 256
"""Passages whose spans are looked up together."""


@dataclass(slots=True)
class RampReport:
    """What building kept and dropped, counted while it runs."""

    passages_read: int = 0
    spans_found: int = 0
    candidates: int = 0
    """Passages with a usable span or question, before answerability was checked."""
    spans_answerable: int = 0
    """Usable spans of the candidates that the rest of the corpus answers."""
    drops: Counter[str] = field(default_factory=Counter)
    """Passages and spans by the name of the rule they break (`ramp.extraction.rules`). `no_spans`, `near_copy` and
    `unanswerable` count passages, the last those that no set of answerable masks was found for; `unasked` those of
    them that were to be asked and not masked."""
    kept_by_mask_count: Counter[int] = field(default_factory=Counter)
    """Tasks by their number of masks; questions count under 0."""
    open_questions: int = 0
    """Questions whose source passage may be found."""
    failures: Counter[str] = field(default_factory=Counter)
    """Passages that broke an extractor or a rule, by reason; they are among those read."""

    def note_unread(self, passage: Passage, failure: Exception) -> None:
        """Count a passage whose spans could not be found.

        Raises:
            Exception: The failure itself, where it is more than a passage's.
        """
        self.passages_read += 1
        Failures(reasons=self.failures).add(f"passage {passage.id}", failure)

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
    glossary = None
    if search is not None and settings.needs_glossary and 0 < len(search.passages) <= _MAX_COUNTED:
        glossary = Glossary(search.passages)
    if search is not None:
        search = search.for_run()  # What is looked up together is found again one by one.
    report = RampReport() if report is None else report
    builder = _TaskBuilder(search, settings, split, report, glossary)
    failures = Failures(reasons=report.failures)
    stream = iter(passages_with_spans)
    while read := list(islice(stream, 1 if search is None else _LOOK_AHEAD)):
        candidates: list[_Candidate] = []
        for passage, spans in read:
            with failures.costing(f"passage {passage.id}"):
                candidates += filter(None, [builder.prepare(passage, spans)])
        if search is not None:
            # Their first queries in one request: an embedder is much faster with many texts.
            queries = [hop.query for candidate in candidates for hop in candidate.first_hops]
            try:
                search.prefetch(queries, settings.answerability_depth)
            except Exception as failure:
                if stops_run(failure):
                    raise  # Anything else is met again, and counted, by the passage whose query it is.
        for candidate in candidates:
            task = None
            with failures.costing(f"passage {candidate.passage.id}"):
                task = builder.build(candidate)
                failures.note_success()
            if task is not None:
                yield task


@dataclass(frozen=True, slots=True)
class _Candidate:
    """A passage with spans that may be masked and found, and how each of them can be looked up on its own."""

    passage: Passage
    spans: tuple[Span, ...]
    hops: tuple[Hop, ...]
    questions: tuple[SearchTask, ...] = ()
    """What may be asked instead."""

    @property
    def first_hops(self) -> Sequence[Hop]:
        """What is looked up first."""
        if self.questions:
            return [hop for task in self.questions for hop in task.hops]
        return self.hops


@dataclass(frozen=True, slots=True)
class _TaskBuilder:
    search: Search | None
    settings: RampSettings
    split: Literal["train", "test"]
    report: RampReport
    glossary: Glossary | None = None
    near_copies: NearCopies = field(default_factory=NearCopies)
    asked: set[str] = field(default_factory=set)
    """Questions that were asked of an earlier passage."""

    def prepare(self, passage: Passage, found: Sequence[Span]) -> _Candidate | None:
        """Return what may be masked or asked, or None where nothing may; count what happened."""
        self.report.passages_read += 1
        self.report.spans_found += len(found)
        if self.glossary is not None and passage.id in self.glossary.broken:
            raise self.glossary.broken[passage.id]
        flaw = passage_flaw(passage, self.settings)
        if not flaw and self.settings.drop_near_copies and self.near_copies.holds_or_adds(passage.text):
            flaw = "near_copy"
        if flaw:
            self.report.drops[flaw] += 1
            return None
        usable = usable_spans(passage, found, self.settings, self.report.drops, self.glossary)
        questions = self._questions(passage, found)
        if not usable and not questions:
            self.report.drops["no_spans"] += 1
            return None
        self.report.candidates += 1
        if self.search is None:
            return _Candidate(passage, usable, (), questions)
        # Each span on its own first: drawing before looking would leave hardly a task with several masks.
        hops = [derive_hops(passage, (span,), self.settings.name_kinds)[0] for span in usable]
        # Searching takes most of the time, and nothing finds what no other passage holds.
        is_sought = [self.search.may_find(hop.answer, besides=passage.id) for hop in hops]
        return _Candidate(
            passage, tuple(compress(usable, is_sought)), tuple(compress(hops, is_sought)), questions
        )

    def build(self, candidate: _Candidate) -> SearchTask | None:
        """Return a passage's task, or None where no set of answerable masks is found; count what happened."""
        is_asked = self._draw(candidate.passage, "question") < self.settings.cloze_questions
        if is_asked and (task := self._ask(candidate)):
            if self.settings.drop_near_copies:
                self.asked.add(task.question)
            self.report.kept_by_mask_count[0] += 1
            self.report.open_questions += task.is_open
            return task
        if is_asked and self.settings.unasked == "drop":
            self.report.drops["unasked"] += 1
            return None
        masked = self._mask(candidate.passage, candidate.spans, candidate.hops)
        if masked is None:
            self.report.drops["unanswerable"] += 1
            return None
        task, spans = masked
        self.report.kept_by_mask_count[len(spans)] += 1
        return task

    def _draw(self, passage: Passage, what: str) -> float:
        return random.Random(content_id(what, self.settings.seed, passage.id)).random()

    def _questions(self, passage: Passage, found: Sequence[Span]) -> tuple[SearchTask, ...]:
        """Return what the passage may be asked, in a drawn order; nothing where it is to be masked."""
        if self._draw(passage, "question") >= self.settings.cloze_questions:
            return ()
        is_open = self._draw(passage, "open") < self.settings.open_share
        spans = askable_spans(found, self.settings, self.glossary)
        random.Random(content_id("asked", self.settings.seed, passage.id)).shuffle(spans)
        made = (
            build_question(passage, span, self.glossary, is_open=is_open, split=self.split) for span in spans
        )
        tasks = [task for task in made if task is not None]
        if self.glossary is not None:
            tasks = self._without_titles(passage, tasks)
        if self.search is None or is_open:
            return tuple(tasks)
        return tuple(task for task in tasks if self.search.may_find(task.answers[0][0], besides=passage.id))

    def _without_titles(self, passage: Passage, tasks: Sequence[SearchTask]) -> list[SearchTask]:
        """Return the questions whose answer is not in the passage's title; seldom one of the others where none is."""
        kept = [task for task in tasks if not contains_phrase(passage.title, task.answers[0][0])]
        is_seldom = self._draw(passage, "own_title") < _OWN_TITLE_SHARE
        return kept or (list(tasks[:1]) if is_seldom else [])

    def _ask(self, candidate: _Candidate) -> SearchTask | None:
        """Return the first question whose answer can be found."""
        questions = [task for task in candidate.questions if task.question not in self.asked]
        if self.search is None:
            return next(iter(questions), None)
        if any(task.is_open for task in questions):
            return next(
                (task for task in questions if not self._is_said_of_another(task, candidate.passage)), None
            )
        hops = [hop for task in questions for hop in task.hops]
        support = self._find_support(candidate.passage, hops)
        found = zip(questions, support, strict=True)
        return next((dataclasses.replace(task, gold_passage_ids=(of,)) for task, of in found if of), None)

    def _is_said_of_another(self, task: SearchTask, passage: Passage) -> bool:
        """Whether a passage without the answer says in the same words what is asked, so that it has two answers."""
        words = task.question.removeprefix(CONTEXT).rstrip("?").split()
        words = words if task.question.startswith(CONTEXT) else words[1:]  # `Which` is no name.
        said, answer = " ".join(words[-_SAME_WORDS:]), task.answers[0][0]
        if self.search is None or len(words) < _SAME_WORDS:
            return False
        names = {word for word in words if re.search(r"[A-Z\d_]", word)}
        guard = LeakGuard("", passage.id)  # A near copy of it that has another answer is what is looked for.
        (ranked,) = self.search.search([task.hops[0].query], self.settings.answerability_depth, guard=guard)
        texts = [f"{found.passage.title}\n{found.passage.text}" for found in ranked]
        return any(
            contains_phrase(text, said)
            and not contains_phrase(text, answer)
            and all(contains_phrase(text, name) for name in names)
            for text in texts
        )

    def _mask(
        self, passage: Passage, usable: Sequence[Span], hops: Sequence[Hop]
    ) -> tuple[SearchTask, Sequence[Span]] | None:
        """Draw from the spans that can be looked up and mask them; None where those do not make a task."""
        if self.search is not None:
            support = self._find_support(passage, hops, self._is_known(usable))
            usable = _pick(usable, support)
            self.report.spans_answerable += len(usable)
        spans = choose_spans(passage, usable, self.settings)
        while spans:
            hops = derive_hops(passage, spans, self.settings.name_kinds)
            task = build_task(passage, spans, hops, self.split)
            if self.search is None:
                return task, spans
            # Masked together the spans lose each other as context, so their queries are looked up once more.
            support = self._find_support(passage, task.hops, self._is_known(spans))
            if all(support):
                return dataclasses.replace(task, gold_passage_ids=tuple(dict.fromkeys(support))), spans
            spans = _pick(spans, support)
        return None

    def _find_support(self, passage: Passage, hops: Sequence[Hop], known: Sequence[bool] = ()) -> list[str]:
        """Return for each hop the id of the first retrieved passage that supports its answer, or `""`.

        Args:
            known: Whether the extractor knew how to look it up; False for all where empty.
        """
        if self.search is None or not hops:
            return []
        guard = LeakGuard(passage.text, passage.id)
        results = self.search.search(
            [hop.query for hop in hops], self.settings.answerability_depth, guard=guard
        )
        overlaps = [
            0.0 if is_known else self.settings.support_overlap for is_known in known or [False] * len(hops)
        ]
        return [
            next((found.passage.id for found in ranked if supports(found.passage, hop, passage, overlap)), "")
            for hop, ranked, overlap in zip(hops, results, overlaps, strict=True)
        ]

    @staticmethod
    def _is_known(spans: Sequence[Span]) -> list[bool]:
        return [span.hop is not None for span in spans]


def _pick(spans: Sequence[Span], support: Sequence[str]) -> tuple[Span, ...]:
    return tuple(span for span, found in zip(spans, support, strict=True) if found)
