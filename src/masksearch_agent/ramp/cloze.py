"""A fact of a passage as a question.

A small model that learned from masks reads them, and takes little of it over to questions: no masked passage says `who`
or `in which year`. So some facts are asked for in a question that a rule makes of their sentence (`ramp.questions`), in
the way of unsupervised question answering (Lewis et al., "Unsupervised Question Answering by Cloze Translation", 2019,
arXiv 1906.04980), without its learned translation. It is made from the passage alone.
"""

from __future__ import annotations

import random
from typing import Literal

from masksearch_agent.ramp.hops import content_words, kind_of
from masksearch_agent.ramp.lexicon.answer_kinds import KIND, fits_kind
from masksearch_agent.ramp.lexicon.glossary import Glossary
from masksearch_agent.ramp.lexicon.titles import CONTEXT
from masksearch_agent.ramp.spans import TERM, Span
from masksearch_agent.records import Evidence, Hop, Passage, SearchTask, content_id

__all__ = ("build_question", "worded_question")

_KIND_SHARE = 0.5
"""Of the persons: `who` is asked as often as `which poet`."""


def worded_question(span: Span, glossary: Glossary | None) -> tuple[str, str]:
    """Return the question for a span and what kind of thing it asks for; `""` for both where there is none.

    The kind is what the corpus calls the answer, where it does.
    """
    kind = glossary.kind_of(span) if glossary is not None and span.kind_question else ""
    kind = kind if fits_kind(span.kind_question, kind) else ""
    draw = random.Random(content_id("kind", span.question, span.text)).random()
    # "Which food is a type of food …?"
    is_new = kind not in span.kind_question.split()
    if kind and is_new and (span.label != "PERSON" or draw < _KIND_SHARE or not span.question):
        return span.kind_question.replace(KIND, kind), kind
    kind = "" if span.label.isupper() and span.label == TERM else kind_of(span)
    return (span.question, kind) if span.question else ("", "")


def build_question(
    passage: Passage,
    span: Span,
    glossary: Glossary | None = None,
    *,
    is_open: bool = False,
    split: Literal["train", "test"] = "train",
) -> SearchTask | None:
    """Return the task of answering a span's question; None where it has none.

    The leak guard withholds the passage, which the question does not show, unless the task is open; then the passage is
    what supports the answer.
    """
    question, kind = worded_question(span, glossary)
    if not question:
        return None
    if question.startswith(CONTEXT) and glossary is not None and glossary.is_ambiguous(passage.title):
        return None
    kind = kind or "answer"
    asked = question.removesuffix("?").removeprefix(CONTEXT)
    # Asked a second time, the question itself is the query.
    hop = span.hop or Hop(
        need=f'the {kind} in "{asked}"', query=" ".join(content_words(asked)), answer=span.text, kind=kind
    )
    return SearchTask(
        id=content_id("open" if is_open else "cloze", passage.id, question, ((span.text,),)),
        kind="qa",
        question=question,
        answers=((span.text,),),
        category="cloze",
        hops=(hop,),
        gold_passage_ids=(passage.id,) if is_open else (),
        source_passage_id=passage.id,
        split=split,
        source_text=passage.text,
        is_open=is_open,
        evidence=(Evidence(passage.title, passage.text),) if is_open else (),
    )
