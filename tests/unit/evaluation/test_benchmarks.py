from __future__ import annotations

import csv
import gzip
import json
import logging
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from masksearch_agent.benchmarks import flatten_answer
from masksearch_agent.benchmarks.freshqa import FALSE_PREMISE
from masksearch_agent.corpus.readers import read_passages
from masksearch_agent.errors import EvaluationError, MissingExtraError
from masksearch_agent.evaluation.sources import read_good_tasks, read_tasks, source_name
from masksearch_agent.jsonl import write_jsonl
from masksearch_agent.records import Evidence, Hop, SearchTask, content_id

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


def test_natural_questions_row_names_the_paragraph_that_answers_it(tmp_path: Path) -> None:
    row = {
        "id": "7",
        "question": "who built it",
        "answers": ["Ann Bo", "Bo"],
        "title": "Quay",
        "passage": "By Ann Bo .",
    }
    file = write_lines(tmp_path / "nq.jsonl", row)
    [task] = read_tasks(file)
    assert (task.id, task.question, task.answers) == ("7", "who built it", (("Ann Bo", "Bo"),))
    [passage] = read_passages(file)
    assert (passage.title, passage.text) == ("Quay", "By Ann Bo .")
    assert task.gold_passage_ids == (passage.id,)


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
        ("not json", "not JSON"),
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
    with pytest.raises(EvaluationError, match=r"no benchmark called 'squad'; expected one of .*hotpotqa"):
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


def test_fullwiki_row_measures_retrieval_by_title(tmp_path: Path) -> None:
    row = {**HOTPOTQA, "context": HOTPOTQA["context"][1:]}
    (task,) = read_tasks(write_json(tmp_path / "h.json", [row]))
    assert (task.gold_passage_ids, task.gold_titles) == ((), ("Orly", "Ann Bo"))


def test_hotpotqa_row_of_the_hub_is_the_same_task(tmp_path: Path) -> None:
    titles, sentences = zip(*HOTPOTQA["context"], strict=True)
    facts, numbers = zip(*HOTPOTQA["supporting_facts"], strict=True)
    columns = {
        **{key: value for key, value in HOTPOTQA.items() if key != "_id"},
        "id": "h1",
        "context": {"title": titles, "sentences": sentences},
        "supporting_facts": {"title": facts, "sent_id": numbers},
    }
    native = write_json(tmp_path / "h.json", [HOTPOTQA])
    assert list(read_tasks(write_lines(tmp_path / "hub.jsonl", columns))) == list(read_tasks(native))


def test_2wikimultihopqa_row_keeps_its_triples_and_the_aliases_beside_it(tmp_path: Path) -> None:
    row = {
        **HOTPOTQA,
        "type": "compositional",
        "evidences": [["Orly", "builder", "Ann Bo"]],
        "answer_id": "Q1",
    }
    path = write_json(tmp_path / "dev.json", [row])
    (task,) = read_tasks(path)
    assert task.hops == (Hop("the builder of Orly", "Orly builder", "Ann Bo"),)
    assert task.answers == (("Ann Bo",),)
    assert len(task.gold_passage_ids) == 2
    aliases = {"Q_id": "Q1", "aliases": ["A. Bo"], "demonyms": []}
    write_lines(tmp_path / "id_aliases.json", aliases, {"Q_id": "Q2", "aliases": ["x"], "demonyms": []})
    assert next(read_tasks(path)).answers == (("Ann Bo", "A. Bo"),)


def test_fanoutqa_row_names_its_items_and_pages(tmp_path: Path) -> None:
    inner = {"question": "?", "answer": "x", "evidence": {"title": "Bo"}, "decomposition": []}
    step = {"question": "Who?", "answer": "Ann", "evidence": {"title": "Ann"}, "decomposition": [inner]}
    (task,) = read_tasks(write_json(tmp_path / "f.json", [{**FANOUTQA, "decomposition": [step]}]))
    assert task.answer_items == ("Ann", "38", "Bo", "41")
    assert task.gold_titles == ("Ann", "Bo")


def test_bamboogle_table_is_read(tmp_path: Path) -> None:
    path = tmp_path / "bamboogle.csv"
    path.write_text("Question,Answer\nWho?,Ann Bo\n", encoding="utf-8-sig")
    (task,) = read_tasks(path)
    assert (task.question, task.answers, task.category) == ("Who?", (("Ann Bo",),), "bamboogle")


@pytest.mark.parametrize(
    ("row", "answers", "items"),
    [
        ({"question": "Who?", "answer": "Ann"}, ("Ann",), ()),
        ({"question": "Who?", "answers": ["Ann", "Ann Bo"]}, ("Ann", "Ann Bo"), ()),
        ({"question": "Who?", "answer": ["Ann", "Bo"]}, ("Ann; Bo",), ("Ann", "Bo")),
        ({"question": "Is it?", "answer": False}, ("no",), ()),
        ({"question": "How many?", "answer": 3}, ("3",), ()),
    ],
)
def test_ones_own_rows_are_read(
    tmp_path: Path, row: dict[str, Any], answers: tuple[str, ...], items: tuple[str, ...]
) -> None:
    (task,) = read_tasks(write_lines(tmp_path / "own.jsonl", row))
    assert (task.answers, task.answer_items) == ((answers,), items)
    assert task.id == content_id(row["question"])


FRESHQA_HEADER = (
    *("id", "split", "question", "effective_year", "next_review", "false_premise", "num_hops", "fact_type"),
    *("source", *(f"answer_{number}" for number in range(10)), "note"),
)


def write_freshqa(path: Path, *rows: dict[str, str]) -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        lines = csv.writer(file)
        lines.writerows([["Warning: do not vote, please", *[""] * 18], [""] * 19, FRESHQA_HEADER])
        lines.writerows([[row.get(name, "") for name in FRESHQA_HEADER] for row in rows])
    return path


MARS = {
    "id": "0",
    "split": "TEST",
    "question": "When did a human first land on Mars?",
    "next_review": "occasionally",
    "false_premise": "TRUE",
    "fact_type": "slow-changing",
    "answer_0": "Nobody has, so far.",
    "answer_1": "Never",
}


def test_freshqa_table_tells_false_premises_from_changing_facts(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    mayor = {**MARS, "id": "1", "question": "Who?", "false_premise": "FALSE", "fact_type": "fast-changing"}
    path = write_freshqa(tmp_path / "freshqa.csv", MARS, mayor, {**MARS, "id": "2", "split": "DEV"})
    tasks = list(read_tasks(path))
    assert [(task.id, task.category) for task in tasks] == [("0", FALSE_PREMISE), ("1", "fast-changing")]
    assert tasks[0].answers == (("Nobody has, so far.", "Never"),)
    assert not caplog.records


def test_freshqa_answers_past_their_review_are_warned_of(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    due = {**MARS, "next_review": "12/31/2023"}
    path = write_freshqa(tmp_path / "f.csv", due, {**MARS, "id": "1", "next_review": "12/31/2999"})
    with caplog.at_level(logging.WARNING):
        assert len(list(read_tasks(path))) == 2
    assert [record.args[1] for record in caplog.records if isinstance(record.args, tuple)] == [1]


def test_a_table_without_questions_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("a,b\n1,2\n")
    with pytest.raises(EvaluationError, match=r"keys \['a', 'b'\] fits no benchmark"):
        read_tasks(path)


def test_a_dataset_is_read_through_the_datasets_library(tmp_path: Path) -> None:
    pytest.importorskip("datasets")
    write_lines(tmp_path / "validation.jsonl", FLASHRAG)
    write_lines(tmp_path / "test.jsonl", {**FLASHRAG, "id": "other"})
    assert [task.id for task in read_tasks(f"hf:{tmp_path}")] == ["test_1"]
    assert [task.id for task in read_tasks(Path(f"hf:{tmp_path}:test"))] == ["other"]
    with pytest.raises(EvaluationError, match=r"cannot open the dataset .*none@x:y"):
        read_tasks(f"hf:{tmp_path}/none@x:y")


def test_a_missing_datasets_library_names_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(MissingExtraError, match=r"masksearch-agent\[datasets\]"):
        read_tasks("hf:hotpotqa/hotpot_qa@distractor:validation")


def test_sources_have_names_for_files() -> None:
    assert source_name(Path("a/dev_50.json")) == "dev_50"
    assert source_name("hf:hotpotqa/hotpot_qa@distractor:test") == "hotpotqa-hotpot_qa-distractor-test"


# --- what answers rest on ----------------------------------------------------------------------------------


def test_hotpotqa_says_which_sentences_an_answer_rests_on(tmp_path: Path) -> None:
    (tmp_path / "h.json").write_text(json.dumps([HOTPOTQA]), encoding="utf-8")
    [task] = read_tasks(tmp_path / "h.json")
    assert task.evidence == (Evidence("Orly", "A town. Built long ago."), Evidence("Ann Bo", "An engineer."))


def test_a_supporting_sentence_that_does_not_exist_is_left_out(tmp_path: Path) -> None:
    row = {**HOTPOTQA, "supporting_facts": [["Orly", 7], ["Ann Bo", 0], ["Elsewhere", 0]]}
    (tmp_path / "h.json").write_text(json.dumps([row]), encoding="utf-8")
    [task] = read_tasks(tmp_path / "h.json")
    assert task.evidence == (Evidence("Ann Bo", "An engineer."),)


def test_musiques_evidence_stands_in_the_order_of_its_steps(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "m.jsonl", [MUSIQUE])
    [task] = read_tasks(tmp_path / "m.jsonl")
    assert task.evidence == (Evidence("Orly", "Built by Ann Bo."), Evidence("Ann Bo", "Born in Velling."))


NATURAL_QUESTION = {
    "id": "n",
    "question": "who built orly",
    "answers": ["Bo"],
    "title": "Orly",
    "passage": "By Bo.",
}


def test_the_paragraph_of_a_natural_question_is_its_evidence(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "n.jsonl", [NATURAL_QUESTION])
    [task] = read_tasks(tmp_path / "n.jsonl")
    assert task.evidence == (Evidence("Orly", "By Bo."),)


def test_compressed_questions_are_read(tmp_path: Path) -> None:
    with gzip.open(tmp_path / "n.jsonl.gz", "wt", encoding="utf-8") as file:
        file.write(json.dumps(NATURAL_QUESTION))
    assert [task.question for task in read_tasks(tmp_path / "n.jsonl.gz")] == ["who built orly"]


def test_a_cut_compressed_file_is_refused_in_words(tmp_path: Path) -> None:
    whole = gzip.compress(json.dumps(NATURAL_QUESTION).encode() * 100)
    (tmp_path / "n.jsonl.gz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(EvaluationError, match="not readable as gzip"):
        list(read_tasks(tmp_path / "n.jsonl.gz"))


def test_a_row_that_cannot_be_read_costs_training_that_row(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "n.jsonl", [NATURAL_QUESTION, {**NATURAL_QUESTION, "answers": [""]}, {"id": 3}])
    skipped: list[str] = []
    assert [task.id for task in read_good_tasks(tmp_path / "n.jsonl", skipped)] == ["n"]
    assert len(skipped) == 2
    assert "line 2: not a row of this benchmark (the row accepts no answer)" in skipped[0]
    assert "line 3: the row has no" in skipped[1]


@pytest.mark.parametrize(
    ("name", "content", "answers"),
    [
        ("leading_space.json", ' [{"question": "When?", "answer": "1932"}]', ("1932",)),
        ("mark.json", '\ufeff\n[{"question": "When?", "answer": "1932"}]', ("1932",)),
        ("data.json", '{"version": 1,\n "data": [{"question": "When?", "answer": "1932"}]}', ("1932",)),
        (
            "ints.jsonl",
            '{"id": 1, "question": "When?", "golden_answers": [1932, 1932.0, "MCM"]}',
            ("1932", "MCM"),
        ),
        ("null.jsonl", '{"question": "When?", "answers": ["1932", null, NaN, " "]}', ("1932",)),
        (
            "trivia.jsonl",
            '{"question": "When?", "question_id": "t", "answer": {"value": "1932", "aliases": ["1932", "year 1932"]}}',
            ("1932", "year 1932"),
        ),
    ],
)
def test_answers_are_read_as_what_they_mean(
    tmp_path: Path, name: str, content: str, answers: tuple[str, ...]
) -> None:
    (tmp_path / name).write_text(content, encoding="utf-8")
    [task] = read_tasks(tmp_path / name)
    assert task.answers == (answers,)


def test_a_question_has_the_id_that_its_row_says_and_else_one_of_its_own(tmp_path: Path) -> None:
    ids = ['"id": 0', '"id": null, "question_id": "t"', '"id": " "', '"id": null']
    rows = [f'{{{each}, "question": "When {number}?", "answer": "1932"}}' for number, each in enumerate(ids)]
    (tmp_path / "q.jsonl").write_text("\n".join(rows))
    read = [task.id for task in read_tasks(tmp_path / "q.jsonl")]
    assert read == ["0", "t", content_id("When 2?"), content_id("When 3?")]


def test_a_row_that_is_no_object_is_refused_in_words(tmp_path: Path) -> None:
    (tmp_path / "q.jsonl").write_text('{"question": "When?", "answer": "1932"}\n["When?", "1932"]\n')
    with pytest.raises(EvaluationError, match=r"line 2: .*it is a list; expected a dict"):
        list(read_tasks(tmp_path / "q.jsonl"))


@pytest.mark.parametrize("answer", ["null", "[null]"])
def test_a_question_that_accepts_nothing_is_refused_in_words(tmp_path: Path, answer: str) -> None:
    (tmp_path / "q.jsonl").write_text(f'{{"question": "When?", "answer": {answer}}}')
    with pytest.raises(EvaluationError, match=r"line 1: .*accepts no answer"):
        list(read_tasks(tmp_path / "q.jsonl"))


def test_the_hub_s_hotpotqa_has_the_same_passages_for_index_and_evaluation(tmp_path: Path) -> None:
    row = {
        **{"id": "5a", "question": "When?", "answer": "1932", "type": "bridge", "level": "hard"},
        "supporting_facts": {"title": ["Cafe\u0301"], "sent_id": [0]},
        "context": {
            "title": ["Cafe\u0301", "Ferry"],
            "sentences": [["It opened in 1932."], ["It is green."]],
        },
    }
    write_jsonl(tmp_path / "h.jsonl", [row])
    [task] = read_tasks(tmp_path / "h.jsonl")
    first, second = read_passages(tmp_path / "h.jsonl")
    assert task.gold_passage_ids == (first.id,)
    assert (first.title, second.title) == ("Café", "Ferry")
