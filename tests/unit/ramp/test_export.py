from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from masksearch_agent.dataset_folder import ExportFormat
from masksearch_agent.errors import TaskError
from masksearch_agent.jsonl import load_record, read_jsonl
from masksearch_agent.ramp.export import export_tasks
from masksearch_agent.records import Hop, SearchTask


def make_task(number: int, *facts: str, split: str = "train") -> SearchTask:
    hops = tuple(Hop(f"need {fact}", f"query {fact}", fact, kind="fact") for fact in facts)
    question = f"Title | {number}: " + " and ".join("[mask]" for _ in facts)
    task = SearchTask(f"t{number}", "ramp", question, tuple((fact,) for fact in facts), "ramp", hops)
    # Every field that has a value must come back.
    return dataclasses.replace(
        task, source_passage_id=f"p{number}", source_text=f"Text {number}", split=split
    )


TASKS = [make_task(0, "1912", "Ann Bo"), make_task(1, "海宁市"), make_task(2, "wool", split="test")]


@pytest.mark.parametrize("file_format", ["jsonl", "parquet"])
def test_the_folder_loads_as_the_tasks_it_was_made_of(tmp_path: Path, file_format: ExportFormat) -> None:
    datasets = pytest.importorskip("datasets")
    report = export_tasks(TASKS, tmp_path / "data", file_format)
    assert report["rows"] == {"train": 2, "test": 1}
    loaded = datasets.load_dataset(str(tmp_path / "data"), cache_dir=str(tmp_path / "cache"))
    rows = [row for split in ("train", "test") for row in loaded[split]]
    assert [load_record(SearchTask, row, TaskError) for row in rows] == TASKS


def test_exported_lines_are_a_task_file(tmp_path: Path) -> None:
    export_tasks(TASKS, tmp_path, "jsonl")
    assert list(read_jsonl(tmp_path / "data" / "train.jsonl", SearchTask, TaskError)) == TASKS[:2]


def test_the_card_is_valid_and_says_what_is_in_it(tmp_path: Path) -> None:
    hub = pytest.importorskip("huggingface_hub")
    export_tasks(TASKS, tmp_path, "jsonl")
    card = hub.DatasetCard.load(tmp_path / "README.md")
    assert isinstance(card.data, hub.DatasetCardData)
    assert card.data.pretty_name == "Masked passages"
    assert card.data.size_categories == ["n<1K"]
    assert card.data.configs == [
        {
            "config_name": "default",
            "data_files": [
                {"split": "train", "path": "data/train.jsonl"},
                {"split": "test", "path": "data/test.jsonl"},
            ],
        }
    ]
    for line in ("3 tasks of", "| masks | tasks |\n| --- | --- |\n| 1 | 2 |\n| 2 | 1 |", "| year | 1 |"):
        assert line in card.text


def test_nothing_to_export_is_an_error_that_changes_nothing(tmp_path: Path) -> None:
    with pytest.raises(TaskError, match="no RAMP task"):
        export_tasks([SearchTask("q", "qa", "Who?", (("Ann",),))], tmp_path / "data")
    assert not (tmp_path / "data").exists()
