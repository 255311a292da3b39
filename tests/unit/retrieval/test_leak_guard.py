from __future__ import annotations

import pytest

from masksearch_agent.records import Passage, SearchTask
from masksearch_agent.retrieval import leak_guard
from masksearch_agent.retrieval.leak_guard import LeakGuard

# 15 words: 12 shingles of 4 words.
SOURCE = "Ada Lovelace was born in London in 1815 and wrote notes on the Analytical Engine."


def passage(text: str, passage_id: str = "other") -> Passage:
    return Passage(passage_id, "Some title", text)


def ramp_task(question: str, *answers: str) -> SearchTask:
    return SearchTask(
        "t", "ramp", question, tuple((answer, "alias") for answer in answers), source_passage_id="src"
    )


def test_the_source_is_withheld_by_id_whatever_its_text():
    guard = LeakGuard(SOURCE, "src")
    assert guard.withholds(passage("entirely different", "src"))
    assert not guard.withholds(passage("entirely different"))


def test_no_id_matches_an_unknown_source_id():
    assert not LeakGuard(SOURCE).withholds(passage("entirely different", ""))


@pytest.mark.parametrize(
    "text",
    [
        SOURCE,
        "  ada LOVELACE was born in london, in 1815 -- and wrote notes on the analytical engine!",
        f"A long page. {SOURCE} {'It goes on about other things entirely, for many words. ' * 20}",
        "wrote notes on the Analytical Engine",
        "\uff21da Lovelace was born in London",
    ],
    ids=["copy", "case-and-punctuation", "inside-a-page", "snippet", "compatibility-characters"],
)
def test_near_copies_are_withheld(text: str):
    assert LeakGuard(SOURCE).withholds(passage(text))


@pytest.mark.parametrize(
    "text",
    [
        "Ada Lovelace wrote about the Analytical Engine that Babbage had designed in London.",
        "London was where she was born, in 1815.",
        "",
        "Ada Lovelace",
    ],
)
def test_passages_about_the_same_things_are_kept(text: str):
    assert not LeakGuard(SOURCE).withholds(passage(text))


def test_the_threshold_counts_shared_shingles_of_the_smaller_text(monkeypatch: pytest.MonkeyPatch):
    # Seven words have four shingles; "a b c d e" shares two of them.
    text = "a b c d e x y"
    source = "a b c d e f g h i j"
    for threshold, is_withheld in ((0.5, True), (0.51, False)):
        monkeypatch.setattr(leak_guard, "_THRESHOLD", threshold)
        assert LeakGuard(source).withholds(passage(text)) is is_withheld


def test_a_source_of_few_words_matches_only_its_equal():
    guard = LeakGuard("Paris, France")
    assert guard.withholds(passage("paris france"))
    assert not guard.withholds(passage("The capital is Paris, France, and it is large."))
    assert not LeakGuard("").withholds(passage(""))


def test_a_ramp_task_is_filled_in_and_loses_its_title():
    guard = LeakGuard.for_task(
        ramp_task("Ada: a life: She was born in [mask] and wrote notes on [mask] engines.", "London", "two")
    )
    assert guard is not None
    assert guard.withholds(passage("She was born in London and wrote notes on two engines."))
    assert guard.withholds(passage("whatever", "src"))
    assert not guard.withholds(passage("She was born in Paris and painted notes on ten engines."))


def test_a_task_without_a_title_is_filled_in_whole():
    guard = LeakGuard.for_task(ramp_task("Born in [mask] was: Ada", "London"))
    assert guard is not None
    assert guard.withholds(passage("born in london was ada"))


def test_a_question_needs_no_guard():
    assert LeakGuard.for_task(SearchTask("t", "qa", "Who: what?", (("Ada",),))) is None
