from __future__ import annotations

from collections import Counter

import pytest

from masksearch_agent.failures import Failures
from masksearch_agent.ramp import comparisons
from masksearch_agent.ramp.chain_wording import is_date
from masksearch_agent.ramp.chains import two_passage_questions
from masksearch_agent.records import Passage, SearchTask

PEOPLE = [
    Passage(
        f"{nation}{number}",
        f"{nation}y Do{number}",
        f"{nation}y Do{number} (born {year}) is {word} novelist.",
    )
    for nation, word in (("Am", "an American"), ("Fr", "a French"), ("Po", "a Polish"))
    for number, year in enumerate((1901, 1922, 1943, 1964))
]
YEARS = {passage.title: int(passage.text.split("born ")[1][:4]) for passage in PEOPLE}


def compared(seed: int = 0) -> list[SearchTask]:
    return two_passage_questions(PEOPLE, seed)


def test_who_was_born_first_is_who_has_the_earlier_year():
    tasks = [task for seed in range(5) for task in compared(seed) if task.answers[0][0] not in ("yes", "no")]
    assert tasks
    for task in tasks:
        pair = [title for title in YEARS if title in task.question]
        is_later = any(word in task.question for word in ("later", "younger"))
        assert task.answers == ((sorted(pair, key=YEARS.get, reverse=is_later)[0],),)
        assert {hop.answer for hop in task.hops} == {str(YEARS[title]) for title in pair}
        assert task.conclusion.startswith(f"{min(YEARS[title] for title in pair)} is before")


def test_yes_is_right_as_often_as_no():
    tasks = [task for task in compared() if task.answers[0][0] in ("yes", "no")]
    assert len(tasks) >= 6
    answers = Counter(task.answers[0][0] for task in tasks)
    assert answers["yes"] == answers["no"]
    for task in tasks:
        is_same = len({hop.answer for hop in task.hops}) == 1
        assert task.answers == (("yes" if is_same else "no",),)
        assert task.conclusion.endswith(f"so the answer is {task.answers[0][0]}.")


def test_nationalities_that_may_be_the_same_are_not_told_apart():
    pair = [
        Passage("a", "Ann Lee", "Ann Lee was a British novelist."),
        Passage("b", "Bo Ek", "Bo Ek was a Scottish novelist."),
        # Yes and no are equal in number: without a pair for yes there would be none for no in any case.
        Passage("c", "Cy Do", "Cy Do was a British novelist."),
    ]
    assert two_passage_questions(pair) == []


def test_times_told_to_the_day_are_dates() -> None:
    dates = ("4 May 1890", "May 1, 1950", "10 September 1999")
    assert all(map(is_date, dates))
    assert not any(map(is_date, ("September 1999", "1999")))


def test_a_number_that_is_no_number_gives_no_fact() -> None:
    towns = [
        Passage("a", "Tresk", "Tresk is a town in Norway. It has a population of 1.234.567."),
        Passage("b", "Orly", "Orly is a town in Norway. It has a population of 3,400."),
    ]
    assert not [task for task in two_passage_questions(towns) if "1.234" in str(task.hops)]


def test_both_passages_are_gold_and_looked_up():
    task = compared()[0]
    assert len(task.gold_passage_ids) == len(task.hops) == 2
    assert (task.kind, task.category, task.source_passage_id) == ("qa", "comparison", "")


def test_a_comparison_that_fails_costs_itself_and_is_counted(monkeypatch: pytest.MonkeyPatch):
    number = comparisons._number

    def broken(profile, order):
        if profile.title == "Amy Do1":
            raise IndexError("it has no year")
        return number(profile, order)

    monkeypatch.setattr(comparisons, "_number", broken)
    failures = Failures()
    tasks = two_passage_questions(PEOPLE, failures=failures)
    by_year = [task for task in tasks if task.answers[0][0] not in ("yes", "no")]
    assert by_year
    assert not any("Amy Do1" in task.question for task in by_year)
    assert failures.reasons == {"IndexError: it has no year": 2}  # In the ring of those who were born.
