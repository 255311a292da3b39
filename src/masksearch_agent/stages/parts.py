"""The stage that deals a corpus: documents to train on, and documents to be examined on.

Invariant: a document is in one part only. Which one depends on its id and the seed, not on its place in the corpus.
"""

from __future__ import annotations

import heapq
import json
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from masksearch_agent.config.corpus import CorpusSettings
from masksearch_agent.config.exam import ExamSettings
from masksearch_agent.errors import TaskError
from masksearch_agent.files import replace_text
from masksearch_agent.jsonl import read_jsonl, write_jsonl
from masksearch_agent.records import Passage, content_id
from masksearch_agent.stages.display import Bar, count_steps
from masksearch_agent.stages.stage import Artifact, Corpus, Site, Stage
from masksearch_agent.stages.tasks import MENTIONS, corpus_passages

__all__ = ("Parts",)

_PASSAGES = "passages.jsonl"
_FEW_DOCUMENTS = 50
"""A tenth of fewer than these says little of the others: a folder of five manuals is dealt by stretches of them."""
_STRETCH = 10
"""Passages in a row."""
_UNITS_PER_QUESTION = 50
"""At most: no more is held back than the questions need, however large the corpus. One passage in two to ten gives
a task."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Parts(Stage):
    """Deals the passages of a corpus to a part for training and to the parts of two exams."""

    kind = "parts"

    corpus: Corpus
    reading: CorpusSettings
    settings: ExamSettings
    seed: int

    @property
    def train(self) -> Corpus:
        """What training tasks are made from."""
        return Corpus("train", self)

    @property
    def validation(self) -> Corpus:
        """What the exam that decides is made from, in random order."""
        return Corpus("validation", self)

    @property
    def exam(self) -> Corpus:
        """What the exam that is reported is made from, in random order."""
        return Corpus("exam", self)

    @property
    def counts(self) -> Artifact:
        """A JSON file: what was dealt (`unit`), and how many passages are in each part."""
        return Artifact("parts.json", self)

    def work(self, folder: Path, site: Site, bar: Bar) -> None:
        """Deal them.

        Raises:
            TaskError: There are too few documents for three parts.
        """
        corpus, read = site.where(self.corpus), folder / "read.jsonl"
        seen = _Units(self.seed)
        passages = count_steps(corpus_passages(corpus, self.reading), bar)
        write_jsonl(read, seen.note(passages))
        validation, exam = self._choose(seen, corpus)
        dealt: dict[Corpus, list[Passage]] = {self.validation: [], self.exam: []}

        def left_over() -> Iterator[Passage]:
            for passage in read_jsonl(read, Passage, TaskError):
                unit = seen.unit(passage)
                part = self.validation if unit in validation else self.exam if unit in exam else None
                if part is None:
                    yield passage
                else:
                    dealt[part].append(passage)

        counts = {"train": write_jsonl(folder / self.train.path / _PASSAGES, left_over())}
        for part, held_out in dealt.items():
            # The first tasks that are made of them are then of any document.
            held_out.sort(key=lambda passage: content_id(self.seed, passage.id))
            counts[part.path] = write_jsonl(folder / part.path / _PASSAGES, held_out)
        for part in (self.train, *dealt):
            if (mentions := corpus / MENTIONS).is_file():
                shutil.copyfile(mentions, folder / part.path / MENTIONS)
        replace_text(folder / self.counts.path, json.dumps({"unit": seen.name, **counts}, indent=2) + "\n")
        read.unlink()

    def _choose(self, seen: _Units, corpus: Path) -> tuple[set[int], set[int]]:
        """Return which units are held back for validation and for the exam: those with the lowest hashes."""
        wanted, deciding = self.settings.questions, self.settings.validation_questions
        units = seen.units
        count = max(2, round(self.settings.documents * len(units)))
        count = min(count, _UNITS_PER_QUESTION * (wanted + deciding))
        if len(units) <= count:
            raise TaskError(
                f"{corpus} has too few passages to hold an exam back ({len(units)}); add documents, or train without "
                f"one (`--set exam.documents=0`) and pass questions with --test"
            )
        held_out = heapq.nsmallest(count, units)
        split = min(max(1, round(count * deciding / (wanted + deciding))), count - 1)
        return set(held_out[:split]), set(held_out[split:])


@dataclass(slots=True)
class _Units:
    """What is dealt in one piece: documents or, where there are few, stretches of them. Units are 64-bit hashes."""

    seed: int
    documents: set[int] = field(default_factory=set)
    stretches: set[int] = field(default_factory=set)
    """Empty once they are not needed, which saves memory on a large corpus."""

    def note(self, passages: Iterable[Passage]) -> Iterator[Passage]:
        """Yield passages as they are, and remember the units that they are of."""
        for passage in passages:
            self.documents.add(self._document(passage))
            if self.has_many:
                self.stretches.clear()
            else:
                self.stretches.add(self._stretch(passage))
            yield passage

    @property
    def has_many(self) -> bool:
        """Whether whole documents are dealt."""
        return len(self.documents) >= _FEW_DOCUMENTS

    @property
    def units(self) -> set[int]:
        """All that were seen."""
        return self.documents if self.has_many else self.stretches

    @property
    def name(self) -> str:
        """What they are, for people to read."""
        return "documents" if self.has_many else f"stretches of {_STRETCH} passages"

    def unit(self, passage: Passage) -> int:
        """Return what a passage is dealt with."""
        return self._document(passage) if self.has_many else self._stretch(passage)

    def _document(self, passage: Passage) -> int:
        """Rows of a table name no document: those of one title are taken for one."""
        return self._hash(passage.document_id or passage.title or passage.id)

    def _stretch(self, passage: Passage) -> int:
        if not passage.document_id:
            return self._hash(passage.id)
        return self._hash(passage.document_id, passage.position // _STRETCH)

    def _hash(self, *parts: object) -> int:
        return int(content_id(self.seed, *parts), 16)
