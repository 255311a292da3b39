"""Spans by what they say."""

from __future__ import annotations

from masksearch_agent.ramp.spans import Span
from masksearch_agent.records import Hop


def find_span(
    text: str, fragment: str, label: str = "ENTITY", *, hop: Hop | None = None, occurrence: int = 0
) -> Span:
    """Return the span of a fragment of a text, where it occurs first or at a later occurrence."""
    start = -1
    for _ in range(occurrence + 1):
        start = text.index(fragment, start + 1)
    return Span(start, start + len(fragment), fragment, label, hop)
