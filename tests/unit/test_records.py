from __future__ import annotations

import copy
import datetime
import json
import math
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from masksearch_agent.errors import MaskSearchError, TaskError, TraceError
from masksearch_agent.jsonl import dump_record, load_record, read_jsonl, write_jsonl
from masksearch_agent.records import (
    Hop,
    Message,
    Passage,
    Sampling,
    SearchAnswer,
    SearchTask,
    TrainingRow,
    Trajectory,
    Turn,
    Usage,
    content_id,
)

TASK = SearchTask(
    id="t1",
    kind="ramp",
    question="Ada Low: Born in [mask] in [mask].",
    answers=(("1901",), ("Paris", "Paris, France")),
    category="ramp",
    hops=(
        Hop("her birth year", "Ada Low born", "1901"),
        Hop("her birth place", "Ada Low birthplace", "Paris"),
    ),
    gold_passage_ids=("p2",),
    source_passage_id="p1",
    split="test",
)
TURN = Turn(
    id="u1",
    parent_id=None,
    role="policy",
    context=(Message("system", "Search."), Message("user", "Who?")),
    text="<think></think><answer>é</answer>",
    context_ids=(1, 2, 3),
    sampled_ids=(4, 5),
    logprobs=(-0.25, -1.5),
    finish_reason="length",
    model_version="tiny-1",
    sampling=Sampling(temperature=1.0, top_p=0.9, max_tokens=2, stop=("</answer>",)),
)
TRAJECTORY = Trajectory(
    id="r1",
    task_id="t1",
    turns=(TURN, Turn("u2", "u1", "judge", (), "yes")),
    answer="é",
    stop_reason="forced",
    retrieved=((Passage("p1", "Ada Low", "Text."),), ()),
    queries=(("a", "b"), ("c",)),
    format_errors=1,
    producer="tiny-1",
    seed=7,
    protocol_version=1,
    accepted=False,
    verdict="wrong answer",
)
ANSWER = SearchAnswer(
    "é", "since …", (Passage("p1", "T", "x"),), (("a",),), "answered", Usage(2, 10, 5), TRAJECTORY
)


def test_content_id_depends_on_values_only() -> None:
    assert content_id("a", {"x": 1, "y": (2, 3)}) == content_id("a", {"y": [2, 3], "x": 1})
    # printf '["é", 1]' | sha256sum | cut -c1-16
    assert content_id("é", 1) == "48b3d24015e81821"


@pytest.mark.parametrize(
    "other", [("ab", "c"), ("a", "bc "), ("bc", "a"), ("a",), ("a", "bc", None), ("a", "BC")]
)
def test_content_id_differs_for_different_parts(other: tuple[object, ...]) -> None:
    assert content_id(*other) != content_id("a", "bc")


def test_content_id_is_the_same_in_another_process() -> None:
    code = "from masksearch_agent.records import content_id; print(content_id('task', 'tiny-1', 7, 1))"
    outputs = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={"PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
        for seed in ("1", "2")
    }
    assert outputs == {content_id("task", "tiny-1", 7, 1)}


@pytest.mark.parametrize("record", [TASK, TURN, TRAJECTORY, ANSWER])
def test_records_survive_json(record: object) -> None:
    text = json.dumps(dump_record(record))
    assert load_record(type(record), json.loads(text), TraceError) == record


def test_records_can_be_hashed() -> None:
    assert (
        len({TASK, TURN, TRAJECTORY, ANSWER, load_record(Trajectory, dump_record(TRAJECTORY), TraceError)})
        == 4
    )


def test_unknown_field_is_named_in_the_callers_error() -> None:
    data = dump_record(TASK)
    data["hops"][1]["color"] = "red"
    with pytest.raises(TaskError, match=r"not a valid SearchTask: hops\.1\.color"):
        load_record(SearchTask, data, TaskError)


def test_missing_field_is_named() -> None:
    with pytest.raises(TraceError, match="not a valid Passage: text"):
        load_record(Passage, {"id": "p", "title": "T"}, TraceError)


def test_mask_count_and_hop_count() -> None:
    question = SearchTask("q", "qa", "Who has a [mask]?", (("Ada",),))
    assert (TASK.mask_count, TASK.hop_count) == (2, 2)
    assert (question.mask_count, question.hop_count) == (0, 0)


def test_masks_and_answers_must_agree() -> None:
    with pytest.raises(MaskSearchError, match="has 1 masks but 2 answers"):
        SearchTask("t", "ramp", "A [mask].", (("a",), ("b",)))


@pytest.mark.parametrize("answers", [(), ((),), (("a",), ())])
def test_answer_slots_must_be_filled(answers: tuple[tuple[str, ...], ...]) -> None:
    with pytest.raises(MaskSearchError, match="answer slot"):
        SearchTask("t", "qa", "Who?", answers)


def test_turn_needs_a_logprob_per_sampled_id() -> None:
    with pytest.raises(TraceError, match="2 sampled ids but 1 log-prob"):
        Turn("u", None, "policy", (), "x", (1,), (2, 3), (-0.1,))


def test_first_tokenised_turn_needs_its_prompt() -> None:
    with pytest.raises(TraceError, match="records no prompt ids"):
        Turn("u", None, "policy", (), "x", (), (2,), (-0.1,))
    assert Turn("u", "parent", "policy", (), "x", (), (2,), (-0.1,)).is_tokenised
    assert not Turn("u", None, "policy", (), "x").is_tokenised


def test_training_row_counts_its_positions() -> None:
    row = TrainingRow((5, 6, 7, 8), (False, True, False, True), (0.0, -0.5, 0.0, -0.25), "r")
    assert (row.prompt_length, row.trainable_count) == (1, 2)
    assert TrainingRow((5, 6), (False, True), None, "r").logprobs is None


@pytest.mark.parametrize(
    ("ids", "trainable", "logprobs"),
    [
        ((1, 2), (True,), (-0.1, -0.1)),
        ((1,), (True, True), None),
        ((1, 2), (True, True), (-0.1,)),
        ((1, 2), (True, True), ()),
    ],
)
def test_training_row_refuses_unequal_lengths(
    ids: tuple[int, ...], trainable: tuple[bool, ...], logprobs: tuple[float, ...] | None
) -> None:
    with pytest.raises(TraceError, match="differ in length"):
        TrainingRow(ids, trainable, logprobs, "r")


@pytest.mark.parametrize("trainable", [(), (False, False)])
def test_training_row_refuses_nothing_to_train(trainable: tuple[bool, ...]) -> None:
    with pytest.raises(TraceError, match="no trainable position"):
        TrainingRow((1,) * len(trainable), trainable, None, "r")


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_training_row_refuses_unusable_logprobs(value: float) -> None:
    with pytest.raises(TraceError, match="trainable position 1 is"):
        TrainingRow((1, 2), (True, True), (-0.1, value), "r")
    assert TrainingRow((1, 2), (True, False), (-0.1, value), "r").trainable_count == 1


def test_jsonl_round_trip(tmp_path: Path) -> None:
    path = tmp_path / "new" / "traces.jsonl"
    assert write_jsonl(path, [TRAJECTORY, TRAJECTORY]) == 2
    assert list(read_jsonl(path, Trajectory, TraceError)) == [TRAJECTORY, TRAJECTORY]
    assert "é" in path.read_text(encoding="utf-8")


def test_jsonl_takes_plain_dictionaries_and_skips_blank_lines(tmp_path: Path) -> None:
    path = tmp_path / "p.jsonl"
    write_jsonl(path, [{"id": "p", "title": "T", "text": "x"}])
    path.write_text("\n" + path.read_text() + "  \n")
    assert list(read_jsonl(path, Passage, TraceError)) == [Passage("p", "T", "x")]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{not json", "line 3: not JSON"),
        ("[" * 100_000, "line 3: not JSON"),
        ("\udcff", "line 3: not UTF-8"),
        ('{"id": "p"}', "line 3: not a valid Passage: title"),
    ],
)
def test_jsonl_errors_name_file_and_line(tmp_path: Path, line: str, message: str) -> None:
    path = tmp_path / "p.jsonl"
    good = json.dumps(dump_record(Passage("p", "T", "x")))
    path.write_text(f"{good}\n\n{line}\n{good}\n", errors="surrogateescape")
    passages = read_jsonl(path, Passage, TaskError)
    assert next(passages).id == "p"
    with pytest.raises(TaskError, match=f"p.jsonl, {message}"):
        next(passages)


def test_missing_jsonl_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(TaskError, match=r"no file at .*absent\.jsonl"):
        list(read_jsonl(tmp_path / "absent.jsonl", Passage, TaskError))


def test_failed_write_keeps_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "p.jsonl"
    write_jsonl(path, [Passage("old", "T", "x")])

    def failing() -> object:
        yield Passage("new", "T", "x")
        raise RuntimeError("source ran dry")

    with pytest.raises(RuntimeError, match="ran dry"):
        write_jsonl(path, failing())  # type: ignore[arg-type]
    assert [p.id for p in read_jsonl(path, Passage, TraceError)] == ["old"]


def test_a_passage_keeps_what_is_known_of_its_document_as_json_values(tmp_path: Path) -> None:
    given = {"page": 3, "read": datetime.date(2024, 1, 2), "tags": ["a", {"b": None}], "vector": object}
    given["cut"] = "ü\ud83d"
    given |= {
        "place": np.int64(7),
        "public": np.bool_(True),
        "share": np.float32("nan"),
        "parts": np.arange(2),
    }
    given["digest"] = 2**127  # As `uuid.UUID.int` is.
    passage = Passage("p", "T", "x", metadata=given)
    given["page"] = 4
    assert passage.metadata == {
        "page": 3,
        "read": "2024-01-02",
        "tags": ("a", {"b": None}),
        "vector": "<class 'object'>",
        "cut": "ü?",
        "place": 7,
        "public": True,
        "share": None,
        "parts": (0, 1),
        "digest": "170141183460469231731687303715884105728",
    }
    assert passage.metadata["public"] is True
    write_jsonl(tmp_path / "p.jsonl", [passage])
    [read] = read_jsonl(tmp_path / "p.jsonl", Passage, TraceError)
    for same in (read, pickle.loads(pickle.dumps(passage)), copy.deepcopy(passage)):
        assert same == passage
        assert hash(same) == hash(passage)
    assert passage != Passage("p", "T", "x")


@pytest.mark.parametrize(
    "change", ["m['a'] = 1", "del m['page']", "m.update(a=1)", "m.pop('page')", "m.clear()"]
)
def test_the_metadata_of_a_passage_can_not_be_changed(change: str) -> None:
    passage = Passage("p", "T", "x", metadata={"page": 3})
    with pytest.raises(TypeError, match="can't be changed"):
        exec(change, {"m": passage.metadata})
    assert passage.metadata == {"page": 3}


def test_a_passage_without_metadata_is_written_as_it_always_was() -> None:
    assert dump_record(Passage("p", "T", "x")) == {
        "id": "p",
        "title": "T",
        "text": "x",
        "document_id": "",
        "position": 0,
        "source": "",
    }
