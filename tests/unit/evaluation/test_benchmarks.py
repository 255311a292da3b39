from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from masksearch_agent.corpus.readers import read_passages
from masksearch_agent.errors import EvaluationError
from masksearch_agent.evaluation.benchmarks import flatten_answer, read_tasks
from masksearch_agent.records import Hop, SearchTask, content_id, write_jsonl

HOTPOTQA = {
    "_id": "h1",
    "question": "Who built Orly? ",
    "answer": "Ann Bo",
    "type": "bridge",
    "supporting_facts": [["Orly", 0], ["Orly", 1], ["Ann Bo", 0]],
    "context": [
        ["Orly", ["A town.", " Built long ago."]],
        ["Noise", ["None."]],
        ["Ann Bo", ["An engineer."]],
    ],
}
MUSIQUE = {
    "id": "2hop__1_2",
    "question": "Where was the builder of Orly born?",
    "answer": "Velling",
    "answer_aliases": ["Old Velling", "Velling"],
    "answerable": True,
    "paragraphs": [
        {"idx": 0, "title": "Orly", "paragraph_text": "Built by Ann Bo.", "is_supporting": True},
        {"idx": 1, "title": "Noise", "paragraph_text": "None.", "is_supporting": False},
        {"idx": 2, "title": "Ann Bo", "paragraph_text": "Born in Velling.", "is_supporting": True},
    ],
    "question_decomposition": [
        {"id": 1, "question": "Orly >> builder", "answer": "Ann Bo", "paragraph_support_idx": 0},
        {"id": 2, "question": "Where was #1 born?", "answer": "Velling", "paragraph_support_idx": 2},
    ],
}
FANOUTQA = {
    "id": "f1",
    "question": "How old is each?",
    "decomposition": [{"id": "d", "question": "Who are they?", "decomposition": [], "answer": ["Ann", "Bo"]}],
    "answer": {"Ann": 38, "Bo": "41"},
    "categories": ["X"],
}
FLASHRAG = {
    "id": "test_1",
    "question": "Which?",
    "golden_answers": ["George VI\n", "George VI", "King George"],
}
OURS = SearchTask(id="r", kind="ramp", question="T: a [mask]", answers=(("x",),), split="train")


def write_json(path: Path, rows: Any) -> Path:
    path.write_text(json.dumps(rows), encoding="utf-8")
    return path


def write_lines(path: Path, *rows: Any) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def test_hotpotqa_row_becomes_a_question_with_gold_passages(tmp_path: Path) -> None:
    path = write_json(tmp_path / "hotpot.json", [HOTPOTQA])
    (task,) = read_tasks(path)
    assert (task.id, task.kind, task.question, task.answers) == (
        "h1",
        "qa",
        "Who built Orly?",
        (("Ann Bo",),),
    )
    assert (task.category, task.split) == ("bridge", "test")
    ids = {passage.title: passage.id for passage in read_passages(path)}
    assert task.gold_passage_ids == (ids["Orly"], ids["Ann Bo"])


def test_musique_row_keeps_aliases_hops_and_support(tmp_path: Path) -> None:
    (task,) = read_tasks(write_lines(tmp_path / "m.jsonl", MUSIQUE))
    assert task.answers == (("Velling", "Old Velling"),)
    assert task.category == "2hop"
    assert task.hops == (
        Hop("Orly >> builder", "Orly builder", "Ann Bo"),
        Hop("Where was Ann Bo born?", "Where was Ann Bo born?", "Velling"),
    )
    assert task.gold_passage_ids == (
        content_id("Orly", "Built by Ann Bo."),
        content_id("Ann Bo", "Born in Velling."),
    )


def test_unanswerable_musique_row_is_left_out(tmp_path: Path) -> None:
    path = write_lines(tmp_path / "m.jsonl", MUSIQUE, {**MUSIQUE, "id": "2hop__3_4", "answerable": False})
    assert [task.id for task in read_tasks(path)] == ["2hop__1_2"]


def test_fanoutqa_answer_becomes_one_string(tmp_path: Path) -> None:
    (task,) = read_tasks(write_json(tmp_path / "f.json", [FANOUTQA]))
    assert task.answers == (("Ann: 38; Bo: 41",),)
    assert task.hops == (Hop("Who are they?", "Who are they?", "Ann; Bo"),)


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        ("plain ", "plain"),
        (7, "7"),
        (True, "yes"),
        (["a", 2], "a; 2"),
        ({"a": ["x", "y"], "b": 1.5}, "a: x; y; b: 1.5"),
    ],
)
def test_structured_answers_are_flattened(answer: object, text: str) -> None:
    assert flatten_answer(answer) == text


def test_flashrag_row_keeps_its_distinct_answers(tmp_path: Path) -> None:
    row = {**FLASHRAG, "metadata": {"type": "compositional"}}
    (task,) = read_tasks(write_lines(tmp_path / "f.jsonl", row))
    assert task.answers == (("George VI", "King George"),)
    assert task.category == "compositional"


def test_our_own_tasks_come_back_as_they_were(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "tasks.jsonl", [OURS])
    assert list(read_tasks(tmp_path / "tasks.jsonl")) == [OURS]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "holds no questions"),
        ("[]", "holds no questions"),
        ('[{"title": "x", "text": "y"}]', r"keys \['text', 'title'\] fits no benchmark.*hotpotqa \("),
        ("[1]", "fits no benchmark"),
        ("not json", "not UTF-8 JSON"),
    ],
)
def test_a_file_of_no_benchmark_is_refused_at_once(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "file.json"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(EvaluationError, match=message):
        read_tasks(path)


def test_a_missing_file_and_an_unknown_name_are_refused_at_once(tmp_path: Path) -> None:
    with pytest.raises(EvaluationError, match="no benchmark file"):
        read_tasks(tmp_path / "none.json")
    with pytest.raises(EvaluationError, match=r"unknown benchmark 'squad'; expected one of .*hotpotqa"):
        read_tasks(tmp_path / "none.json", "squad")


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"id": "2", "question": "Which?"}, "line 2: the row has no 'golden_answers'"),
        ({**FLASHRAG, "golden_answers": None}, "line 2: not a row of this benchmark"),
        ({**FLASHRAG, "golden_answers": [" "]}, "line 2: .*accepts no answer"),
        ({**FLASHRAG, "golden_answers": "George VI"}, "line 2: .*golden_answers is a str"),
        ("text", "line 2: not a row of this benchmark"),
    ],
)
def test_a_malformed_row_is_named(tmp_path: Path, row: object, message: str) -> None:
    with pytest.raises(EvaluationError, match=message):
        list(read_tasks(write_lines(tmp_path / "f.jsonl", FLASHRAG, row)))


@pytest.mark.parametrize(
    ("file", "count", "gold_per_question"),
    [
        ("hotpotqa/distractor_50.json", 50, 2),
        ("musique/ans_50.jsonl", 50, 2),
        ("2wikimultihopqa/flashrag_100.jsonl", 100, 0),
        ("bamboogle/flashrag_60.jsonl", 60, 0),
        ("fanoutqa/dev_50.json", 50, 0),
    ],
)
def test_published_files_are_read_whole(
    shared_data: Path, file: str, count: int, gold_per_question: int
) -> None:
    tasks = list(read_tasks(shared_data / file))
    assert len(tasks) == len({task.id for task in tasks}) == count
    assert all(len(task.gold_passage_ids) >= gold_per_question for task in tasks)
    assert Counter(task.split for task in tasks) == {"test": count}


@pytest.mark.parametrize("file", ["hotpotqa/distractor_50.json", "musique/ans_50.jsonl"])
def test_gold_passages_are_passages_of_the_same_file(shared_data: Path, file: str) -> None:
    ids = {passage.id for passage in read_passages(shared_data / file)}
    assert all(ids.issuperset(task.gold_passage_ids) for task in read_tasks(shared_data / file))
