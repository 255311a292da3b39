from __future__ import annotations

import asyncio

import pytest

from masksearch_agent.generator.judge import RuleJudge, is_grounded
from masksearch_agent.generator.roles import Verdict
from masksearch_agent.records import Evidence, Hop, Passage, SearchTask, Trajectory, Turn

TASK = SearchTask("q", "qa", "Who founded Velling Works?", (("Ada Holt", "A. Holt"),))
TOLD = Passage("p", "Velling Works", "It was founded by Ada Holt.")
SEARCHED = "<think>I need it.</think><search>Velling Works founder</search>"
ANSWERED = "<think>It is she.</think><answer>Ada Holt</answer>"


def make_trajectory(
    *texts: str, answer: str = "Ada Holt", shown: tuple[Passage, ...] = (TOLD,), role: str = "policy"
) -> Trajectory:
    turns = tuple(Turn(str(number), None, role, (), text) for number, text in enumerate(texts))
    return Trajectory("t", "q", turns, answer, "answered", retrieved=(shown,))


def judge(trajectory: Trajectory, task: SearchTask = TASK, max_queries: int = 2) -> Verdict:
    return asyncio.run(RuleJudge(max_queries).judge(task, trajectory))


def test_what_is_well_formed_right_and_grounded_is_accepted() -> None:
    assert judge(make_trajectory(SEARCHED, ANSWERED)) == Verdict(True, "accepted")


@pytest.mark.parametrize(
    ("trajectory", "reason"),
    [
        (make_trajectory("no tags at all", ANSWERED), "malformed step: text_outside_tags"),
        (make_trajectory("<search>no thought</search>", ANSWERED), "malformed step: missing_think"),
        (
            make_trajectory("<think>t</think><search>one\ntwo\nthree</search>", ANSWERED),
            "malformed step: too_many_queries",
        ),
        (make_trajectory(SEARCHED, answer=""), "no answer"),
        (make_trajectory(SEARCHED, ANSWERED, answer="Bram Holt"), "wrong answer"),
        (make_trajectory(SEARCHED, ANSWERED, shown=()), "answer not in the retrieved passages"),
    ],
)
def test_what_fails_a_rule_is_rejected_with_its_name(trajectory: Trajectory, reason: str) -> None:
    assert judge(trajectory) == Verdict(False, reason)


def test_only_the_policy_has_to_keep_the_protocol() -> None:
    assert judge(make_trajectory("any words", role="planner")).is_accepted


def test_an_alias_grounds_an_answer() -> None:
    shown = (Passage("p", "", "A. Holt founded it."),)
    assert judge(make_trajectory(SEARCHED, ANSWERED, shown=shown)).is_accepted


def test_a_name_inside_a_longer_word_grounds_nothing() -> None:
    shown = (Passage("p", "", "Ada Holton founded it."),)
    assert not is_grounded(TASK, make_trajectory(shown=shown))


def test_an_answer_that_follows_from_facts_is_grounded_by_the_facts() -> None:
    hops = (Hop("a", "a", "1901"), Hop("b", "b", "1950"))
    task = SearchTask("q", "qa", "Who was born first, Ada or Bram?", (("Ada",),), hops=hops)
    both = (Passage("p", "", "Born in 1901."), Passage("r", "", "Born in 1950."))
    assert is_grounded(task, make_trajectory(shown=both))
    assert not is_grounded(task, make_trajectory(shown=both[:1]))


SERIES = Passage("p", "PAW Patrol", "Mayor Goodway is the mayor. Farmer Al is voiced by Ron Pardo.")
CUT = Passage("p", "PAW Patrol", "Mayor Goodway is the mayor.")
OTHER_OF_THAT_TITLE = Passage("o", "PAW Patrol", "PAW Patrol is a series.")


@pytest.mark.parametrize(
    ("evidence", "hops"),
    [
        (Evidence(SERIES.title, SERIES.text), ()),
        (Evidence(SERIES.title), (Hop("who voices Farmer Al", "Farmer Al", "Ron Pardo"),)),
    ],
    ids=["of a question about a passage", "of a chain"],
)
def test_an_answer_that_was_not_shown_is_not_grounded_by_the_rest_of_its_passage(
    evidence: Evidence, hops: tuple[Hop, ...]
) -> None:
    task = SearchTask(
        "q", "qa", "Who is Farmer Al voiced by?", (("Ron Pardo",),), hops=hops, evidence=(evidence,)
    )
    assert is_grounded(task, make_trajectory(shown=(SERIES,)))
    assert not is_grounded(task, make_trajectory(shown=(CUT,)))
    assert not is_grounded(task, make_trajectory(shown=(OTHER_OF_THAT_TITLE,)))


def test_what_evidence_says_in_other_words_need_not_be_shown_word_for_word() -> None:
    evidence = Evidence("Ada", "Ada was born in 1901."), Evidence("Bram", "Bram was born in 1950.")
    task = SearchTask("q", "qa", "Are they of one age?", (("no",),), evidence=evidence)
    shown = tuple(Passage(each.title, each.title, each.text) for each in evidence)
    assert is_grounded(task, make_trajectory(shown=shown))


@pytest.mark.parametrize("answer", ["Yes", "both", "fifty years"])
def test_of_evidence_that_is_a_title_alone_nobody_knows_what_it_says(answer: str) -> None:
    evidence = Evidence("Ada"), Evidence("Bram")
    task = SearchTask("q", "qa", "Were they painters?", ((answer,),), evidence=evidence)
    shown = Passage("a", "Ada", "Ada was a painter."), Passage("b", "Bram", "Bram painted.")
    assert is_grounded(task, make_trajectory(shown=shown))
    assert not is_grounded(task, make_trajectory(shown=shown[:1]))
