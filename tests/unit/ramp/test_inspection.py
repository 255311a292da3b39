from __future__ import annotations

import pytest
from fakes.passages import ListBackend

from masksearch_agent.errors import TaskError
from masksearch_agent.ramp.inspection import describe_tasks, fact_form
from masksearch_agent.records import Hop, Passage, SearchTask
from masksearch_agent.retrieval.search import Search


def make_task(question: str, *facts: str) -> SearchTask:
    hops = tuple(Hop("need", f"query {fact}", fact) for fact in facts)
    answers = tuple((fact,) for fact in facts)
    return SearchTask(question, "ramp", question, answers, hops=hops, source_passage_id="source")


@pytest.mark.parametrize(
    ("fact", "form"),
    [
        ("1923", "year"),
        ("1990s", "year"),
        ("5 March 1923", "date"),
        ("1994年3月", "date"),
        ("42 km", "number"),
        ("Ann Bo", "name"),
        ("海宁市", "Chinese words"),
        ("wool", "words"),
    ],
)
def test_a_fact_has_a_form(fact: str, form: str):
    assert fact_form(fact) == form


def test_masks_forms_and_lengths_are_counted():
    tasks = [
        make_task("T: in [mask] by [mask]", "1923", "Ann Bo"),
        make_task("T: in [mask] " + "x " * 30, "1880"),
    ]
    assert describe_tasks(tasks) == {
        "masks": {"1": 1, "2": 1},
        "facts by form": {"year": 2, "name": 1},
        "words of a fact": {"1": 2, "2": 1},
        "words of a passage": {
            "1–20": 1, "21–40": 1, "41–60": 0, "61–80": 0, "81–100": 0, "101–150": 0, "151–200": 0, "more": 0,
        },
    }  # fmt: skip


def test_a_passage_asked_as_a_question_is_counted_too():
    task = SearchTask("t", "qa", "When?", (("1923",),), source_passage_id="source", source_text="In 1923.")
    assert describe_tasks([task])["facts by form"] == {"year": 1}


def test_difficulty_is_where_the_query_finds_the_fact_elsewhere():
    source, other = Passage("source", "", "Ann Bo"), Passage("o", "", "nothing")
    holder = Passage("h", "", "It was Ann Bo.")
    backend = ListBackend({"query Ann Bo": [source, other, holder], "query 1923": [other]})
    found = describe_tasks([make_task("T: by [mask] in [mask]", "Ann Bo", "1923")], Search(backend))
    assert found["lookup rank"] == {"1": 0, "2–3": 1, "4–10": 0, "not found": 1}


def test_without_ramp_tasks_there_is_nothing_to_inspect():
    with pytest.raises(TaskError, match="there is no RAMP task"):
        describe_tasks([SearchTask("q", "qa", "Who?", (("Ann",),))])
