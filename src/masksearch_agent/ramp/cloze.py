"""A masked sentence as a question.

A small model that learned from masks reads them, and takes little of it over to questions: no masked passage says `who`
or `in which year`. So a masked sentence can be worded as a question by rule, in the way of unsupervised question
answering (Lewis et al., "Unsupervised Question Answering by Cloze Translation", 2019, arXiv 1906.04980), without its
learned translation: the mask becomes a question word of its kind, in its place or in front. The question is noisy, and
still made from the passage alone.
"""

from __future__ import annotations

import dataclasses
import random
import re

from masksearch_agent.ramp.hops import kind_of, sentence_around
from masksearch_agent.ramp.spans import Span
from masksearch_agent.records import Passage, SearchTask, content_id
from masksearch_agent.text.words import is_chinese

__all__ = ("as_cloze_question", "cloze_question")

_QUESTION_WORDS = {
    "CARDINAL": ("how many",),
    "DATE": ("when",),
    "FAC": ("where",),
    "GPE": ("where",),
    "LOC": ("where",),
    "MONEY": ("how much money",),
    "PERSON": ("who",),
    "QUANTITY": ("how much",),
    "TIME": ("when",),
}
"""Beside `which …` and `what …` with the kind itself, which every label has."""
_WORDS_BEFORE = 16
_WORDS_AFTER = 10
"""A question of a benchmark has about twenty words; the words nearest to the mask are kept."""
_PRONOUN = re.compile(r"(?:he|she|it|they)\b", re.IGNORECASE)
_POSSESSIVE = re.compile(r"(?:his|her|its|their)\b", re.IGNORECASE)
_PARENTHESES = re.compile(r"\s*\([^()]*\)")
_SPACE_BEFORE_POINT = re.compile(r"\s+(?=[,.;:])")


def as_cloze_question(task: SearchTask, passage: Passage, span: Span) -> SearchTask:
    """Return a task with one mask as a question for its fact; Chinese text stays as it is.

    The leak guard goes on withholding the passage, which the question no longer shows. Where the extractor knows how to
    ask for the fact or how to look it up, that is taken.
    """
    if is_chinese(passage.text):
        return task
    question = span.question or cloze_question(passage, span)
    (hop,) = task.hops
    if span.hop is None:
        kind = kind_of(span)
        # Asked a second time, the question itself is the query.
        hop = dataclasses.replace(hop, need=f'the {kind} in "{question.removesuffix("?")}"', kind=kind)
    return dataclasses.replace(
        task,
        id=content_id("cloze", passage.id, question, task.answers),
        kind="qa",
        category="cloze",
        question=question,
        hops=(hop,),
        source_text=passage.text,
    )


def cloze_question(passage: Passage, span: Span) -> str:
    """Return the sentence around a span, which is no part of the title, as a question for it; English text only.

    Which question word is taken and where it stands is drawn by the passage's id. What the sentence calls `he` or `it`
    is named by the passage's title; a sentence that does not say what it is about has the title behind it.
    """
    draw = random.Random(content_id("cloze", passage.id))
    kind = kind_of(span)
    words = draw.choice((*_QUESTION_WORDS.get(span.label, ()), f"which {kind}", f"what {kind}"))
    subject = _PARENTHESES.sub("", passage.title).strip()
    before, after = sentence_around(passage.text[: span.start], passage.text[span.end :])
    before = _named(before.strip(), subject)
    is_in_parentheses = before.count("(") > before.count(")")
    before = " ".join(before.split()[-_WORDS_BEFORE:])
    after = " ".join(after.split()[:_WORDS_AFTER]).rstrip(" .!?;:,")
    pieces = [before, words, after] if is_in_parentheses or draw.random() < 0.5 else [words, before, after]
    question = _SPACE_BEFORE_POINT.sub("", " ".join(piece for piece in pieces if piece))
    if subject and subject.casefold() not in question.casefold():
        question = f"{question}, in {subject}"
    return f"{question[:1].upper()}{question[1:]}?"


def _named(sentence_start: str, subject: str) -> str:
    """Put the subject in place of a pronoun that the sentence begins with."""
    for pattern, named in ((_PRONOUN, subject), (_POSSESSIVE, f"{subject}'s")):
        if subject and (found := pattern.match(sentence_start)):
            return named + sentence_start[found.end() :]
    return sentence_start
