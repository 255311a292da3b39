from __future__ import annotations

import pytest

from masksearch_agent.ramp.lexicon.manual_entries import entry_of, find_entries
from masksearch_agent.ramp.questions.from_manuals import described, purpose

PAGE = """
--quiet

The output gets shorter.

brew_strength (integer)

Sets the number of spoons of tea that go into one pot. The default is 2.

steep(minutes)

Return the colour of the tea after so many minutes, in steps of ten; see below.
"""


def questions(text: str, title: str) -> dict[str, str]:
    told = [described(text, entry, title) for entry in find_entries(text)]
    return {span.text: span.question for span in told if span is not None}


def test_an_option_is_asked_for_together_with_its_program() -> None:
    text = "-c count --count=count\n\nPrint only the first lines of the list of teas and exit."
    assert questions(text, "teapot") == {
        "--count": "In the context of teapot, which option prints only the first lines of the list of teas?"
    }


def test_a_setting_says_by_itself_what_it_sets() -> None:
    found = questions(PAGE, "20.1. Kitchen")
    assert found["brew_strength"] == "Which parameter sets the number of spoons of tea that go into one pot?"


def test_a_function_is_asked_for_in_the_third_person_up_to_the_end_of_its_clause() -> None:
    found = questions(PAGE, "9.1. Tea Functions")
    assert found["steep"] == (
        "In the context of Tea Functions, which function returns the colour of the tea after so many minutes, in "
        "steps of ten?"
    )


def test_only_the_first_of_two_things_that_it_does_is_told() -> None:
    text = "tea.pour(cup)\n\nFill the cup with the tea of the pot and return the number of drops."
    assert questions(text, "9.1. Kitchen Tools") == {
        "tea.pour": "In the context of Kitchen Tools, which function fills the cup with the tea of the pot?"
    }


def test_what_does_not_begin_with_what_it_does_is_not_asked() -> None:
    assert "--quiet" not in questions(PAGE, "teapot")


@pytest.mark.parametrize("sign", ["('D')", '("x")'])
def test_a_constant_in_quotes_is_no_function(sign: str) -> None:
    assert not list(find_entries(f"Byte1{sign}\n\nIdentifies the message as a request for tea."))


def test_the_first_line_of_a_manual_page_asks_for_its_command() -> None:
    span = purpose("BREW\n\nBREW — prepare a pot of strong tea\n\nSynopsis", "BREW")
    assert span is not None
    assert (span.text, span.question) == ("BREW", "Which command is used to prepare a pot of strong tea?")
    assert purpose("BREW — the tea program of the house", "BREW") is None
    assert purpose("POUR — fill a cup with hot tea", "BREW") is None


def test_what_two_entries_do_alike_tells_neither() -> None:
    same = "Produces a table of the teas of the whole house.\n\n"
    text = f"brew(pot)\n\n{same}brew_all(pot)\n\n{same}"
    assert not questions(text, "9.1. Kitchen Tools")


def test_half_of_an_inner_clause_is_not_asked() -> None:
    assert not questions(
        "hot_kettle (boolean)\n\nSpecifies whether or not you can brew and print labels at night.",
        "20.1. Tea",
    )


def test_two_verbs_in_a_row_are_not_asked() -> None:
    assert not questions("pour(cup)\n\nRead and return the colour of the tea in the cup.", "9.1. Tea")


@pytest.mark.parametrize(
    "text",
    [
        # A method of anything, another spelling of `get`, a placeholder of a synopsis.
        "save(pot)\n\nStore the tea of the pot for the guests of tomorrow.",
        "Pot.__get_tea__(name)\n\nReturn the tea of the pot that has the name of the guest.",
        "row_count\n\nSpecifies the number of rows of cups on the tray.",
        # Two things with one description.
        "steep_hot(pot)\nsteep_cold(pot)\n\nFill the tea of the pot with water from the kettle.",
        # Cut off at the parenthesis of a call; half of a list of verbs; true of much else.
        "steep(pot)\n\nFill the pot up to the next len(pot) spoons of tea leaves.",
        "steep(pot)\n\nFill or remove the tea of the pot before the guests come.",
        "steep(pot)\n\nSend the tea to the guests.",
    ],
)
def test_an_entry_that_says_too_little_is_not_asked(text: str) -> None:
    assert not questions(text, "9.1. Kitchen Tools")


@pytest.mark.parametrize(
    "text",
    [
        "Pot.get_tea(name)\n\nReturn the tea of the pot that has the name of the guest.",
        "Functions\n\nsteep_cold(pot)\n\nFill the tea of the pot with water from the kettle.",
        "steep(pot)\n\nFill the pot up to the next spoon of tea leaves.",
        "steep(pot)\n\nRemove the tea of the pot before the guests come.",
    ],
)
def test_an_entry_that_says_enough_is_asked(text: str) -> None:
    assert len(questions(text, "9.1. Kitchen Tools")) == 1


@pytest.mark.parametrize(
    "line", ["Thriller (1988)", "Career (1990–2005)", "Exports", "class struggle is old"]
)
def test_a_heading_of_an_article_is_no_entry(line: str) -> None:
    assert not list(find_entries(f"{line}\n\nSets the scene of the whole play in the harbour."))


def test_the_name_of_a_class_makes_an_ordinary_word_an_answer() -> None:
    text = "Pot.save(shelf)\n\nStore the tea of the pot for the guests of tomorrow."
    assert list(questions(text, "9.1. Kitchen Tools")) == ["Pot.save"]


@pytest.mark.parametrize(
    ("text", "entry"),
    [
        ("steep(pot)\n\nBrew it.\n\nPot.pour(cup)\n\nFill a cup HERE.", "Pot.pour"),
        ("exception ColdTea\n\nRaised HERE.", "ColdTea"),
        ("pour\n\nFills a cup.\n\nint pour_cup(pot *np, int *ip);\n\nIt is HERE.", "pour_cup"),
        ("The tea is HERE.", ""),
        ("Fill it HERE.\n\nPot.pour(cup)\n\nFill a cup.", None),
        ("It is HERE.\n\nPot.pour(cup)\n\nFill a cup.", None),
        ("The kitchen HERE has a pot.\n\nPot.pour(cup)\n\nFill a cup.", ""),
        ("HERE(cup)\n\nFill a cup.", "HERE"),
    ],
)
def test_a_place_belongs_to_the_entry_above_it(text: str, entry: str | None) -> None:
    assert entry_of(text, text.index("HERE")) == entry
