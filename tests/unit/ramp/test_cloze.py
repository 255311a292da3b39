from __future__ import annotations

import pytest
from fakes.spans import find_span

from masksearch_agent.ramp.cloze import as_cloze_question, cloze_question
from masksearch_agent.ramp.hops import derive_hops
from masksearch_agent.ramp.tasks import build_task
from masksearch_agent.records import Passage
from masksearch_agent.retrieval.leak_guard import LeakGuard

TITLE = "Velling Works (company)"
TEXT = "Velling Works makes wool. It was founded in 1923 by Ann Bo in the town of Orly. Its owner is Cy Do."


def questions(text: str, fragment: str, label: str, title: str = TITLE) -> set[str]:
    """Return all questions that are drawn for a fact."""
    span = find_span(text, fragment, label)
    return {cloze_question(Passage(f"p{number}", title, text), span) for number in range(60)}


def test_the_question_word_stands_in_place_of_the_fact_or_in_front():
    assert questions(TEXT, "1923", "DATE") == {
        f"{question}?"
        for words in ("when", "which year", "what year")
        for question in (
            f"Velling Works was founded in {words} by Ann Bo in the town of Orly",
            f"{words.capitalize()} Velling Works was founded in by Ann Bo in the town of Orly",
        )
    }


@pytest.mark.parametrize(
    ("fragment", "label", "words"),
    [
        ("Ann Bo", "PERSON", {"who", "which person", "what person"}),
        ("Orly", "GPE", {"where", "which place", "what place"}),
        ("Ann Bo", "ORG", {"which organization", "what organization"}),
        ("Ann Bo", "technical term", {"which technical term", "what technical term"}),
    ],
)
def test_the_question_words_are_those_of_the_kind(fragment: str, label: str, words: set[str]):
    asked = questions(TEXT, fragment, label)
    assert len(asked) == 2 * len(words)
    assert all(any(word in question.lower() for word in words) for question in asked)


def test_the_title_stands_for_a_possessive_at_the_beginning():
    assert "Velling Works's owner is who?" in questions(TEXT, "Cy Do", "PERSON")


def test_a_sentence_that_does_not_name_its_subject_has_the_title_behind_it():
    text = "The mill was built in 1923. It stands."
    assert "The mill was built in which year, in Velling Works?" in questions(text, "1923", "DATE")


def test_without_a_title_the_sentence_stays_as_it_is():
    assert "It was founded in when by Ann Bo in the town of Orly?" in questions(
        TEXT, "1923", "DATE", title=""
    )


def test_of_a_long_sentence_the_words_nearest_to_the_fact_are_kept():
    text = " ".join(["Start", *[f"b{n}" for n in range(30)], "Ann", *[f"a{n}" for n in range(30)], "end."])
    for question in questions(text, "Ann", "PERSON"):
        kept = set(question.lower().replace(",", "").split())
        assert {"b14", "a9"} <= kept
        assert not {"b13", "a10"} & kept


def test_a_fact_in_parentheses_is_asked_for_in_its_place():
    text = "Velling Works (founded 1923) makes wool."
    assert all("founded w" in question for question in questions(text, "1923", "DATE"))


def test_no_question_holds_its_answer():
    for fragment, label in [("1923", "DATE"), ("Ann Bo", "PERSON"), ("Orly", "GPE"), ("Cy Do", "PERSON")]:
        assert not any(fragment in question for question in questions(TEXT, fragment, label))


def test_a_masked_passage_becomes_a_question_with_the_same_answer_query_and_source():
    passage, span = Passage("p", TITLE, TEXT), find_span(TEXT, "1923", "DATE")
    masked = build_task(passage, [span], derive_hops(passage, [span], names_kinds=True), split="test")
    task = as_cloze_question(masked, passage, span)
    assert (task.kind, task.category, task.split, task.mask_count) == ("qa", "cloze", "test", 0)
    assert task.question == cloze_question(passage, span)
    assert task.answers == masked.answers
    assert task.id != masked.id
    (hop,) = task.hops
    assert (hop.query, hop.answer, hop.kind) == (masked.hops[0].query, "1923", "year")
    assert hop.need == f'the year in "{task.question[:-1]}"'


def test_the_source_of_a_question_is_withheld_as_that_of_a_masked_passage():
    passage, span = Passage("p", TITLE, TEXT), find_span(TEXT, "1923", "DATE")
    task = as_cloze_question(build_task(passage, [span]), passage, span)
    guard = LeakGuard.for_task(task)
    assert guard is not None
    assert guard.withholds(passage)
    assert guard.withholds(Passage("copy", "Another title", f"{TEXT} And more of it."))
    assert not guard.withholds(Passage("other", TITLE, "Velling Works was founded in 1923."))


def test_chinese_text_keeps_its_mask():
    text = "海宁市位于浙江省。"
    passage, span = Passage("p", "海宁", text), find_span(text, "浙江省", "GPE")
    masked = build_task(passage, [span])
    assert as_cloze_question(masked, passage, span) is masked
