"""Spans: the facts of a passage that could be masked.

An extractor streams over passages and says what could be masked; `rules` then decides what may be. Extractors
read a passage as it is, so offsets always index `passage.text`.
"""

from __future__ import annotations

import re
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from masksearch_agent.failures import is_outage, stops_run
from masksearch_agent.records import Hop, Passage

__all__ = (
    *("IDENTIFIER", "TERM", "FactMention", "FactSpanExtractor", "PassagesWithSpans", "Span", "SpanExtractor"),
    *("CarefulExtractor", "trimmed_spans"),
)

_LEADING = re.compile(r"(?:[\s\"'“”‘’,;:(–-]+|(?:the|a|an)\s+)+", re.IGNORECASE)
_TRAILING = re.compile(r"(?:['’]s)?[\s\"'“”‘’,;:(–-]*$")


IDENTIFIER, TERM = "IDENTIFIER", "TERM"
"""Labels of what is found without a model of news: code-like words, and noun phrases."""


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
    """A question that it answers (`ramp.questions`); `""` where no rule makes one."""
    kind_question: str = ""
    """The same with a slot for what kind of thing it is, where one fits."""
    flaw: str = ""
    """Why it must not be used, where the extractor knows: its sentence is no prose."""


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


@dataclass(frozen=True)
class CarefulExtractor:
    """Finds what another extractor finds, and leaves out the passages that break it.

    Extractors read batches, so those that were under way when one broke are read again in ever smaller parts.
    """

    extractor: SpanExtractor
    on_failure: Callable[[Passage, Exception], None]
    """Called with each passage that is left out. What breaks more than a passage is raised."""

    def extract(self, passages: Iterable[Passage]) -> PassagesWithSpans:
        """Yield each passage with its spans, without those that cannot be read."""
        under_way: deque[Passage] = deque()
        source = _Source(iter(passages), under_way)
        while True:
            try:
                for passage, spans in self.extractor.extract(source):
                    while under_way.popleft() is not passage:
                        pass  # One that the extractor left out itself.
                    yield passage, spans
                return
            except Exception as failure:
                if source.is_broken:
                    raise
                broken = tuple(under_way)
                under_way.clear()
                yield from self._extract_parts(broken, failure)

    def _extract_parts(self, passages: Sequence[Passage], failure: Exception) -> PassagesWithSpans:
        if stops_run(failure) or is_outage(failure) or not passages:
            raise failure
        if len(passages) == 1:
            self.on_failure(passages[0], failure)
            return
        half = len(passages) // 2
        for part in (passages[:half], passages[half:]):
            try:
                found = list(self.extractor.extract(part))
            except Exception as of_part:  # noqa: BLE001 (raised again where it is more than a passage's)
                yield from self._extract_parts(part, of_part)
            else:
                yield from found


@dataclass
class _Source:
    """Passages on their way to an extractor; iterated again, it goes on where it was."""

    passages: Iterator[Passage]
    under_way: deque[Passage]
    is_broken: bool = False
    """Whether it was the corpus that raised."""

    def __iter__(self) -> Iterator[Passage]:
        return self

    def __next__(self) -> Passage:
        try:
            passage = next(self.passages)
        except StopIteration:
            raise
        except BaseException:
            self.is_broken = True
            raise
        self.under_way.append(passage)
        return passage


def trimmed_spans(found: Iterable[tuple[int, str, str]]) -> tuple[Span, ...]:
    """Return starts, texts and labels as spans, without articles, quotes and possessive endings; no empty one."""
    spans = []
    for start, text, label in found:
        leading = _LEADING.match(text)
        skipped = leading.end() if leading else 0
        if kept := _TRAILING.sub("", text[skipped:]):
            spans.append(Span(start + skipped, start + skipped + len(kept), kept, label))
    return tuple(spans)
