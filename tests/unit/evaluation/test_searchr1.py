"""Files that the scripts of Search-R1 write are read as questions, with or without what they were made from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from masksearch_agent.errors import EvaluationError
from masksearch_agent.evaluation.sources import read_good_tasks, read_tasks
from masksearch_agent.records import content_id
from masksearch_agent.stages.questions import Questions
from masksearch_agent.stages.stage import TaskFile

pytest.importorskip("pyarrow")

PREFIX = (
    "Answer the given question. You must conduct reasoning inside <think> and </think> first every time you get new "
    "information. For example, <answer> Beijing </answer>. Question: "
)


def row(asked: str, target: Any, source: str = "nq", index: int = 0, **kept: Any) -> dict[str, Any]:
    return {
        "data_source": source,
        "prompt": [{"role": "user", "content": f"{PREFIX}{asked}\n"}],
        "ability": "fact-reasoning",
        "reward_model": {"style": "rule", "ground_truth": {"target": target}},
        "extra_info": {"split": "train", "index": index},
        **kept,
    }


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    import pyarrow
    import pyarrow.parquet

    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    return path


def test_a_row_of_nq_search_is_the_question_in_its_prompt(tmp_path: Path) -> None:
    path = write(tmp_path / "train.parquet", [row("who built Question: Orly?", ["Ann Bo", " ", "A. Bo"])])
    [task] = read_tasks(path)
    assert task.question == "Orly?", "the last mark begins the question"
    [task] = read_tasks(write(path, [row("who built Orly?", ["Ann Bo", " ", "A. Bo"])]))
    assert (task.question, task.answers) == ("who built Orly?", (("Ann Bo", "A. Bo"),))
    assert (task.kind, task.category, task.split) == ("qa", "nq", "test")
    assert task.id == f"nq-{content_id('who built Orly?')}"


def test_a_row_that_kept_what_it_was_made_from_is_known_by_that(tmp_path: Path) -> None:
    kept = {"id": "train_0", "question": "Who built Orly?", "golden_answers": ["Ann Bo"]}
    facts = {"supporting_facts": {"title": ["Orly", "Ann Bo", "Orly"], "sent_id": [0, 0, 1]}}
    rows = [
        row("who built Orly?", ["Ann Bo"], "nq", **kept, metadata=None),
        row("who built Orly?", ["Ann Bo"], "hotpotqa", **kept, metadata=facts),
    ]
    nq, hotpotqa = read_tasks(write(tmp_path / "train.parquet", rows))
    assert (nq.id, hotpotqa.id) == ("nq-train_0", "hotpotqa-train_0"), "both are numbered from 0"
    assert nq.question == hotpotqa.question == "Who built Orly?"
    assert (nq.gold_titles, hotpotqa.gold_titles) == ((), ("Orly", "Ann Bo"))


def test_a_target_in_one_piece_is_an_answer(tmp_path: Path) -> None:
    [task] = read_tasks(write(tmp_path / "a.parquet", [row("how many?", "4")]))
    assert task.answers == (("4",),)


def test_a_row_without_an_answer_costs_a_training_its_row_and_an_evaluation_everything(
    tmp_path: Path,
) -> None:
    path = write(tmp_path / "a.parquet", [row("one?", []), row("two?", ["2"])])
    skipped: list[str] = []
    assert [task.question for task in read_good_tasks(path, skipped)] == ["two?"]
    assert len(skipped) == 1
    assert "row 1: not a row of this benchmark (the row accepts no answer)" in skipped[0]
    with pytest.raises(EvaluationError, match="accepts no answer"):
        list(read_tasks(path))


def test_a_file_that_is_no_parquet_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.parquet").write_bytes(b"no table")
    with pytest.raises(EvaluationError, match=r"a\.parquet: .*not readable as Parquet"):
        list(read_tasks(tmp_path / "a.parquet"))


def test_train_questions_takes_such_a_file(tmp_path: Path) -> None:
    path = write(tmp_path / "train.parquet", [row(f"question {n}?", ["x"], index=n) for n in range(5)])
    stage = Questions(files=(TaskFile(str(path)),), limit=3)
    assert [task.split for task in stage._read(SiteOf(), [])] == ["train"] * 3


class SiteOf:
    """Stands in for a stage's site: files are where they say."""

    def where(self, file: TaskFile) -> Path:
        return Path(file.path)
