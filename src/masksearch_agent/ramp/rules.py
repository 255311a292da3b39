"""The rules that a passage and its spans must pass before anything is masked.

They keep a task fair: a masked string that also stands in plain sight, in the title or elsewhere in the
passage, needs no search, and a passage of markup or of list items does not tell what is missing. Every rule
has a name, and every drop is counted under it.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

from masksearch_agent.config.ramp import RampSettings
from masksearch_agent.ramp.spans import Span
from masksearch_agent.records import MASK, Passage
from masksearch_agent.text.matching import contains_phrase
from masksearch_agent.text.words import count_words, is_chinese

__all__ = ("passage_flaw", "usable_spans")

_MARKUP = re.compile(r"[{}<>|=*_#\\\[\]~^]")
_MAX_MARKUP_SHARE = 0.02
_BULLET = re.compile(r"[-*•·–]\s|\d+[.)]\s")
_MIN_LIST_LINES = 4
_SHORT_LINE_WORDS = 5


def passage_flaw(passage: Passage, settings: RampSettings) -> str:
    """Return the name of the first rule that a passage breaks, or `""` where it can be masked."""
    if MASK in passage.title or MASK in passage.text:
        return "holds_mask_marker"
    if count_words(passage.text) < settings.min_passage_words:
        return "short_passage"
    if len(_MARKUP.findall(passage.text)) > _MAX_MARKUP_SHARE * len(passage.text):
        return "markup"
    if _is_list(passage.text):
        return "list"
    return ""


def usable_spans(
    passage: Passage, spans: Sequence[Span], settings: RampSettings, drops: Counter[str]
) -> tuple[Span, ...]:
    """Return the spans that may be masked, in the order of the text and without overlaps.

    The others are counted in `drops` by the name of the rule they break.
    """
    kept: list[Span] = []
    for span in sorted(spans, key=lambda span: (span.start, -span.end)):
        flaw = _span_flaw(passage, span, settings)
        if not flaw and kept and span.start < kept[-1].end:
            flaw = "overlap"
        if flaw:
            drops[flaw] += 1
        else:
            kept.append(span)
    return tuple(kept)


def _span_flaw(passage: Passage, span: Span, settings: RampSettings) -> str:
    if span.label in settings.skipped_labels:
        return "skipped_label"
    if not re.search(r"\w", passage.text[: span.start]):
        return "first_token"
    if "\n" in span.text:
        return "line_break"
    # A Chinese word has two characters more often than not.
    if count_words(span.text) > settings.max_span_words * (1 + is_chinese(span.text)):
        return "long_span"
    if contains_phrase(passage.title, span.text):
        return "in_title"
    rest = f"{passage.text[: span.start]}\n{passage.text[span.end :]}"
    if not re.search(r"\w", span.text) or contains_phrase(rest, span.text):
        return "repeated"
    # "first" or "two years" can be guessed from the sentence and is found by chance in any other one.
    if span.hop is None and span.text.islower() and not re.search(r"\d", span.text):
        return "common_words"
    return ""


def _is_list(text: str) -> bool:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    items = sum(bool(_BULLET.match(line)) or count_words(line) <= _SHORT_LINE_WORDS for line in lines)
    return len(lines) >= _MIN_LIST_LINES and 2 * items > len(lines)
