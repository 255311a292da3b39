from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from masksearch_agent.records import MASK, SearchTask
from masksearch_agent.text.fills import split_fills

PASSAGE = (
    "Lambert [mask] was the second son of [mask] and Bertha. "
    "He succeeded his brother, [mask], as duke of Lucca."
)
GOLDS = ("(died after 938)", "Adalbert II of Tuscany", "Guy")


def task_of(passage: str, count: int, title: str = "Lambert, Margrave of Tuscany") -> SearchTask:
    question = f"{title}: {passage}"
    return SearchTask(id="t", kind="ramp", question=question, answers=(("x",),) * count)


TASK = task_of(PASSAGE, 3)


def filled(*fills: str) -> str:
    first, *rest = PASSAGE.split(MASK)
    return first + "".join(fill + part for fill, part in zip(fills, rest, strict=True))


@pytest.mark.parametrize(
    "answer",
    [
        "1641\nAdalbert II\nGuy",
        "1. 1641\n2. Adalbert II\n3. Guy",
        "[1] 1641\n[2] Adalbert II\n[3] Guy",
        "1) 1641\n\n2) Adalbert II\n\n3) Guy\n",
        "- 1641\n- Adalbert II\n- Guy",
        "1641\nAdalbert II\nGuy\nHugh\nBoso",
    ],
)
def test_short_form_gives_one_fill_per_line(answer: str) -> None:
    assert split_fills(TASK, answer) == ("1641", "Adalbert II", "Guy")


def test_numbers_say_which_mask_a_fill_is_for() -> None:
    assert split_fills(TASK, "1. 1641\n3. Guy") == ("1641", "", "Guy")


def test_a_number_that_is_no_numbering_stays_in_the_fill() -> None:
    assert split_fills(TASK, "1641\n2. Bundesliga\n1984") == ("1641", "2. Bundesliga", "1984")
    assert split_fills(TASK, "12. Oktober") == ("12. Oktober", "", "")


def test_an_empty_line_is_a_missing_fill_where_the_lines_fit_the_masks() -> None:
    assert split_fills(TASK, "1641\n\nGuy") == ("1641", "", "Guy")


def test_missing_lines_are_missing_fills() -> None:
    assert split_fills(TASK, "1641") == ("1641", "", "")
    assert split_fills(TASK, "") == ("", "", "")


@pytest.mark.parametrize("prefix", ["", "Lambert, Margrave of Tuscany: "])
def test_verbatim_passage_gives_its_fills_with_or_without_title(prefix: str) -> None:
    assert split_fills(TASK, prefix + filled(*GOLDS)) == GOLDS


def test_a_title_with_a_colon_is_told_from_the_text() -> None:
    task = task_of("It is a film by [mask] of 1935.", 1, title="Alien: Covenant: The Book")
    assert split_fills(task, "It is a film by Ann Bo of 1935.") == ("Ann Bo",)
    assert split_fills(task, f"{task.question}".replace(MASK, "Ann Bo")) == ("Ann Bo",)


def test_other_white_space_is_the_same_passage() -> None:
    assert split_fills(TASK, filled(*GOLDS).replace(" ", "\n ")) == GOLDS


@pytest.mark.parametrize(
    "answer",
    [
        "The passage reads: Lambert, died 938, was the 2nd son of Adalbert II and Bertha. "
        "He then succeeded his brother Guy as the duke of Lucca.",
        'Lambert (died 938) was the second son of "Adalbert II" and Bertha.\n'
        "He succeeded his brother, Guy, as duke",
    ],
)
def test_a_passage_repeated_with_changes_is_aligned(answer: str) -> None:
    first, second, third = split_fills(TASK, answer)
    assert "938" in first
    assert (second.strip('"'), third) == ("Adalbert II", "Guy")


def test_a_passage_cut_short_lacks_its_last_fills() -> None:
    assert split_fills(TASK, "Lambert (d. 938) was the second son of Hugh and Bertha. He")[1:] == ("Hugh", "")


def test_masks_left_in_place_are_missing_fills() -> None:
    assert split_fills(TASK, filled(MASK, "Hugh", MASK)) == ("", "Hugh", "")
    assert split_fills(TASK, f"{MASK}\nHugh\n{MASK}") == ("", "Hugh", "")


def test_neighbouring_masks_are_told_apart_by_what_stands_between() -> None:
    task = task_of("The cast has [mask], [mask] and [mask].", 3)
    assert split_fills(task, "The cast has Ann Bo, Cy Do and Ed Fu.") == ("Ann Bo", "Cy Do", "Ed Fu")


def test_words_shared_with_the_passage_do_not_make_a_short_answer_long() -> None:
    task = task_of("He led the school of the city and the court of [mask] until 1935.", 1)
    assert split_fills(task, "the court of the Holy Roman Empire") == ("the court of the Holy Roman Empire",)


LEAGUE = (
    "League of Nations: It was the first worldwide organisation to keep world peace, founded by the conference that "
    "ended the [mask]. War was to be prevented."
)


@pytest.mark.parametrize("answer", ["First World War", "1. First World War", "- First World War"])
def test_a_fill_whose_words_stand_scattered_in_the_passage_is_whole(answer: str) -> None:
    assert split_fills(task_of(LEAGUE, 1), answer) == ("First World War",)


def test_the_number_of_a_line_is_no_fill() -> None:
    passage = "[mask] met first in 1948. It had the legislative power of the whole state, an assembly of which some "
    passage += "members were chosen by those who lived there and paid taxes, until it was dissolved in the year 1956."
    answer = "1. Legislative Assembly of the State"
    assert split_fills(task_of(passage, 1), answer) == ("Legislative Assembly of the State",)


def test_a_few_words_repeated_around_the_mask_are_no_fill() -> None:
    answer = "founded by the conference that ended the Great Conflict"
    assert split_fills(task_of(LEAGUE, 1), answer) == ("Great Conflict",)


def test_chinese_passages_are_aligned_by_character() -> None:
    task = task_of("李白出生于[mask]，是唐代著名的诗人。", 1, title="李白")
    assert split_fills(task, "李白出生于碎叶城，是唐代著名的诗人。") == ("碎叶城",)
    assert split_fills(task, "李白出生于碎叶城，是唐代的著名诗人") == ("碎叶城",)


answers = st.text() | st.lists(st.sampled_from(["Lambert", "son", "of", MASK, "\n", "1.", "and", ","])).map(
    " ".join
)


@given(answers)
def test_every_string_splits_into_one_fill_per_mask(answer: str) -> None:
    fills = split_fills(TASK, answer)
    assert len(fills) == 3
    assert all(fill in answer or fill in " ".join(answer.split()) for fill in fills)


def test_a_hostile_answer_is_split_in_time() -> None:
    task = task_of("List of " + ", ".join([MASK] * 4) + " end", 4)
    started = time.thread_time()
    split_fills(task, "List of " + "a, " * 2000)
    assert time.thread_time() - started < 2.0
