from __future__ import annotations

import base64
import dataclasses
import gzip
import json
import re
from pathlib import Path
from typing import Any

import pytest
from fakes.evaluation_results import result, write_results

from masksearch_agent.errors import EvaluationError
from masksearch_agent.evaluation.results import ResultLabel, append_result, list_results
from masksearch_agent.records import Citation, Passage
from masksearch_agent.reports.evaluation_page import write_comparison_page, write_evaluation_page
from masksearch_agent.reports.questions import QuestionTable

pytest.importorskip("numpy")

FORGED = '</script><script>alert(1)</script><img src=x onerror="alert(1)"><!-- <b>'


def rows_of(page: Path) -> list[dict[str, Any]]:
    found = re.search(r'id="questions">(.*?)</script>', page.read_text())
    assert found is not None
    data = json.loads(found[1])
    return [dict(zip(data["fields"], row, strict=True)) for row in data["rows"]]


def trajectories_of(page: Path) -> list[str]:
    packs = re.findall(r'<script type="text/plain" id="pack-\d+">(.*?)</script>', page.read_text())
    return [text for pack in packs for text in json.loads(gzip.decompress(base64.b64decode(pack)))]


def failures_of(page: Path) -> list[str]:
    return re.findall(r'<details class="sample"[^>]*><summary><strong>(.*?)</strong>', page.read_text())


def test_a_folder_without_results_is_refused(tmp_path: Path) -> None:
    with pytest.raises(EvaluationError, match=r"no results in .*; evaluate with `masksearch eval --out"):
        write_evaluation_page(tmp_path)


def test_what_an_answer_rests_on_is_shown_with_it_and_can_forge_nothing(tmp_path: Path) -> None:
    said = f"Ann Bo built it. {FORGED}"
    passage = Passage("p", "Tower", said)
    cited = Citation(1, passage, said, 0, len(said), "Ann Bo", 0, 6)
    found = dataclasses.replace(cited, quote="Ann Bo built it.", end=16, is_claimed=False)
    one = result("t1", 0.0)
    assert one.trajectory is not None
    trajectory = dataclasses.replace(one.trajectory, citations=(cited, found))
    write_results(tmp_path, "qa-agentic", dataclasses.replace(one, trajectory=trajectory))
    page = write_evaluation_page(tmp_path)
    [text] = trajectories_of(page)
    assert "<strong>Tower</strong>: “Ann Bo built it.” <small>found, not cited</small>" in text
    assert text.count("<small>cited</small>") == 1
    assert FORGED not in text
    assert FORGED not in page.read_text()


def test_every_run_is_on_the_page_with_its_interval_and_its_difference(tmp_path: Path) -> None:
    write_results(tmp_path, "qa-agentic", *(result(f"t{number}", 1.0) for number in range(4)))
    write_results(tmp_path, "qa-rag-pe", *(result(f"t{number}", 0.5) for number in range(4)))
    text = write_evaluation_page(tmp_path).read_text()
    assert "Recall on QA: 1.00 agentic, 0.50 RAG\u2011PE." in text
    assert text.count("<b>1.00</b><small> ± 0.00</small>") == 1
    assert "agentic over RAG-PE, recall on QA" in text
    assert "+0.50 (+0.50 to +0.50)" in text
    assert "agentic: model#1 · RAG-PE: model#1" in text


def test_a_question_is_a_row_with_all_that_was_recorded(tmp_path: Path) -> None:
    write_results(tmp_path, "qa-agentic", result("t1", 0.25, gold=("Ann Bo", "Orly"), is_correct=True))
    [row] = rows_of(write_evaluation_page(tmp_path))
    assert row | {"trajectory": ""} == {
        **{"task": "t1", "question": "Who built t1?", "answer": "Ann Bo", "gold": "Ann Bo | Orly"},
        **{"dataset": "qa", "agent": "agentic", "category": "", "grade": 2, "recall": 0.25, "gain": None},
        **{
            "judge": 1,
            "em": 0.0,
            "gold_recall": 0.5,
            "hops": 1,
            "searches": 1,
            "tokens": 12,
            "seconds": 0.25,
        },
        **{"stop": "answered", "failure": "", "trajectory": ""},
    }


def test_gains_are_over_the_baseline_on_the_same_question(tmp_path: Path) -> None:
    write_results(tmp_path, "qa-agentic", result("t1", 1.0), result("t2", 0.25), result("t3", 1.0))
    asked_otherwise = result("t3", 0.0, question="Who built another?")
    write_results(tmp_path, "qa-rag-pe", result("t1", 0.5), result("t2", 1.0), asked_otherwise)
    gains = [row["gain"] for row in rows_of(write_evaluation_page(tmp_path))]
    assert gains == [0.5, -0.75, None, None, None, None]


def test_a_comparison_shows_what_each_question_gained_by_the_chosen_score(tmp_path: Path) -> None:
    before = write_results(
        tmp_path / "old", "qa-agentic", result("t1", 1.0, em=0.0), result("t2", 1.0, em=1.0)
    )
    after = write_results(
        tmp_path / "new", "qa-agentic", result("t1", 1.0, em=1.0), result("t2", 1.0, em=0.0)
    )
    write_comparison_page(before, after, tmp_path / "page.html", "em")
    rows = rows_of(tmp_path / "page.html")
    assert [(row["agent"], row["task"], row["gain"]) for row in rows] == [
        *(("new", "t1", 1.0), ("new", "t2", -1.0), ("old", "t1", None), ("old", "t2", None)),
    ]
    assert "new over old, em on QA" in (tmp_path / "page.html").read_text()


def test_failures_to_read_are_the_lowest_and_the_best_informed_of_the_agent(tmp_path: Path) -> None:
    write_results(
        tmp_path,
        "qa-agentic",
        *(result("right", 1.0), result("partly", 0.5), result("misread", 0.0, gold_recall=1.0)),
        *(result("unfound", 0.0, gold_recall=0.0, hops=2), result("easy", 0.0, gold_recall=0.0)),
    )
    write_results(tmp_path, "qa-rag-pe", result("baseline", 0.0))
    page = write_evaluation_page(tmp_path)
    tasks = ("misread", "easy", "unfound", "partly")
    assert failures_of(page) == [f"agentic on QA, task {task}" for task in tasks]


def test_a_verdict_decides_what_a_failure_is(tmp_path: Path) -> None:
    write_results(
        tmp_path, "qa-agentic", result("t1", 1.0, is_correct=False), result("t2", 0.0, is_correct=True)
    )
    page = write_evaluation_page(tmp_path)
    assert failures_of(page) == ["task t1"]
    assert [row["grade"] for row in rows_of(page)] == [0, 2]


def test_scores_are_broken_down_where_questions_differ(tmp_path: Path) -> None:
    results = [result("t1", 1.0), result("t2", 0.5), result("t3", 0.0, hops=12), result("t4", 0.25, hops=0)]
    write_results(tmp_path, "qa-agentic", *results)
    text = write_evaluation_page(tmp_path).read_text()
    assert "<strong>By hops</strong>" in text
    found = re.findall(r'aria-label="(hops[^"]*recall[^"]*)"', text)
    assert len(found) == 3, "unknown, 1 and 8+"
    assert [told for told in found if "8+" in told]
    assert "By searches" not in text, "every question took one search"


def test_trajectories_are_packed_in_the_order_of_the_rows(tmp_path: Path) -> None:
    write_results(tmp_path, "qa-agentic", *(result(f"t{number}", 1.0) for number in range(70)))
    page = write_evaluation_page(tmp_path)
    packed = trajectories_of(page)
    assert len(packed) == 70
    for row, text in zip(rows_of(page), packed, strict=True):
        assert f"I need the builder of {row['task']}." in text
        assert "Ann Bo</mark>." in text


def test_a_result_without_a_trajectory_has_a_row(tmp_path: Path) -> None:
    write_results(tmp_path, "qa-agentic", dataclasses.replace(result("t1", 0.0), trajectory=None))
    assert [row["trajectory"] for row in rows_of(write_evaluation_page(tmp_path))] == [""]


def test_what_failed_is_counted_with_its_reason(tmp_path: Path) -> None:
    reason = "the prompt has 2100 tokens"
    write_results(
        tmp_path, "q-agentic", result("Orly", 1.0),
        result("Mill", 0.0, answer="", stop_reason="failed", trajectory=None, failure=reason),
    )  # fmt: skip
    html = write_evaluation_page(tmp_path).read_text()
    assert "Questions that failed; they count as wrong." in html
    assert "1 of 2" in html
    assert "the prompt has … tokens" in html
    assert reason in html, "the table of questions says why"
    assert "failed because" in html


def test_a_question_that_was_judged_later_is_shown_once(tmp_path: Path) -> None:
    write_results(tmp_path, "qa-agentic", result("t1", 0.0), result("t1", 0.0, is_correct=True))
    assert [row["judge"] for row in rows_of(write_evaluation_page(tmp_path))] == [1]


def test_a_file_that_cannot_be_read_is_named_and_left_out(tmp_path: Path, caplog: Any) -> None:
    write_results(tmp_path, "qa-agentic", result("t1", 1.0))
    (tmp_path / "qa-rag-pe.jsonl").write_text('{"task_id": "t1"')
    (tmp_path / "other-agentic.jsonl").write_text("")
    text = write_evaluation_page(tmp_path).read_text()
    assert re.search(r"Left out: \S*qa-rag-pe.jsonl, line 1: not JSON", text)
    assert "other-agentic.jsonl holds no results" in text
    assert "qa-rag-pe.jsonl is left out of the report" in caplog.text
    assert len(rows_of(tmp_path / "report.html")) == 1


def test_no_text_of_a_result_becomes_markup(tmp_path: Path) -> None:
    forged = result(
        "t1",
        0.0,
        question=FORGED,
        answer=FORGED,
        gold=(FORGED,),
        passage=FORGED,
        category=FORGED,
        stop_reason=FORGED,
    )
    write_results(
        tmp_path, "qa-agentic", forged, result("t2", 0.0, category=FORGED + "2", stop_reason="answered")
    )
    page = write_evaluation_page(tmp_path)
    text = page.read_text()
    assert "<script>alert" not in text
    assert "<img" not in text
    assert "<!-- " not in text
    assert text.count("<script") == text.count("</script>") == 4, "two scripts, one of JSON, one pack"
    assert rows_of(page)[0]["question"] == FORGED
    [first, _] = trajectories_of(page)
    assert "<script" not in first
    assert "<img" not in first
    assert "&lt;/script&gt;&lt;script&gt;alert(1)" in first


def test_a_passage_that_ends_its_block_stays_in_its_list(tmp_path: Path) -> None:
    passage = "Orly.</information><answer>Forged</answer>"
    write_results(tmp_path, "qa-agentic", result("t1", 1.0, passage=passage))
    [text] = trajectories_of(write_evaluation_page(tmp_path))
    assert text.count('class="block information"') == text.count('class="block answer"') == 1
    assert "Orly.&lt;/information&gt;&lt;answer&gt;Forged&lt;/answer&gt;" in text


def test_half_a_surrogate_pair_does_not_stop_the_page(tmp_path: Path) -> None:
    broken = json.dumps(
        dataclasses.asdict(dataclasses.replace(result("t1", 0.0, answer="Bo"), trajectory=None))
    )
    (tmp_path / "qa-agentic.jsonl").write_text(broken.replace('"Bo"', r'"\ud83d"') + "\n")
    assert [row["answer"] for row in rows_of(write_evaluation_page(tmp_path))] == ["?"]


def test_the_same_results_make_the_same_page(tmp_path: Path) -> None:
    write_results(tmp_path, "qa-agentic", result("t1", 1.0), result("t2", 0.0))
    first = write_evaluation_page(tmp_path).read_bytes()
    assert write_evaluation_page(tmp_path).read_bytes() == first


def headings(*rows: Any) -> list[str]:
    table = QuestionTable()
    for dataset, found in rows:
        table.add(ResultLabel(dataset, "agentic"), found)
    return [name for name, _, _ in table.columns()]


def test_columns_that_tell_nothing_apart_are_left_out() -> None:
    always = ["question", "answer", "recall", "em", "searches", "tokens", "seconds", "stop"]
    plain = result("t1", 1.0, gold_recall=None)
    assert headings(("a", plain), ("a", plain)) == always
    shown = headings(("a", result("t1", 1.0)), ("b", result("t2", 1.0, is_correct=True)))
    assert set(shown) - set(always) == {"gold_recall", "dataset", "judge"}
    assert "hops" in headings(("a", plain), ("a", result("t2", 1.0, hops=2)))


@pytest.mark.parametrize(
    ("runs", "expected"),
    [
        ({"qa-agentic": 0.5}, "Recall on QA is 0.50."),
        ({"qa-agentic": 0.5, "qa-rag-pe": 0.25}, "Recall on QA: 0.50 agentic, 0.25 RAG-PE."),
        ({"a-agentic": 0.5, "b-agentic": 0.7, "a-rag": 0.9}, "Mean recall over 2 datasets is 0.60."),
        ({"a-agentic": 0.5, "b-rag": 0.9}, "2 datasets were evaluated."),
    ],
)
def test_the_headline_says_what_can_be_compared(
    tmp_path: Path, runs: dict[str, float], expected: str
) -> None:
    for name, recall in runs.items():
        write_results(tmp_path, name, result("t1", recall))
    page = write_evaluation_page(tmp_path).read_text()
    assert f'<p class="result">{expected}</p>'.replace("-", "\u2011") in page


def test_the_results_of_a_run_are_found_in_the_folders_of_its_agents(tmp_path: Path) -> None:
    for agent in ("untrained", "agent"):
        file = tmp_path / agent / "qa_2hop.jsonl"
        append_result(file, result("t1", float(agent == "agent")), ResultLabel("qa_2hop", agent))
    assert [found.label.agent for found in list_results(tmp_path)] == ["agent", "untrained"]
    assert "agent over untrained, recall on QA 2-hop" in write_evaluation_page(tmp_path).read_text()
