from __future__ import annotations

import pytest

from masksearch_agent.ramp.lexicon import glossary
from masksearch_agent.ramp.lexicon.glossary import Glossary
from masksearch_agent.ramp.spans import IDENTIFIER, TERM, Span
from masksearch_agent.records import Passage
from masksearch_agent.text.matching import phrase_form


def span(text: str, label: str = TERM) -> Span:
    return Span(0, len(text), text, label)


PASSAGES = [
    Passage("0", "Tablespaces", "A tablespace is created by CREATE TABLESPACE, on a page with dead tuples."),
    Passage("1", "VACUUM", "VACUUM removes dead tuples, and the tablespace stays."),
    *(
        Passage(str(number), f"Page {number}", "The server uses the data of the widget.")
        for number in range(2, 60)
    ),
]
GLOSSARY = Glossary(PASSAGES)


def test_a_phrase_is_as_frequent_as_the_passages_that_hold_it() -> None:
    assert GLOSSARY.frequency("dead tuples") == 2
    assert GLOSSARY.frequency("Dead Tuples") == 2
    assert GLOSSARY.frequency("widget") == 58
    assert GLOSSARY.frequency("Danube") == 0
    assert GLOSSARY.frequency("") == 0


@pytest.mark.parametrize(
    ("found", "flaw"),
    [
        (span("tablespace"), ""),
        # Own words, and nobody says what they are.
        (span("dead tuples"), "undefined_term"),
        (span("tuples package"), ""),
        (span("VACUUM", IDENTIFIER), ""),
        (span("widget"), "frequent_term"),
        (span("good idea"), "general_words"),
        (span("zygote"), "no_heading"),
        (span("good idea", "PERSON"), ""),
    ],
)
def test_a_term_is_worth_asking_for_where_it_is_the_corpus_own(found: Span, flaw: str) -> None:
    assert GLOSSARY.flaw(found) == flaw


def test_a_definition_says_what_kind_of_thing_it_is() -> None:
    glossary = Glossary(
        [
            Passage("a", "Danube", "The Danube is a river in Europe."),
            Passage("b", "Rhine (Europe)", "The Rhine is a major European river, known for its castles."),
            Passage("c", "Ann Bo", "Ann Bo is a 1990 film. The Danube was a great help to it."),
            Passage("d", "Oder", "Oder is a 1991 film with music."),
        ]
    )
    assert glossary.kind_of(span("Danube", "LOC")) == "river"
    assert glossary.kind_of(span("Rhine", "LOC")) == "river"
    assert glossary.kind_of(span("Elbe", "LOC")) == ""
    # A film that is named like a person is not that person.
    assert glossary.kind_of(span("Ann Bo", "PERSON")) == ""
    assert glossary.kind_of(span("Ann Bo", "WORK_OF_ART")) == "film"


def test_a_common_noun_is_masked_where_the_corpus_defines_it() -> None:
    glossary = Glossary(
        [*PASSAGES, Passage("d", "Notes", "A dead tuple is a row of a zygote that nobody sees.")]
    )
    assert glossary.flaw(span("dead tuples"), is_masked=True) == ""
    assert glossary.flaw(span("tuples package"), is_masked=True) == "undefined_term"


def test_a_phrase_of_general_words_is_asked_for_and_not_masked() -> None:
    passages = [*PASSAGES, *(Passage(f"n{n}", "Notes", "A data page is a page of data.") for n in range(3))]
    glossary = Glossary(passages)
    assert glossary.flaw(span("data page")) == ""
    assert glossary.flaw(span("data page"), is_masked=True) == "general_words"


def test_a_passage_that_breaks_is_left_out_with_its_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken_form(text: str) -> str:
        if "VACUUM" in text:
            raise ValueError("it breaks")
        return phrase_form(text)

    monkeypatch.setattr(glossary, "phrase_form", broken_form)
    made = Glossary(PASSAGES)
    assert {number: str(failure) for number, failure in made.broken.items()} == {"1": "it breaks"}
    assert (made.frequency("dead tuples"), made.frequency("widget")) == (1, 58)
    assert GLOSSARY.broken == {}


def test_a_heading_of_several_chapters_is_ambiguous() -> None:
    glossary = Glossary(
        [
            Passage(number, f"{number}. {name} › Note", "Some text of the chapter.")
            for number, name in (
                ("7.1", "Brewing"),
                ("7.1", "Brewing"),
                ("8.1", "Pouring"),
                ("9.1", "pouring"),
            )
        ]
    )
    assert glossary.is_ambiguous("8.1. Pouring")
    assert not glossary.is_ambiguous("7.1. Brewing › Note")
