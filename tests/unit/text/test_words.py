"""What a word is for each use; stored indexes and earlier scores depend on it."""

from __future__ import annotations

import re
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from masksearch_agent.text.cleaning import clean_text
from masksearch_agent.text.words import (
    HAN,
    WORD,
    count_words,
    is_chinese,
    query_words,
    search_terms,
    space_chinese,
    word_shingles,
    words_of,
)

assigned = st.characters(exclude_categories=("Cn", "Cs"))
texts = st.text(assigned | st.sampled_from(" \n.,'’-–()_éß中文北京。，abc019"))
plain_texts = st.text(st.characters(codec="ascii") | st.sampled_from("éßÄø’–中文北京。，"))


def earlier_terms(text: str) -> list[str]:
    """Cut a text as the indexes were made that stand on disks already."""
    terms: list[str] = []
    for word in re.findall(r"\w+", text.casefold()):
        for run in re.finditer(rf"([{HAN}]+)|[^{HAN}]+", word):
            terms.extend([*run[1], *map("".join, pairwise(run[1]))] if run[1] else [run[0]])
    return terms


@given(plain_texts)
def test_the_terms_of_a_query_are_those_of_the_indexes_of_today(text: str) -> None:
    assert search_terms(text) == earlier_terms(text)


@given(texts)
def test_compared_words_are_those_between_spaced_chinese_characters(text: str) -> None:
    assert words_of(text) == words_of(space_chinese(text))
    assert words_of(text) == [word[0] for word in re.finditer(WORD, text)]


@given(plain_texts)
def test_compared_words_without_marks_are_runs_of_letters_and_digits(text: str) -> None:
    assert words_of(text) == re.findall(r"\w+", space_chinese(text))


@pytest.mark.parametrize(
    ("text", "query"),
    [
        ("हिन्दी भाषा में खोज", "हिन्दी"),
        ("தமிழ் நாடு", "நாடு"),
        ("مُحَمَّدٌ في الميناء", "محمد"),
        ("مـيـنـاء", "ميناء"),
        ("שָׁלוֹם עולם", "שלום"),
        ("Москва́ — ёлка", "Москва"),
        ("Москва́ — ёлка", "елка"),
        ("港は1932年に開かれたハーバーです", "ハーバー"),
        ("ﾊｰﾊﾞｰ", "ハーバー"),
        ("항구는 1932년에 열렸다", "항구"),
        ("ท่าเรือเปิดในปี", "เรือ"),
        ("Das Cafe\u0301 Mu\u0308ller in Zu\u0308rich", "Café Müller Zürich"),
        ("Ｈａｒｂｏｕｒ １９３２", "harbour 1932"),
        ("İstanbul'da bir gün", "İSTANBUL"),
        ("İstanbul", "istanbul"),
        ("istanbul", "İstanbul"),
        ("Isparta ve Iğdır", "ISPARTA IĞDIR"),
        ("ISPARTA", "ısparta"),
        ("ısparta, DIŞ", "Isparta dış"),
        ("har\u00adbour \u200bfer\u200bry \u202eold\u202c", "harbour ferry old"),
    ],
)
def test_a_text_is_found_by_its_own_words(text: str, query: str) -> None:
    assert set(search_terms(query)) <= set(search_terms(text))
    assert set(search_terms(query)) <= set(search_terms(clean_text(text)))


def test_english_words_with_a_capital_i_stay_what_they_are() -> None:
    assert search_terms("I IN Indiana — naïve") == ["i", "in", "indiana", "naïve"]


def test_a_vowel_sign_belongs_to_its_word() -> None:
    assert words_of("हिन्दी में") == ["हिन्दी", "में"]
    assert query_words("हिन्दी में") == ["हिन्दी", "में"]
    assert search_terms("हिन्दी में") == ["हिन्दी", "में"]


def test_japanese_has_a_word_a_character_as_chinese_has() -> None:
    assert count_words("これはペンです。") == 7


@pytest.mark.parametrize(
    ("text", "counted", "compared", "queried", "terms"),
    [
        (
            "It isn't Jean-Paul's.",
            3,
            ["It", "isn", "t", "Jean", "Paul", "s"],
            ["It", "isn't", "Jean-Paul's"],
            ["it", "isn", "t", "jean", "paul", "s"],
        ),
        ("U.S. 3.5", 2, ["U", "S", "3", "5"], ["U", "S", "3", "5"], ["u", "s", "3", "5"]),
        (
            "北京2008年。",
            4,
            ["北", "京", "2008", "年"],
            ["北京2008年"],
            ["北", "京", "北京", "2008", "年"],
        ),
        (" …—", 1, [], [], []),
    ],
)
def test_each_use_has_its_own_words(
    text: str, counted: int, compared: list[str], queried: list[str], terms: list[str]
) -> None:
    assert count_words(text) == counted
    assert words_of(text) == compared
    assert query_words(text) == queried
    assert search_terms(text) == terms


def test_words_around_a_cut_are_no_neighbours() -> None:
    assert word_shingles("one two three four … five") == {("one", "two", "three", "four")}
    assert word_shingles("one … two") == {("one", "two")}
    assert word_shingles("…") == frozenset()


def test_chinese_with_names_and_numbers_is_chinese() -> None:
    assert is_chinese("北京 (BJ) 2008年办奥运会")
    assert not is_chinese("The capital is 北京.")
    assert not is_chinese("")
