"""What a row accepts as an answer, in the forms in which others publish it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from masksearch_agent.corpus.readers import read_passages
from masksearch_agent.errors import EvaluationError
from masksearch_agent.evaluation.sources import read_tasks

NAN = float("nan")


def bamboogle(answer: object) -> dict[str, Any]:
    return {"Question": "Q", "Answer": answer}


def searchr1(target: object) -> dict[str, Any]:
    prompt = [{"role": "user", "content": "Question: Q"}]
    return {"data_source": "nq", "prompt": prompt, "reward_model": {"ground_truth": {"target": target}}}


def freshqa(*answers: object) -> dict[str, Any]:
    row = {"id": "0", "question": "Q", "false_premise": "FALSE", "fact_type": "x"}
    return row | {f"answer_{number}": answer for number, answer in enumerate(answers)}


def plain(answer: object, **more: object) -> dict[str, Any]:
    return {"question": "Q", "answer": answer, **more}


def write(path: Path, row: object) -> Path:
    path.write_text(json.dumps(row) + "\n", encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("row", "accepted"),
    [
        (bamboogle(1932.0), ("1932",)),
        (bamboogle(True), ("yes",)),
        (bamboogle({"Value": "V", "Aliases": ["W"], "Type": "WikipediaEntity"}), ("V", "W")),
        (searchr1([None, "a"]), ("a",)),
        (searchr1([["a"]]), ("a",)),
        (searchr1([[None, "a"]]), ("a",)),
        (searchr1(7.0), ("7",)),
        (freshqa(0), ("0",)),
        (freshqa("a", NAN, None, ""), ("a",)),
        (plain({"value": "v", "aliases": None}), ("v",)),
        (plain({"value": "v"}), ("v",)),
        (plain({"Value": "V", "Aliases": ["W"]}), ("V", "W")),
        (plain({"text": ["a", "b"], "answer_start": [1, 5]}), ("a", "b")),
        (plain([{"text": "a", "answer_start": 1}, {"text": "b", "answer_start": 5}]), ("a", "b")),
        ({"question": "Q", "answers": {"text": ["a", "b"], "answer_start": [1, 5]}}, ("a", "b")),
        ({"question": "Q", "answers": [{"text": "a", "answer_start": 1}]}, ("a",)),
        (plain("a", aliases=["b"]), ("a", "b")),
        (plain("a", aliases="bcd"), ("a", "bcd")),
        (plain("a", aliases=None), ("a",)),
        (plain({"Ann": 38, "Bo": 41}), ("Ann: 38; Bo: 41",)),
        (plain({"value": 3, "unit": "km"}), ("value: 3; unit: km",)),
    ],
)
def test_a_published_answer_is_accepted_in_each_of_its_forms(
    tmp_path: Path, row: dict[str, Any], accepted: tuple[str, ...]
) -> None:
    [task] = read_tasks(write(tmp_path / "q.jsonl", row))
    assert task.answers == (accepted,)


@pytest.mark.parametrize(
    "row",
    [
        bamboogle(None),
        bamboogle({"Value": None, "Aliases": None}),
        bamboogle({"text": [], "answer_start": []}),
        searchr1(None),
        searchr1([None]),
        freshqa(NAN),
        plain({"value": None, "aliases": None}),
        {"question": "Q", "answers": {"text": [], "answer_start": []}},
    ],
)
def test_a_row_without_an_answer_is_refused_in_words(tmp_path: Path, row: dict[str, Any]) -> None:
    with pytest.raises(EvaluationError, match=r"line 1: .*accepts no answer"):
        list(read_tasks(write(tmp_path / "q.jsonl", row)))


def test_triviaqa_as_published_is_read_as_triviaqa(tmp_path: Path) -> None:
    answer = {"Value": "V", "Aliases": ["V", "W"], "NormalizedValue": "v"}
    row = {"Question": "Q", "QuestionId": "tc_1", "Answer": answer}
    [task] = read_tasks(write(tmp_path / "wikipedia-dev.json", {"Data": [row], "Version": 1.0}))
    assert (task.id, task.category, task.answers) == ("tc_1", "triviaqa", (("V", "W"),))


def flashrag(metadata: object) -> dict[str, Any]:
    return {"id": "0", "question": "Q", "golden_answers": ["a"], "metadata": metadata}


@pytest.mark.parametrize(
    ("metadata", "category", "titles"),
    [
        (None, "", ()),
        ("a remark", "", ()),
        ("{broken", "", ()),
        ("[1]", "", ()),
        ('{"type": "bridge", "supporting_facts": {"title": ["T", "U"]}}', "bridge", ("T", "U")),
        ({"type": None, "supporting_facts": None}, "", ()),
        ({"type": 7, "supporting_facts": {"title": None}}, "7", ()),
        ({"supporting_facts": {"title": [None, "T", "T"]}}, "", ("T",)),
        ({"supporting_facts": {"title": "The title"}}, "", ("The title",)),
        ({"supporting_facts": [["T", 0], ["U", 1], [None, 2], []]}, "", ("T", "U")),
        ({"type": ["bridge"], "supporting_facts": [{"title": "T"}, ["U", 1]]}, "", ("U",)),
    ],
)
@pytest.mark.parametrize("make", [flashrag, lambda metadata: searchr1("a") | {"metadata": metadata}])
def test_metadata_says_what_it_can(
    tmp_path: Path, make: Callable[[object], dict[str, Any]], metadata: object, category: str, titles: object
) -> None:
    [task] = read_tasks(write(tmp_path / "q.jsonl", make(metadata)))
    assert task.gold_titles == titles
    assert task.category == (category if make is flashrag else "nq")


@pytest.mark.parametrize("question", [None, " ", ["Q"]])
def test_a_row_without_a_question_is_an_error_that_says_so(tmp_path: Path, question: object) -> None:
    row = flashrag({}) | {"question": question}
    with pytest.raises(EvaluationError, match=r"has no question|is a list; expected text"):
        list(read_tasks(write(tmp_path / "q.jsonl", row)))


def test_a_null_title_of_a_shipped_passage_is_none(tmp_path: Path) -> None:
    natural = {"id": 1, "question": "Q", "answers": ["a"], "title": None, "passage": "A text."}
    paragraph = {"idx": 0, "title": None, "paragraph_text": "A text.", "is_supporting": True}
    step = {"question": "q", "answer": "a", "paragraph_support_idx": 0}
    musique = {"id": "2__x", "question": "Q", "answer": "a", "answer_aliases": [], "paragraphs": [paragraph]}
    for row in (natural, musique | {"question_decomposition": [step]}):
        path = write(tmp_path / "q.jsonl", row)
        [task] = read_tasks(path)
        [passage] = read_passages(path)
        assert (passage.title, passage.text) == ("", "A text.")
        assert task.gold_passage_ids == (passage.id,)
