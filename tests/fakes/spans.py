"""Spans by what they say, and the questions that are asked for them."""

from __future__ import annotations

from masksearch_agent.ramp.spans import Span, SpanExtractor
from masksearch_agent.records import Hop, Passage


def find_span(
    text: str, fragment: str, label: str = "ENTITY", *, hop: Hop | None = None, occurrence: int = 0
) -> Span:
    """Return the span of a fragment of a text, where it occurs first or at a later occurrence."""
    start = -1
    for _ in range(occurrence + 1):
        start = text.index(fragment, start + 1)
    return Span(start, start + len(fragment), fragment, label, hop)


def ask(extractor: SpanExtractor, text: str, title: str = "") -> dict[str, str]:
    """Return the question of each span that has one."""
    ((_, spans),) = extractor.extract([Passage("p", title, text)])
    return {span.text: span.question for span in spans if span.question}
