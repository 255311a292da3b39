from __future__ import annotations

import re
import string
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from masksearch_agent.records import SearchTask
from masksearch_agent.text.matching import (
    answer_exact,
    answer_recall,
    contains_phrase,
    exact_match,
    f1,
    normalize_answer,
    token_recall,
)

RAMP = SearchTask(
    id="r",
    kind="ramp",
    question="Velling Works: Velling Works was founded in [mask] by [mask] in the town of Orly.",
    answers=(("1923",), ("Ann Bo", "Anna Bo")),
)
QA = SearchTask(id="q", kind="qa", question="Who founded it?", answers=(("Ann Bo", "Anna Maria Bo"),))

ascii_text = st.text(st.sampled_from(string.ascii_letters + string.digits + string.punctuation + " \t\n"))


def official_normalize(text: str) -> str:
    """Apply the four steps of HotpotQA's scorer, one after the other."""
    without_punctuation = "".join(char for char in text.lower() if char not in set(string.punctuation))
    return " ".join(re.sub(r"\b(a|an|the)\b", " ", without_punctuation).split())


def official_f1(prediction: str, gold: str) -> float:
    said, expected = official_normalize(prediction), official_normalize(gold)
    closed = ["yes", "no", "noanswer"]
    if (said in closed or expected in closed) and said != expected:
        return 0.0
    same = sum((Counter(said.split()) & Counter(expected.split())).values())
    if same == 0:
        return 0.0
    precision, recall = same / len(said.split()), same / len(expected.split())
    return 2 * precision * recall / (precision + recall)


@given(ascii_text)
def test_ascii_is_normalised_as_hotpotqa_does(text: str) -> None:
    assert normalize_answer(text) == official_normalize(text)


words = st.lists(st.sampled_from(["yes", "no", "the", "Ann", "Bo", "1923", "b.o."]), max_size=5).map(" ".join)


@given(words, words)
def test_f1_is_that_of_hotpotqa(prediction: str, gold: str) -> None:
    assert f1(prediction, [gold]) == pytest.approx(official_f1(prediction, gold))


@pytest.mark.parametrize(
    ("text", "normalised"),
    [
        ("The U.S. Senate!", "us senate"),
        ("“Ｆｏｏ” – the bar’s", "foo bars"),
        ("李白 was a poet", "李 白 was poet"),
        ("Straße", "straße"),
        ("", ""),
    ],
)
def test_normalisation(text: str, normalised: str) -> None:
    assert normalize_answer(text) == normalised


def test_recall_counts_gold_tokens_with_their_multiplicity() -> None:
    assert token_recall("New York", ["New York New York"]) == 0.5
    assert token_recall("It was Ann Bo, surely", ["Ann Bo"]) == 1.0
    assert token_recall("Ann", ["Ann Maria Bo"]) == pytest.approx(1 / 3)
    assert token_recall("白", ["李白"]) == 0.5


def test_recall_takes_the_best_alias() -> None:
    assert token_recall("James Polk", ["President James K. Polk", "James K. Polk"]) == pytest.approx(2 / 3)


def test_yes_is_no_part_of_a_longer_answer_for_f1() -> None:
    assert f1("yes it is", ["yes"]) == 0.0
    assert f1("Yes.", ["yes"]) == 1.0


def test_an_answer_of_articles_alone_can_be_given_but_not_by_silence() -> None:
    assert exact_match("the the", ["The The"]) == 1.0
    assert token_recall("The The", ["The The"]) == 1.0
    assert exact_match("", ["The The"]) == token_recall(" ", ["The The"]) == 0.0


def test_no_accepted_answer_scores_nothing() -> None:
    assert token_recall("Ann", []) == exact_match("Ann", []) == f1("Ann", []) == 0.0


@pytest.mark.parametrize(
    ("text", "phrase", "is_found"),
    [
        ("He lived 1641–1685 in Brandy Hall.", "1685", True),
        ("He lived in Brandy Hall.", "and", False),
        ("in the Second World War", "The second world war", True),
        ("in the U.S. Senate", "U.S.", True),
        ("Hall, Brandy", "Brandy Hall", False),
        ("anything", "...", False),
        ("诗人李白生于", "李白", True),
    ],
)
def test_a_phrase_is_found_as_whole_words_only(text: str, phrase: str, is_found: bool) -> None:
    assert contains_phrase(text, phrase) is is_found


def test_a_question_is_scored_on_the_whole_answer() -> None:
    assert answer_recall(QA, "Ann") == 0.5
    assert answer_exact(QA, "anna maria bo") == 1.0
    assert answer_exact(QA, "Ann Bo or Jo") == 0.0


def test_a_masked_passage_is_scored_on_its_fills_only() -> None:
    assert answer_recall(RAMP, "Velling Works was founded in 1923 by Jo Bo in the town of Orly.") == 0.75
    assert answer_recall(RAMP, "1923\nJo Bo") == 0.75
    assert answer_exact(RAMP, "1923\nAnna Bo") == 1.0
    assert answer_exact(RAMP, "1923\nJo Bo") == 0.0


def test_repeating_the_masked_passage_earns_nothing() -> None:
    assert answer_recall(RAMP, RAMP.question) == 0.0
    assert answer_recall(RAMP, "Velling Works was founded in by in the town of Orly.") == 0.0


@pytest.mark.parametrize(
    ("prediction", "gold", "recall"),
    [
        # Numbers: what the official normalisation takes for one another, and what it takes for different.
        ("35", "3.5", 0.0),
        ("about 3.50 metres", "3.5", 1.0),
        ("1,234 people", "1234", 1.0),
        ("5 °C", "-5", 0.0),
        ("it fell to -5", "-5", 1.0),
        ("138", "38", 0.0),
        ("two films", "2", 1.0),
        ("2", "two", 1.0),
        ("the 5th", "5", 1.0),
        ("$5 million", "5 million", 1.0),
        # Dates and ranges, in whatever order and with whatever dash.
        ("December 5th, 1963", "5 December 1963", 1.0),
        ("from 1990 to 1995", "1990-1995", 1.0),
        ("1990–1995", "1990-1995", 1.0),
        ("05.12.1963", "05/12/1963", 1.0),
        ("1963", "5 December 1963", 1 / 3),
        # Lists, in any order.
        ("Bo is 41 and Ann 38", "Ann: 38; Bo: 41", 1.0),
        ("Ann: 38; Bo: 14", "Ann: 38; Bo: 41", 0.75),
        # Yes and no: decided for, not merely mentioned.
        ("Yes, they were both American.", "yes", 1.0),
        ("Both are Italian, so yes", "Yes", 1.0),
        ("Yes, there is no doubt.", "yes", 1.0),
        ("Yes, there is no doubt.", "no", 0.0),
        ("No, only Bo was.", "no", 1.0),
        ("No they were not", "no", 1.0),
        ("There is no information about this", "no", 0.0),
        ("Chanel No. 5", "no", 0.0),
        ("yes or no", "yes", 0.0),
        ("yes and no", "no", 0.0),
        ("nobody", "no", 0.0),
        # Chinese has no spaces between words, and 不是 holds 是.
        ("李白出生于碎叶城", "碎叶城", 1.0),
        ("北方", "北京", 0.5),
        ("１９９０年", "1990年", 1.0),
        ("不是", "是", 0.0),
        ("是的，两人都是诗人", "是", 1.0),
        ("不是", "否", 1.0),
    ],
)
def test_recall_of_what_naive_scorers_get_wrong(prediction: str, gold: str, recall: float) -> None:
    assert token_recall(prediction, [gold]) == pytest.approx(recall)


def test_exact_match_and_f1_stay_official_where_recall_reads_numbers() -> None:
    assert exact_match("35", ["3.5"]) == f1("35", ["3.5"]) == 1.0
    assert exact_match("two", ["2"]) == f1("two", ["2"]) == 0.0


plain_words = st.lists(st.sampled_from(["Ann", "Bo", "of", "1923", "b.o.", "old"]), min_size=1, max_size=5)


@given(plain_words.map(" ".join), st.lists(plain_words.map(" ".join), min_size=1, max_size=3))
def test_f1_is_that_of_musique_with_aliases(prediction: str, golds: list[str]) -> None:
    def official(gold: str) -> float:
        said, expected = official_normalize(prediction).split(), official_normalize(gold).split()
        same = sum((Counter(said) & Counter(expected)).values())
        precision, recall = same / len(said), same / len(expected)
        return 2 * precision * recall / (precision + recall) if same else 0.0

    assert f1(prediction, golds) == pytest.approx(max(map(official, golds)))
    exact = max(official_normalize(prediction) == official_normalize(gold) for gold in golds)
    assert exact_match(prediction, golds) == exact
