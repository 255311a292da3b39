from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

from masksearch_agent.errors import TaskError
from masksearch_agent.jsonl import read_jsonl
from masksearch_agent.records import SearchTask
from masksearch_agent.stages.graph import StageGraph
from masksearch_agent.stages.questions import Questions
from masksearch_agent.stages.stage import Corpus, TaskFile


def read(folder: Path, limit: int | None, seed: int = 0) -> list[SearchTask]:
    files = []
    for name, count in (("large", 9), ("small", 3)):
        rows = [
            {"id": f"{name}-{i}", "question": f"Who is {name} {i}?", "golden_answers": ["Ann"]}
            for i in range(count)
        ]
        files.append(TaskFile(str(folder / f"{name}.jsonl")))
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    stage = Questions(name=f"questions-{limit}-{seed}", files=tuple(files), limit=limit, seed=seed)
    return list(read_jsonl(StageGraph(folder).make(stage.tasks), SearchTask, TaskError))


def test_a_large_file_gives_no_more_than_the_limit(tmp_path: Path) -> None:
    tasks = read(tmp_path, 4)
    assert Counter(task.question.split()[2] for task in tasks) == {"large": 4, "small": 3}
    assert {task.split for task in tasks} == {"train"}
    assert tasks == read(tmp_path, 4)
    assert tasks != read(tmp_path, 4, seed=1)


def test_without_a_limit_all_are_taken(tmp_path: Path) -> None:
    assert len(read(tmp_path, None)) == 12


def over_exam(folder: Path, *titles: str) -> list[str]:
    """Return the questions that are left of one about each title, where the exam is made from Harrow."""
    rows = [
        {
            "_id": title,
            "question": f"Who founded {title}?",
            "answer": "Ann",
            "type": "bridge",
            "supporting_facts": [[title, 0]],
            "context": [[title, [f"{title} was founded by Ann."]]],
        }
        for title in titles
    ]
    (folder / "train.json").write_text(json.dumps(rows))
    (folder / "exam").mkdir()
    (folder / "exam" / "passages.jsonl").write_text(
        '{"id": "1", "title": "Harrow", "text": "Harrow is a town."}\n'
    )
    stage = Questions(
        name="questions",
        files=(TaskFile(str(folder / "train.json")),),
        held_out=(Corpus(str(folder / "exam")),),
    )
    tasks = read_jsonl(StageGraph(folder / "run").make(stage.tasks), SearchTask, TaskError)
    return [task.question for task in tasks]


def test_questions_about_what_an_exam_is_made_from_are_left_out(tmp_path: Path) -> None:
    assert over_exam(tmp_path, "Harrow", "Velling") == ["Who founded Velling?"]


def test_where_all_questions_are_about_it_the_error_says_so(tmp_path: Path) -> None:
    with pytest.raises(TaskError, match="rest on documents that the exam is made from"):
        over_exam(tmp_path, "Harrow")
