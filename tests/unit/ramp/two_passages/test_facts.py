from __future__ import annotations

import pytest

from masksearch_agent.ramp.two_passages.facts import read_profile
from masksearch_agent.records import Passage


def facts(title: str, text: str) -> dict[str, str]:
    profile = read_profile(Passage("p", title, text))
    assert profile is not None
    return profile.facts


@pytest.mark.parametrize(
    ("title", "text", "relation", "value"),
    [
        ("X", "X is a 1932 film written and directed by Ann Lee.", "director", "Ann Lee"),
        (
            "X",
            "X is a film. The film was directed by award-winning director Ann de Lee.",
            "director",
            "Ann de Lee",
        ),
        (
            "X (song)",
            'X is a song by American rock band Bad Ants, from their third album "So So".',
            "performer",
            "Bad Ants",
        ),
        ("X (song)", 'X is a song by Bad Ants. It is from their album "So So".', "single_of", "So So"),
        ("Bo Ek", "Bo Ek( 13 March 1951 – 8 July 2018) was an Italian poet.", "death_date", "8 July 2018"),
        (
            "Bo Ek",
            "Bo Ek (; ] ; born December 26, 1963) is a Danish poet.",
            "birth_date",
            "December 26, 1963",
        ),
        ("Bo Ek", "Bo Ek (born 1950, Kingston, Jamaica) is a poet.", "birth_place", "Kingston, Jamaica"),
        (
            "Bo Ek",
            "Bo Ek is a poet.Ek was born in Perth, Western Australia.",
            "birth_place",
            "Perth, Western Australia",
        ),
        (
            "Iran",
            "Iran, also known as Persia, is a country in West Asia. Its capital is Tehran.",
            "capital",
            "Tehran",
        ),
        (
            "Iran",
            "Iran is a country in Asia. With a population of over 92 million, it is big.",
            "population",
            "92 million",
        ),
        ("Orly", "Orly is a town in Oise, in northern France.", "country", "France"),
        ("Works Co", "Works Co is a company. It was founded in May 1923 by Cy Do.", "founded", "May 1923"),
    ],
)
def test_reads_what_a_passage_says_of_its_title(title: str, text: str, relation: str, value: str):
    assert facts(title, text)[relation] == value


@pytest.mark.parametrize(
    ("text", "relation"),
    [
        ("X is a film based on a play written by Bo Ek.", "writer"),
        ("X is a film. The play was directed by Bo Ek.", "director"),
        ("X is a film directed by Bo Ek, Ann Lee and Cy Do.", "director"),
    ],
)
def test_what_is_said_of_something_else_is_left(text: str, relation: str):
    assert relation not in facts("X", text)


def test_a_city_does_not_have_the_people_of_its_surroundings():
    text = "Orly is a city in France. It has a population of 3.3 million in the metropolitan area."
    assert "population" not in facts("Orly", text)


@pytest.mark.parametrize(
    ("title", "text"),
    [
        ("PostgreSQL", "Prev Up Next. Logical Streaming Replication Protocol."),
        ("Ann Lee", "Her brother was a poet."),
        ("", "It is a film directed by Ann Lee."),
    ],
)
def test_a_passage_that_does_not_define_its_title_has_no_profile(title: str, text: str):
    assert read_profile(Passage("p", title, text)) is None


def test_the_noun_of_two_fields_is_the_one_behind_them():
    profile = read_profile(Passage("p", "Ann Lee", "Ann Lee is an American film and television director."))
    assert profile is not None
    assert (profile.kind, profile.noun, profile.nationality) == ("person", "director", "American")


def test_years_behind_the_verb_are_no_life() -> None:
    found = facts("Bo Ek", "Bo Ek was a Danish poet whose trilogy (1941–1955) is read in Perth.")
    assert "birth_date" not in found


def test_what_is_said_of_a_part_is_not_said_of_the_whole() -> None:
    text = "Go Air is an airline from Perth. Its call sign Bird is named after the poet Bo Ek."
    assert "named_after" not in facts("Go Air", text)
    assert facts("Go Air", "Go Air is an airline. Its headquarters are in Perth.")["based"] == "Perth"


def test_who_made_a_character_founded_nothing() -> None:
    assert "founder" not in facts("Mario", "Mario is a character created by designer Bo Ek.")
