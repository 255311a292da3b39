from __future__ import annotations

import json
from pathlib import Path

import pytest
from fakes.evaluation_results import result, write_results

from masksearch_agent.errors import EvaluationError
from masksearch_agent.evaluation.results import (
    ResultLabel,
    append_result,
    check_producer,
    list_results,
    read_label,
    read_results,
)

LABEL = ResultLabel("qa_2hop", "ramp_sft")


def test_a_file_says_itself_what_it_holds(tmp_path: Path) -> None:
    file = tmp_path / "whatever.jsonl"
    for name in ("t1", "t2"):
        append_result(file, result(name, 1.0), LABEL)
    assert read_label(file) == LABEL
    assert [found.task_id for found in read_results(file)] == ["t1", "t2"]
    assert "masksearch_results" in json.loads(file.read_text().splitlines()[0])


def test_files_of_earlier_versions_are_known_by_how_their_names_end(tmp_path: Path) -> None:
    for name in ("musique-rag", "musique-agentic", "a-rag-pe", "a-agentic-own-corpus", "a-agentic"):
        write_results(tmp_path, name, result("t1", 1.0))
    (tmp_path / "traces.jsonl").write_text('{"id": "no result"}')
    found = list_results(tmp_path, ("agentic",))
    assert [(file.label.dataset, file.label.agent) for file in found] == [
        *(("a", "agentic"), ("a", "rag-pe"), ("a (own corpus)", "agentic")),
        *(("musique", "agentic"), ("musique", "rag")),
    ]


def test_a_question_that_was_judged_later_counts_with_its_verdict(tmp_path: Path) -> None:
    file = tmp_path / "results.jsonl"
    append_result(file, result("t1", 0.0), LABEL)
    append_result(file, result("t1", 0.0, is_correct=True), LABEL)
    assert [found.is_correct for found in read_results(file)] == [True]


def test_a_run_goes_on_from_results_of_its_own_model_and_seed_only(tmp_path: Path) -> None:
    file = tmp_path / "results.jsonl"
    append_result(file, result("t1", 1.0), LABEL)
    with file.open("a") as torn:
        torn.write('{"task_id": "t2", "ques')
    assert list(check_producer(file, "model#1", 0, {})) == ["t1"]
    assert file.read_text().endswith("\n")
    with pytest.raises(EvaluationError, match="results of model#1, but the agent to evaluate is other"):
        check_producer(file, "other", 0, {})
    with pytest.raises(EvaluationError, match="results of seed 0, but this evaluation has seed 3"):
        check_producer(file, "model#1", 3, {})
    assert check_producer(tmp_path / "absent.jsonl", "any", 0, {}) == {}


def test_answers_that_were_given_with_another_index_or_limit_are_refused_and_those_that_do_not_say_are_not(
    tmp_path: Path,
) -> None:
    file, now = tmp_path / "results.jsonl", {"index": "BM25Index, aa", "agent.max_searches": 5}
    label = ResultLabel("qa", "agentic", asked_with={"index": "BM25Index, aa", "agent.max_searches": 3})
    append_result(file, result("t1", 1.0), label)
    with pytest.raises(
        EvaluationError, match=r"given with another agent.max_searches \(3 then, 5 now\); choose"
    ):
        check_producer(file, "model#1", 0, now)
    assert list(check_producer(file, "model#1", 0, {**now, "agent.max_searches": 3, "agent.newer": 1})) == [
        "t1"
    ]
    for name, given in (("of-a-label", LABEL), ("without-one", None)):
        append_result(tmp_path / name, result("t1", 1.0), given)
        assert list(check_producer(tmp_path / name, "model#1", 0, now)) == ["t1"]


@pytest.mark.parametrize(
    ("text", "message"), [("{", "line 2: not JSON"), ("[1]", "line 2: a list"), ("{}", "task_id")]
)
def test_a_malformed_line_is_named(tmp_path: Path, text: str, message: str) -> None:
    file = write_results(tmp_path, "qa-agentic", result("t1", 1.0))
    file.write_text(file.read_text() + text + "\n")
    with pytest.raises(EvaluationError, match=message):
        read_results(file)


def test_files_of_earlier_runs_begin_with_the_agent(tmp_path: Path) -> None:
    names = ("final-qa_2hop", "untrained-ramp", "rag-qa_1hop", "rag-pe-docs", "ramp_sft-docs-b", "final-v2")
    for name in names:
        write_results(tmp_path, name, result("t1", 1.0))
    labels = {name: read_label(tmp_path / f"{name}.jsonl") for name in names}
    assert labels == {
        "final-qa_2hop": ResultLabel("qa_2hop", "agent"),
        "untrained-ramp": ResultLabel("ramp", "untrained"),
        "rag-qa_1hop": ResultLabel("qa_1hop", "rag"),
        "rag-pe-docs": ResultLabel("docs", "rag-pe"),
        "ramp_sft-docs-b": ResultLabel("docs-b", "ramp_sft"),
        "final-v2": ResultLabel("final-v2", "agentic"),
    }
