from __future__ import annotations

import pytest

from masksearch_agent.failures import Failures
from masksearch_agent.ramp import chains
from masksearch_agent.ramp.chains import interleave_share, two_passage_questions
from masksearch_agent.records import Passage, SearchTask
from masksearch_agent.text.matching import contains_phrase

FILM = Passage("a", "Down to Earth (1932 film)", "Down to Earth is a 1932 American film directed by Ann Lee.")
DIRECTOR = Passage(
    "b", "Ann Lee", "Ann Lee (4 May 1890 – 1950) was a Scottish film director. She was born in Perth."
)
OTHER = Passage("c", "Cy Do", "Cy Do (born 1901) is a French film director and actor.")


def of_category(passages: list[Passage], category: str, seed: int = 0) -> list[SearchTask]:
    return [task for task in two_passage_questions(passages, seed) if task.category == category]


def test_a_bridge_asks_for_a_fact_of_the_second_passage_by_what_the_first_says():
    asked = {
        task.question: task for seed in range(30) for task in of_category([FILM, DIRECTOR], "bridge", seed)
    }
    task = asked["Where was the director of the 1932 film Down to Earth born?"]
    assert task.answers == (("Perth",),)
    assert task.gold_passage_ids == ("a", "b")
    assert [hop.answer for hop in task.hops] == ["Ann Lee", "Perth"]
    assert [hop.need for hop in task.hops] == [
        "the director of the 1932 film Down to Earth",
        "where Ann Lee was born",
    ]
    assert (task.kind, task.source_passage_id) == ("qa", "")


def test_no_question_gives_away_the_bridge_or_the_answer():
    for task in two_passage_questions([FILM, DIRECTOR, OTHER]):
        if task.category == "bridge":
            assert not contains_phrase(task.question, "Ann Lee")
            assert not contains_phrase(task.question, task.answers[0][0])
        assert not any(contains_phrase(hop.query, hop.answer) for hop in task.hops)


@pytest.mark.parametrize(
    ("passages", "why"),
    [
        ([FILM], "the director has no passage"),
        ([FILM, Passage("b", "Ann Lee", "Ann Lee was a Scottish botanist.")], "a namesake"),
        ([Passage("a", "X", "X is a 1932 film directed by Ann Lee and Bo Ek."), DIRECTOR], "two directors"),
        ([FILM, DIRECTOR, Passage("d", "Ann Lee (director)", DIRECTOR.text)], "two of that name"),
        (
            [Passage("a", "X", "X is a 1932 film based on a play directed by Ann Lee."), DIRECTOR],
            "not the film's",
        ),
    ],
)
def test_what_is_not_sure_gives_no_bridge(passages: list[Passage], why: str):
    assert not of_category(passages, "bridge"), why


def test_a_place_behind_a_comma_must_be_where_the_town_is():
    born = Passage("a", "Bo Ek", "Bo Ek (born 1950) is an American singer. He was born in Jamaica, Queens.")
    country = Passage(
        "b", "Jamaica", "Jamaica is an island country in the Caribbean. Its capital is Kingston."
    )
    assert not of_category([born, country], "bridge")


def test_questions_depend_on_the_seed_and_not_on_the_order():
    passages = [FILM, DIRECTOR, OTHER]
    assert two_passage_questions(passages) == two_passage_questions(passages[::-1])
    assert len({two_passage_questions(passages, seed)[0].question for seed in range(20)}) > 1


def test_others_make_their_share_until_they_run_out():
    mixed = list(interleave_share("aaaaaaaa", "bbb", 0.5))
    assert "".join(mixed) == "abababaaaaa"
    assert "".join(interleave_share("aaaa", "bb", 1)) == "bb"
    assert "".join(interleave_share("aaaa", "bb", 0)) == "aaaa"


def test_a_pair_that_breaks_a_rule_costs_its_question_and_is_counted(monkeypatch: pytest.MonkeyPatch):
    film = Passage("d", "Up (1931 film)", "Up (1931 film) is a 1931 American film directed by Cy Do.")
    bridge = chains._bridge

    def broken(chain, *rest):
        if chain.start.title == FILM.title:
            raise KeyError("noun")
        return bridge(chain, *rest)

    monkeypatch.setattr(chains, "_bridge", broken)
    failures = Failures()
    tasks = two_passage_questions([FILM, DIRECTOR, film, OTHER], failures=failures)
    starts = {task.evidence[0].title for task in tasks if task.category == "bridge"}
    assert starts == {film.title}
    assert failures.reasons["KeyError: …"] >= 1
