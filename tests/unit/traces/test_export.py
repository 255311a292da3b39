from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from masksearch_agent.dataset_folder import ExportFormat, write_card
from masksearch_agent.errors import ConfigError, TraceError
from masksearch_agent.records import Message, Trajectory, Turn, Usage
from masksearch_agent.traces.export import export_dataset
from masksearch_agent.traces.store import TraceStore


def trajectory(number: int, accepted: bool = True) -> Trajectory:
    asked = (Message("system", "Search."), Message("user", f"Who is {number}?"))
    told = (Message("user", "<information>\n[1] It is Ada | Holt.\n</information>"),)
    turns = (
        Turn("0.planner", None, "planner", asked, "<needs>x</needs>"),
        Turn("0", None, "policy", asked, "<think></think><search> who</search>"),
        Turn("1", "0", "policy", told, "<think></think><answer> Ada</answer>"),
    )
    return Trajectory(
        f"id{number}", f"task{number}", turns, "Ada", "answered", queries=(("who",),), producer="a|b",
        protocol_version=2, accepted=accepted, verdict="accepted" if accepted else "wrong answer",
        usage=Usage(3, 100, 10, cost_usd=0.5),
    )  # fmt: skip


@pytest.fixture
def store(tmp_path: Path) -> Iterator[TraceStore]:
    with TraceStore(tmp_path / "traces.sqlite") as opened:
        opened.add_many([trajectory(0), trajectory(1), trajectory(2, accepted=False)], "s")
        yield opened


@pytest.mark.parametrize("file_format", ["jsonl", "parquet"])
def test_the_folder_loads_as_a_dataset_that_trl_reads(
    store: TraceStore, tmp_path: Path, file_format: ExportFormat
) -> None:
    datasets = pytest.importorskip("datasets")
    trl_data = pytest.importorskip("trl.data_utils")
    report = export_dataset(store, tmp_path / "data", file_format, "s")
    assert report == {"dataset": str(tmp_path / "data"), "rows": 2, "format": file_format}
    rows = datasets.load_dataset(str(tmp_path / "data"), split="train", cache_dir=str(tmp_path / "cache"))
    assert rows["trajectory_id"] == ["id0", "id1"]
    assert trl_data.is_conversational(rows[0])
    assert [message["role"] for message in rows[0]["messages"]] == [
        *("system", "user", "assistant", "user", "assistant"),
    ]
    assert rows[0]["messages"][-1]["content"] == "<think></think><answer> Ada</answer>"
    assert rows[0]["tools"] == []


def test_an_export_replaces_what_an_earlier_one_wrote_and_nothing_else(
    store: TraceStore, tmp_path: Path
) -> None:
    folder = tmp_path / "data"
    export_dataset(store, folder, "jsonl")
    (folder / "data" / "mine.jsonl").write_text("mine")
    (folder / "data" / "new-train.jsonl").write_text("left by a killed export")
    pytest.importorskip("pyarrow")
    export_dataset(store, folder, "parquet")
    assert sorted(file.name for file in (folder / "data").iterdir()) == [
        *("mine.jsonl", "new-train.jsonl", "train.parquet"),
    ]


def test_an_export_stopped_before_its_card_can_be_done_again(
    store: TraceStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "data"
    with monkeypatch.context() as stopped:
        stopped.setattr("masksearch_agent.traces.export.write_card", _stop)
        with pytest.raises(KeyboardInterrupt):
            export_dataset(store, folder, "jsonl")
    pytest.importorskip("pyarrow")
    export_dataset(store, folder, "parquet")
    assert [file.name for file in (folder / "data").iterdir()] == ["train.parquet"]


def _stop(*args: Any) -> None:
    raise KeyboardInterrupt


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("README.md", "# My project"),
        ("README.md", "---\ntags: [masksearch]\n---\n# A model"),
        ("README.md", "---\n: [\n---\n"),
        ("data/train.jsonl", "{}"),
        ("data/notes.txt", "x"),
    ],
)
def test_a_folder_of_somebody_else_is_refused_and_left_as_it_is(
    store: TraceStore, tmp_path: Path, name: str, text: str
) -> None:
    file = tmp_path / "project" / name
    file.parent.mkdir(parents=True)
    file.write_text(text)
    with pytest.raises(ConfigError, match="choose another folder"):
        export_dataset(store, tmp_path / "project", "jsonl")
    assert [path for path in (tmp_path / "project").rglob("*") if path.is_file()] == [file]
    assert file.read_text() == text


def test_the_card_says_what_is_in_it(store: TraceStore, tmp_path: Path) -> None:
    export_dataset(store, tmp_path / "data", "jsonl")
    card = (tmp_path / "data" / "README.md").read_text()
    head: Any = yaml.safe_load(card.split("---")[1])
    [[split]] = [config["data_files"] for config in head["configs"]]
    assert (tmp_path / "data" / split["path"]).is_file()
    for line in (
        "Add `--use_cpu` where there is no GPU, and `--assistant_only_loss`", "marks them with `{% generation %}`",
        "| 1 | 2 |", "| a¦b | 2 |", "| wrong answer | 1 |", "6 calls of chat models: 200 prompt tokens", "$1.00",
    ):  # fmt: skip
        assert line in card


def test_the_card_is_one_that_the_hub_reads(store: TraceStore, tmp_path: Path) -> None:
    hub = pytest.importorskip("huggingface_hub")
    export_dataset(store, tmp_path, "jsonl")
    card = hub.DatasetCard.load(tmp_path / "README.md")
    assert isinstance(card.data, hub.DatasetCardData)
    assert card.data.task_categories == ["text-generation"]
    assert card.data.size_categories == ["n<1K"]
    assert card.data.tags == ["masksearch", "search-agent", "sft"]
    assert card.text.startswith("\n# Search trajectories\n")
    # What is written again from what was read says the same.
    again = hub.DatasetCard(str(card))
    assert again.data.to_dict() == card.data.to_dict()


@pytest.mark.parametrize(
    ("rows", "size"),
    [(999, "n<1K"), (1000, "1K<n<10K"), (99_999, "10K<n<100K"), (10**6, "1M<n<10M"), (10**7, "n>10M")],
)
def test_sizes_have_the_hubs_names(rows: int, size: str, tmp_path: Path) -> None:
    write_card(tmp_path, "t", "jsonl", {"train": rows - 1, "test": 1}, (), "body")
    _, head, body = (tmp_path / "README.md").read_text().split("---\n")
    assert yaml.safe_load(head)["size_categories"] == [size]
    assert body == "\nbody"


def test_exporting_again_replaces_the_data_in_either_format(store: TraceStore, tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    folder = tmp_path / "data"
    export_dataset(store, folder, "jsonl")
    export_dataset(store, folder, "parquet", accepted=False)
    assert [path.name for path in (folder / "data").iterdir()] == ["train.parquet"]
    export_dataset(store, folder, "jsonl", accepted=None)
    [path] = (folder / "data").iterdir()
    assert [json.loads(line)["task_id"] for line in path.read_text().splitlines()] == [
        "task0",
        "task1",
        "task2",
    ]


def test_nothing_to_export_is_an_error_that_changes_nothing(store: TraceStore, tmp_path: Path) -> None:
    with pytest.raises(TraceError, match="no accepted conversation of stage 'other'"):
        export_dataset(store, tmp_path / "data", "jsonl", "other")
    assert not (tmp_path / "data").exists()


def test_a_conversation_follows_the_last_policy_turn(tmp_path: Path) -> None:
    question = (Message("system", "Search."), Message("user", "Q?"))
    repair = (Message("user", "Malformed step."),)
    turns = (
        Turn("1", None, "policy", question, "malformed"),
        Turn("2", "1", "policy", repair, "first try"),
        Turn("3", "1", "policy", repair, "second try"),
        Turn("4", None, "judge", (Message("user", "Right?"),), "yes"),
    )
    with TraceStore(tmp_path / "traces.sqlite") as store:
        store.add_many([replace(trajectory(1), turns=turns), replace(trajectory(2), turns=())])
        assert export_dataset(store, tmp_path / "data", "jsonl")["rows"] == 1
    [line] = (tmp_path / "data" / "data" / "train.jsonl").read_text().splitlines()
    assert json.loads(line) == {
        "messages": [
            {"role": "system", "content": "Search."},
            {"role": "user", "content": "Q?"},
            {"role": "assistant", "content": "malformed"},
            {"role": "user", "content": "Malformed step."},
            {"role": "assistant", "content": "second try"},
        ],
        "tools": [],
        "task_id": "task1",
        "trajectory_id": "id1",
    }


@pytest.mark.parametrize("parent_id", ["absent", "1"])
def test_turn_without_a_way_to_the_root_is_an_error(tmp_path: Path, parent_id: str) -> None:
    with TraceStore(tmp_path / "traces.sqlite") as store:
        store.add(replace(trajectory(1), turns=(Turn("1", parent_id, "policy", (), "x"),)))
        with pytest.raises(TraceError, match=f"'id.*names a parent that is missing: turn '{parent_id}'"):
            export_dataset(store, tmp_path / "data", "jsonl")
    assert not (tmp_path / "data").exists()
