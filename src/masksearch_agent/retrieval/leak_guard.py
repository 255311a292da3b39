"""Withhold the passage a RAMP task was made from, and near copies of it.

At training time a model must not find the unmasked passage itself: it would learn to look the text up word
by word instead of finding its facts elsewhere. Corpora repeat themselves (mirrors, revisions, overlapping
cuts), so the id alone is not enough. Two texts are compared by *containment*: the share of the smaller one's
word 4-grams that the other one has (Broder, "On the resemblance and containment of documents", 1997). It
catches a copy inside a longer page as well as a snippet of the source.
"""

from __future__ import annotations

from masksearch_agent.records import MASK, Passage, SearchTask
from masksearch_agent.text.words import word_shingles

__all__ = ("LeakGuard",)

_THRESHOLD = 0.6
"""Containment from which a passage is withheld."""


class LeakGuard:
    """Tells which passages would give a task's source away: a text without title and masks, of a passage if known."""

    def __init__(self, source_text: str, source_passage_id: str = "") -> None:
        self._shingles = word_shingles(source_text)
        self._passage_id = source_passage_id

    @classmethod
    def for_task(cls, task: SearchTask) -> LeakGuard | None:
        """Return the guard that a task needs; None for a question of a benchmark, which has no source passage, and for
        one whose source may be found.

        The source text of a masked passage is the task's `title: text with [mask]`, each mask filled with its first
        accepted answer and the title left out.
        """
        if not task.is_made_from_passage or task.is_open:
            return None
        if task.source_text:
            return cls(task.source_text, task.source_passage_id)
        title, separator, text = task.question.partition(": ")
        # Titles are never masked, so a mask before the colon means that the passage has no title.
        masked = text if separator and MASK not in title else task.question
        head, *tails = masked.split(MASK)
        source = head + "".join(answers[0] + tail for answers, tail in zip(task.answers, tails, strict=True))
        return cls(source, task.source_passage_id)

    def withholds(self, passage: Passage) -> bool:
        """Whether a passage is the source or a near copy of it."""
        # In a vector store of an application's own, the passages' ids are those of documents.
        if self._passage_id and self._passage_id in (passage.id, passage.document_id):
            return True
        shingles = word_shingles(passage.text)
        smaller = min(len(shingles), len(self._shingles))
        return smaller > 0 and len(shingles & self._shingles) >= _THRESHOLD * smaller
