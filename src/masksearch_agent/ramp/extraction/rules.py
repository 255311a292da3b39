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
from masksearch_agent.ramp.extraction.whole_spans import is_said_beside
from masksearch_agent.ramp.hops import sentence_around
from masksearch_agent.ramp.lexicon.glossary import Glossary
from masksearch_agent.ramp.lexicon.manual_entries import is_of_manual
from masksearch_agent.ramp.spans import IDENTIFIER, TERM, Span
from masksearch_agent.records import MASK, Passage
from masksearch_agent.text.matching import contains_phrase
from masksearch_agent.text.words import count_words, is_chinese

__all__ = ("askable_spans", "passage_flaw", "usable_spans")

_MARKUP = re.compile(r"[{}<>|=*_#\\\[\]~^]")
_MAX_MARKUP_SHARE = 0.02
_BULLET = re.compile(r"[-*•·–]\s|\d+[.)]\s")
_MIN_LIST_LINES = 4
_SHORT_LINE_WORDS = 5
_NAVIGATION = re.compile(
    r"\b(?:prev(?:ious)?|next|home|up)\b[\s|«»<>]*\b(?:prev(?:ious)?|next|home|up)\b", re.IGNORECASE
)
_BARE_NUMBER = re.compile(r"[\W\d]*\d{1,2}\W*")
_NUMBER_WORD = re.compile(
    r"(?:zero|one|two|three|four|five|six|seven|eight|nine|ten|first|second|third|fourth|fifth|once|twice)",
    re.IGNORECASE,
)
_MIN_NUMBER = 4
"""Characters from which a number without a unit says something."""
_ITEM_BEFORE = re.compile(r"(?:,|\b(?:and|or))\s*$")
_LAST_ITEM = re.compile(r",[^,.;]{1,40},\s*(?:and|or)\s*$")
_FIRST_ITEM = re.compile(r"\s*,\s[\w-]+(?:\s[\w-]+)?\s?,\s")
_ITEM_AFTER = re.compile(r"\s*(?:,|(?:and|or)\b)")
_MAX_NAVIGATION_WORDS = 40
"""A longer passage that links to the next page tells something too."""
_UNTOLD = frozenset({TERM, "CARDINAL", "ORDINAL", "QUANTITY", "PERCENT", "ORG", "PRODUCT", "WORK_OF_ART"})
"""What a manual has too many of for a mask of it to have one fill."""
_PLAIN_WORD = re.compile(r"[A-Z][a-z]+")
_START_OF_SENTENCE = re.compile(r"(?:^|[.!?:]\s+|\n[-*•]?\s*)$")
_BEHIND_OTHERS = re.compile(r"(?:\b(?:and|or)|[\w.()]+,\s[\w.()]+,)\s+$")
_BEFORE_OTHERS = re.compile(r"\s+(?:and|or)\b|,\s[\w.()]+(?:,|\s(?:and|or))\s")
_OWN_KIND = "protocols?|function|method|parameter|option|command|class|call|routine|contents?|meaning|way"
_LEANING = re.compile(
    r"^\W*(?:It|They|This|These|Those|Such|Both)\b|\babove\b(?! \d)"
    rf"|\b(?:this|these|those|the same) (?:{_OWN_KIND})\b"
)
"""A sentence of a manual that says of its subject only that it was named before."""
_NUMBERED_HEADING = re.compile(r"(?<![\w.])(?:[A-Z]|\d+)(?:\.\d+)+\.?\s+[A-Z]|\.{4,}\s*\d+|(?:\. ){4,}\s*\d+")
_MIN_HEADINGS = 4
_SENTENCE = re.compile(r"(?:[^\W\d_][\w'’-]*[,;]?\s+){4,}[^\n]*?[.!?:](?=[\s\"”’)\]]|$)|[。！？]")
_MIN_PROSE = 0.4
"""Share of the characters of prose in lines that hold a sentence."""


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
    if _NAVIGATION.search(passage.text) and count_words(passage.text) <= _MAX_NAVIGATION_WORDS:
        return "navigation"
    if len(_NUMBERED_HEADING.findall(passage.text)) >= _MIN_HEADINGS:
        return "table_of_contents"
    return "" if _has_sentences(passage.text) else "no_prose"


def usable_spans(
    passage: Passage,
    spans: Sequence[Span],
    settings: RampSettings,
    drops: Counter[str],
    glossary: Glossary | None = None,
) -> tuple[Span, ...]:
    """Return the spans that may be masked, in the order of the text and without overlaps; terms where the glossary,
    if there is one, has nothing against them.

    The others are counted in `drops` by the name of the rule they break.
    """
    kept: list[Span] = []
    is_manual = is_of_manual(passage)
    for span in sorted(spans, key=lambda span: (span.start, -span.end)):
        flaw = _span_flaw(passage, span, settings, is_manual) or (
            glossary.flaw(span, is_masked=True) if glossary else ""
        )
        if not flaw and kept and span.start < kept[-1].end:
            flaw = "overlap"
        if flaw:
            drops[flaw] += 1
        else:
            kept.append(span)
    return tuple(kept)


def askable_spans(
    spans: Sequence[Span], settings: RampSettings, glossary: Glossary | None = None
) -> list[Span]:
    """Return the spans that have a question and are worth asking for.

    What a mask may not be, an answer may: the title, or what the passage says more than once.
    """
    return [
        span
        for span in spans
        if (span.question or span.kind_question)
        and span.label not in settings.skipped_labels
        and count_words(span.text) <= settings.max_span_words
        and not (span.label == TERM and span.text.islower() and glossary is None)
        and not (glossary is not None and glossary.flaw(span))
    ]


def _span_flaw(passage: Passage, span: Span, settings: RampSettings, is_manual: bool) -> str:
    if span.label in settings.skipped_labels:
        return "skipped_label"
    if span.flaw:
        return span.flaw
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
    if span.hop is None and settings.spans != "entities":
        if (_BARE_NUMBER.fullmatch(span.text) and len(span.text) < _MIN_NUMBER) or _NUMBER_WORD.fullmatch(
            span.text
        ):
            return "bare_number"
        before, after = passage.text[: span.start], passage.text[span.end :]
        is_item = _ITEM_BEFORE.search(before) and _ITEM_AFTER.match(after)
        if is_item or _LAST_ITEM.search(before) or _FIRST_ITEM.match(after):
            return "enumeration"
        if is_said_beside(passage.text, span, passage.title):
            return "said_beside"
    if span.hop is None and is_manual and (flaw := _flaw_in_manual(passage.text, span)):
        return flaw
    # "first" or "two years" can be guessed from the sentence and is found by chance in any other one.
    if (
        span.hop is None
        and span.label not in (TERM, IDENTIFIER)
        and span.text.islower()
        and not re.search(r"\d", span.text)
    ):
        return "common_words"
    return ""


def _flaw_in_manual(text: str, span: Span) -> str:
    before, after = text[: span.start], text[span.end :]
    is_first = _PLAIN_WORD.fullmatch(span.text) is not None and _START_OF_SENTENCE.search(before)
    is_plain = span.text.isalpha() and span.text.islower()
    if span.label in _UNTOLD or is_first or is_plain:
        # `transactions`, `32`, `Manually`, `toggles`: without a question, others fit as well.
        return "no_identifier"
    if _BEHIND_OTHERS.search(before) or _BEFORE_OTHERS.match(after):
        return "enumeration"  # "as per to_json or to_jsonb"
    if any(_LEANING.search(part) for part in sentence_around(before, after)):
        return "leaning"
    return ""


def _has_sentences(text: str) -> bool:
    lines = [line for line in text.splitlines() if line.strip()]
    told = sum(len(line) for line in lines if _SENTENCE.search(line))
    return told >= _MIN_PROSE * sum(map(len, lines))


def _is_list(text: str) -> bool:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    items = sum(bool(_BULLET.match(line)) or count_words(line) <= _SHORT_LINE_WORDS for line in lines)
    return len(lines) >= _MIN_LIST_LINES and 2 * items > len(lines)
