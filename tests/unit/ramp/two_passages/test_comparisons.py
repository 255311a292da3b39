from __future__ import annotations

from collections import Counter

import pytest

from masksearch_agent.failures import Failures
from masksearch_agent.ramp.two_passages import comparisons
from masksearch_agent.ramp.two_passages.chain_wording import is_date
from masksearch_agent.ramp.two_passages.chains import two_passage_questions
from masksearch_agent.records import Passage, SearchTask

PEOPLE = [
    Passage(
        f"{nation}{number}",
        f"{nation}y Do{number}",
        f"{nation}y Do{number} (born {year}) is {word} novelist.",
    )
    for nation, word in (("Am", "an American"), ("Fr", "a French"), ("Po", "a Polish"))
    for number, year in enumerate((1901, 1907, 1943, 1950))
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


def test_only_those_of_one_class_and_time_are_compared() -> None:
    pairs = {
        tuple(sorted(title for title in YEARS if title in task.question))
        for s in range(5)
        for task in compared(s)
    }
    assert pairs == {
        (f"{nation}y Do{number}", f"{nation}y Do{number + 1}")
        for nation in ("Am", "Fr", "Po")
        for number in (0, 2)
    }


def test_what_is_named_first_is_the_answer_as_often_as_the_other() -> None:
    """Else the wording of a question tells its answer: `first` the one, `later` the other."""
    tasks = [
        task for seed in range(100) for task in compared(seed) if task.answers[0][0] not in ("yes", "no")
    ]
    for is_later in (False, True):
        asked = [
            task for task in tasks if is_later == any(word in task.question for word in ("later", "younger"))
        ]
        first = [
            task.question.index(task.answers[0][0]) < task.question.index(_other(task)) for task in asked
        ]
        assert 0.4 < sum(first) / len(asked) < 0.6


def _other(task: SearchTask) -> str:
    return next(title for title in YEARS if title in task.question and title != task.answers[0][0])


FILMS = [
    Passage(
        f"{maker}{number}", f"{name} {number}",
        f"{name} {number} is a {year} Polish crime film directed by {maker}.",
    )
    for maker, name in (("Ann Lee", "Amber Door"), ("Cy Do", "Cold Harbour"))
    for number, year in ((1, 1961), (2, 1985))
]  # fmt: skip


def same_director(films: list[Passage]) -> list[SearchTask]:
    return [task for task in two_passage_questions(films) if task.answers[0][0] in ("yes", "no")]


def test_yes_is_right_as_often_as_no():
    tasks = same_director(FILMS)
    assert Counter(task.answers[0][0] for task in tasks) == {"yes": 2, "no": 2}
    for task in tasks:
        is_same = len({hop.answer for hop in task.hops}) == 1
        assert task.answers == (("yes" if is_same else "no",),)
        assert task.conclusion.endswith(f"so the answer is {task.answers[0][0]}.")
        assert "directed by the same person" in task.question or "the same director" in task.question


def test_films_of_one_director_are_compared_whatever_their_years() -> None:
    tasks = [task for task in two_passage_questions(FILMS[:2]) if task.answers[0][0] not in ("yes", "no")]
    assert len(tasks) == 1
    assert tasks[0].answers[0][0] in ("Amber Door 1", "Amber Door 2")
    assert tasks[0].conclusion == "1961 is before 1985, so Amber Door 1 came out before Amber Door 2."


@pytest.mark.parametrize(
    ("one", "other", "why"),
    [
        ("Ann Lee (born 1901) is a British novelist.", "Bo Ek (born 1902) is a Polish novelist.", "two countries"),
        ("Ann Lee (born 1901) is a Polish novelist.", "Bo Ek (born 1902) is a Polish boxer.", "two professions"),
        ("Ann Lee (born 1901) is a Polish novelist.", "Bo Ek (born 1934) is a Polish novelist.", "two times"),
        ("Ann Lee (born 1901) is a novelist.", "Bo Ek (born 1902) is a novelist.", "no country"),
        ("Ann Lee is a 1932 Polish film.", "Bo Ek is a 1933 Polish film.", "no genre"),
        ("Ann Lee is a 1932 Polish crime film.", "Bo Ek is a 1952 Polish crime film.", "two times"),
        ("Ann Lee is a city in Norway. It has a population of 3,000.",
         "Bo Ek is a city in Sweden. It has a population of 5,000.", "two countries"),
        ("Ann Lee is a village in Norway. It has a population of 3,000.",
         "Bo Ek is a village in Norway. It has a population of 5,000.", "villages"),
        ("Ann Lee is a city in Norway. It has a population of 3,000.",
         "Bo Ek is a city in Norway. It has a population of 500,000.", "nobody doubts it"),
    ],
)  # fmt: skip
def test_an_arbitrary_pair_is_not_compared(one: str, other: str, why: str) -> None:
    assert not two_passage_questions([Passage("a", "Ann Lee", one), Passage("b", "Bo Ek", other)]), why


@pytest.mark.parametrize(
    ("one", "other", "first"),
    [
        ("Ann Lee (born 1901) is a retired Polish novelist.", "Bo Ek (born 1908) is a Polish novelist.", "1901"),
        ("Ann Lee is a 1932 Polish crime film.", "Bo Ek is a 1934 Polish crime film.", "1932"),
        ("Ann Lee is a city in Norway. It has a population of 5,000.",
         "Bo Ek is a city in Norway. It has a population of 3,000.", "3,000"),
    ],
)  # fmt: skip
def test_a_pair_of_one_class_is_compared(one: str, other: str, first: str) -> None:
    (task,) = two_passage_questions([Passage("a", "Ann Lee", one), Passage("b", "Bo Ek", other)])
    assert task.conclusion.startswith(f"{first} is ")


def test_a_namesake_is_told_apart_or_not_compared() -> None:
    other = Passage("b", "Bo Ek", "Bo Ek (born 1902) is a Polish boxer.")
    told = {
        task.question
        for seed in range(20)
        for task in two_passage_questions(
            [Passage("a", "Ann Lee (boxer)", "Ann Lee (born 1901) is a Polish boxer."), other], seed
        )
    }
    assert told
    assert all("the boxer Ann Lee" in question or "Which boxer" in question for question in told)
    sport = Passage("a", "Ann Lee (rugby league)", "Ann Lee (born 1901) is a Polish boxer.")
    assert not two_passage_questions([sport, other])


def test_times_told_to_the_day_are_dates() -> None:
    dates = ("4 May 1890", "May 1, 1950", "10 September 1999")
    assert all(map(is_date, dates))
    assert not any(map(is_date, ("September 1999", "1999")))


def test_a_number_that_is_no_number_gives_no_fact() -> None:
    towns = [
        Passage("a", "Tresk", "Tresk is a town in Norway. It has a population of 1.234.567."),
        Passage("b", "Orly", "Orly is a town in Norway. It has a population of 2,400."),
    ]
    assert not [task for task in two_passage_questions(towns) if "1.234" in str(task.hops)]


def test_both_passages_are_gold_and_looked_up():
    task = compared()[0]
    assert len(task.gold_passage_ids) == len(task.hops) == 2
    assert (task.kind, task.category, task.source_passage_id) == ("qa", "comparison", "")


def test_a_comparison_that_fails_costs_itself_and_is_counted(monkeypatch: pytest.MonkeyPatch):
    number = comparisons._number

    def broken(order, profile):
        if profile.title == "Amy Do1":
            raise IndexError("it has no year")
        return number(order, profile)

    monkeypatch.setattr(comparisons, "_number", broken)
    failures = Failures()
    tasks = two_passage_questions(PEOPLE, failures=failures)
    by_year = [task for task in tasks if task.answers[0][0] not in ("yes", "no")]
    assert by_year
    assert not any("Amy Do1" in task.question for task in by_year)
    assert failures.reasons == {"IndexError: it has no year": 1}


@pytest.mark.parametrize("other", ["A B Lee", "A. B. Lee", "AB Lee", "Ann Lee"])
def test_names_that_differ_in_their_signs_are_one(other: str) -> None:
    films = [
        Passage(str(n), f"{name} Door", f"{name} Door is a 1961 Polish crime film directed by {maker}.")
        for n, (name, maker) in enumerate([("Amber", "A. B. Lee"), ("Brass", other), ("Cold", "Cy Do")])
    ]
    for seed in range(20):
        for task in two_passage_questions(films, seed):
            if "Amber" in task.question and "Brass" in task.question and task.answers[0][0] in ("yes", "no"):
                assert task.answers[0][0] == "yes"
