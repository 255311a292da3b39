from __future__ import annotations

import dataclasses

from fakes.spans import find_span

from masksearch_agent.ramp.cloze import build_question, worded_question
from masksearch_agent.ramp.lexicon.glossary import Glossary
from masksearch_agent.ramp.spans import Span
from masksearch_agent.records import Passage
from masksearch_agent.retrieval.leak_guard import LeakGuard

TEXT = "Velling Works makes wool. It was founded in 1923 by Ann Bo in the town of Orly. Its owner is Cy Do."
PASSAGE = Passage("p", "Velling Works (company)", TEXT)
SPAN = dataclasses.replace(
    find_span(TEXT, "1923", "DATE"),
    question="In what year was Velling Works founded by Ann Bo in the town of Orly?",
)


def test_a_span_with_a_question_is_a_task_to_answer_it() -> None:
    task = build_question(PASSAGE, SPAN, split="test")
    assert task is not None
    assert (task.kind, task.category, task.split, task.mask_count) == ("qa", "cloze", "test", 0)
    assert (task.question, task.answers) == (SPAN.question, (("1923",),))
    (hop,) = task.hops
    assert hop.query == "year Velling Works founded Ann Bo town Orly"
    assert (hop.answer, hop.kind) == ("1923", "year")
    assert hop.need == f'the year in "{SPAN.question[:-1]}"'


def test_a_span_without_a_question_is_none() -> None:
    assert build_question(PASSAGE, find_span(TEXT, "1923", "DATE")) is None


def test_the_source_of_a_question_is_withheld_as_that_of_a_masked_passage() -> None:
    task = build_question(PASSAGE, SPAN)
    assert task is not None
    guard = LeakGuard.for_task(task)
    assert guard is not None
    assert guard.withholds(PASSAGE)
    assert guard.withholds(Passage("copy", "Another title", f"{TEXT} And more of it."))
    assert not guard.withholds(Passage("other", "Velling Works", "Velling Works was founded in 1923."))


def test_the_source_of_an_open_question_supports_it() -> None:
    task, closed = build_question(PASSAGE, SPAN, is_open=True), build_question(PASSAGE, SPAN)
    assert task is not None
    assert closed is not None
    assert task.is_open
    assert task.is_made_from_passage
    assert (task.gold_passage_ids, task.source_passage_id) == (("p",), "p")
    assert LeakGuard.for_task(task) is None
    assert task.id != closed.id


def test_a_kind_that_the_question_says_already_is_not_asked_for() -> None:
    glossary = Glossary(
        [Passage("a", "Pasta", "Pasta is a food from Italy."), Passage("b", "Polenta", "Polenta is a food.")]
    )
    kind_question = "Which [kind] is a type of food made from an unleavened dough?"
    span = Span(0, 5, "Pasta", "TERM", question="What is a type of food?", kind_question=kind_question)
    assert worded_question(span, glossary)[0] == "What is a type of food?"
    other = dataclasses.replace(span, kind_question="Which [kind] is eaten in Rome?")
    assert worded_question(other, glossary) == ("Which food is eaten in Rome?", "food")
