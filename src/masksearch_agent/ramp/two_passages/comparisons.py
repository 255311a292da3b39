"""Comparisons of two things of one kind: which came first, or whether both are the same in something.

Two passages have to be read, in any order, and the answer stands in neither: it follows from what they say. As many
questions are answered with yes as with no, and as many with the thing named first as with the other.
"""

from __future__ import annotations

import random
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain
from typing import Literal

from masksearch_agent.failures import Failures
from masksearch_agent.ramp.two_passages.chain_wording import described, tells_sense
from masksearch_agent.ramp.two_passages.comparable import alike, tied_pairs
from masksearch_agent.ramp.two_passages.facts import Profile
from masksearch_agent.records import Evidence, Hop, SearchTask, content_id

__all__ = ("comparisons",)

_FEW_YEARS = 10
_CLOSE_YEARS = {"year": 3, "release_date": 3}
"""What lies further apart is compared by nobody, unless more than a class ties it."""
_MOST_TIMES = 3
"""Inhabitants of one place, by those of the other."""


@dataclass(frozen=True, slots=True)
class _Order:
    """Two things differ in a number; which has less or more of it is asked."""

    fact: str
    kinds: tuple[str, ...]
    forms: tuple[tuple[str, bool], ...]
    """Questions, with whether the one with less is the answer; `{nouns}` is what both are."""
    need: str
    query: str
    sought: str
    said: str
    """How the thing with less is told from the other: `{less}`, `{more}`."""


@dataclass(frozen=True, slots=True)
class _Same:
    """Two things have a fact in common, or not."""

    fact: str
    kinds: tuple[str, ...]
    forms: tuple[str, ...]
    need: str
    query: str
    sought: str


_ORDERS = (
    _Order(
        "birth_date", ("person",),
        (
            ("Who was born first, {a} or {b}?", True), ("Who is older, {a} or {b}?", True),
            ("Who was born earlier, {a} or {b}?", True), ("Who was born later, {a} or {b}?", False),
            ("Who is younger, {a} or {b}?", False), ("Which {noun} was born first, {a} or {b}?", True),
        ),
        "the date of birth of {of}", "born", "date of birth", "{less} was born before {more}",
    ),
    _Order(
        "death_date", ("person",),
        (
            ("Who died first, {a} or {b}?", True), ("Who died earlier, {a} or {b}?", True),
            ("Who died later, {a} or {b}?", False), ("Which {noun} died first, {a} or {b}?", True),
        ),
        "the date of death of {of}", "died", "date of death", "{less} died before {more}",
    ),
    _Order(
        "year", ("film", "song", "album", "book"),
        (
            ("Which {noun} came out first, {a} or {b}?", True),
            ("Which {noun} was released earlier, {a} or {b}?", True),
            ("Which {noun} is older, {a} or {b}?", True), ("Which {noun} came out more recently, {a} or {b}?", False),
        ),
        "the year of {of}", "year", "year", "{less} came out before {more}",
    ),
    _Order(
        "release_date", ("song", "album", "book", "game"),
        (
            ("Which {noun} was released first, {a} or {b}?", True), ("Which {noun} came out later, {a} or {b}?", False),
        ),
        "the release date of {of}", "released", "release date", "{less} came out before {more}",
    ),
    _Order(
        "founded", ("company", "group", "school", "team"),
        (
            ("Which {noun} was founded first, {a} or {b}?", True), ("Which {noun} is older, {a} or {b}?", True),
            ("Which {noun} was founded later, {a} or {b}?", False),
        ),
        "the founding date of {of}", "founded", "founding date", "{less} was founded before {more}",
    ),
    _Order(
        "population", ("place",),
        (
            ("Which has the larger population, {a} or {b}?", False), ("Which has more inhabitants, {a} or {b}?", False),
            ("Which {noun} has fewer inhabitants, {a} or {b}?", True),
        ),
        "the population of {of}", "population", "population", "{less} has fewer inhabitants than {more}",
    ),
)  # fmt: skip

_SAMES = (
    _Same(
        "family", ("taxon",),
        ("Do {a} and {b} belong to the same family?", "Are {a} and {b} in the same family?"),
        "the family of {of}", "family", "family",
    ),
    _Same(
        "director", ("film",),
        ("Were the films {a} and {b} directed by the same person?", "Do the films {a} and {b} have the same director?"),
        "the director of {of}", "directed by", "director",
    ),
    _Same(
        "performer", ("song", "album"),
        ("Were the {noun}s {a} and {b} recorded by the same artist?",
         "Are the {noun}s {a} and {b} by the same artist?"),
        "the performer of {of}", "performer", "performer",
    ),
)  # fmt: skip


def comparisons(
    profiles: Sequence[Profile],
    shared: set[str],
    drawn: random.Random,
    split: Literal["train", "test"],
    failures: Failures,
) -> list[SearchTask]:
    """Return comparisons of things that somebody would compare, whose names, in lower case, are not `shared` by others;
    count those that fail."""
    # A title that tells its thing from others by a year (`The Love Bug (1997 film)`) has a namesake outside, too.
    clear = [
        one for one in profiles if one.name.casefold() not in shared and not re.search(r"\(.*\d", one.title)
    ]
    tasks: list[SearchTask | None] = []
    for order in _ORDERS:
        measured = []
        for one in _having(order, clear):
            with failures.costing(f"comparisons of {one.title}"):
                _number(order, one)
                measured.append(one)
        for one, other in tied_pairs(measured, drawn, partial(_number, order), partial(_are_close, order)):
            with failures.costing(f"comparison of {one.title} and {other.title}"):
                if abs(_number(order, one) - _number(order, other)) >= _least_difference(order, one):
                    tasks.append(_ordered(order, one, other, drawn, split))
    for same in _SAMES:
        having = _having(same, clear)
        unlike = [
            pair for pair in tied_pairs(having, drawn, _year, _are_of_one_time) if not _are_alike(same, *pair)
        ]
        both = alike(having, partial(_spelt, fact=same.fact), drawn)
        told = (
            [task for pair in pairs if (task := _shared(same, *pair, drawn, split))]
            for pairs in (both, unlike)
        )
        # As many of each, or `no` would be right more often than not.
        tasks += chain.from_iterable(zip(*told, strict=False))
    return [task for task in tasks if task is not None]


def _having(how: _Order | _Same, profiles: Sequence[Profile]) -> list[Profile]:
    return [one for one in profiles if one.kind in how.kinds and _value(one, how.fact)]


def _value(profile: Profile, fact: str) -> str:
    return profile.facts.get(fact, "")


def _spelt(profile: Profile, fact: str) -> str:
    return _letters(_value(profile, fact))


def _year(profile: Profile) -> float:
    return float(profile.facts.get("year", 0))


def _are_of_one_time(one: Profile, other: Profile) -> bool:
    return abs(_year(one) - _year(other)) <= _CLOSE_YEARS["year"]


def _are_close(order: _Order, one: Profile, other: Profile) -> bool:
    """Whether two things of a class are close enough for somebody to ask which comes first."""
    less, more = sorted((_number(order, one), _number(order, other)))
    if order.fact == "population":
        return more <= _MOST_TIMES * less
    return more - less <= _CLOSE_YEARS.get(order.fact, _FEW_YEARS)


def _number(order: _Order, profile: Profile) -> float:
    """Return the number that things are ordered by: a year, or how many live there."""
    value = _value(profile, order.fact)
    if order.fact != "population":
        return float(re.findall(r"\d{4}", value)[0])
    number, _, unit = value.replace(",", "").partition(" ")
    return float(number) * {"": 1, "million": 1e6, "billion": 1e9}[unit]


def _least_difference(order: _Order, one: Profile) -> float:
    """Return by how much two things have to differ so that nobody doubts which comes first."""
    return 0.2 * _number(order, one) if order.fact == "population" else 1.0


def _are_alike(same: _Same, one: Profile, other: Profile) -> bool:
    """Whether two values may be the same: but for signs and spaces, or one within the other, or one last name."""
    values = [_value(profile, same.fact) for profile in (one, other)]
    first, second = map(_letters, values)
    return first in second or second in first or _last_name(values[0]) == _last_name(values[1])


def _letters(value: str) -> str:
    """Return a name as it sounds: `S A Roy` is `S. A. Roy`."""
    return re.sub(r"[\W_]", "", unicodedata.normalize("NFKD", value).casefold())


def _last_name(value: str) -> str:
    return _letters(value.split()[-1])


def _ordered(
    order: _Order, one: Profile, other: Profile, drawn: random.Random, split: Literal["train", "test"]
) -> SearchTask | None:
    less, more = sorted((one, other), key=partial(_number, order))
    form, asks_less = drawn.choice(order.forms)
    answer = less if asks_less else more
    first, last = (_value(profile, order.fact) for profile in (less, more))
    relation = "is less than" if order.fact == "population" else "is before"
    said = order.said.format(less=less.name, more=more.name)
    return _task(order, form, (one, other), answer.name, f"{first} {relation} {last}, so {said}.", split)


def _shared(
    same: _Same, one: Profile, other: Profile, drawn: random.Random, split: Literal["train", "test"]
) -> SearchTask | None:
    values = [_value(profile, same.fact) for profile in (one, other)]
    is_same = _letters(values[0]) == _letters(values[1])
    answer = "yes" if is_same else "no"
    said = f"is {values[0]} for both" if is_same else f"is {values[0]} for one and {values[1]} for the other"
    conclusion = f"The {same.sought} {said}, so the answer is {answer}."
    return _task(same, drawn.choice(same.forms), (one, other), answer, conclusion, split)


def _task(
    how: _Order | _Same,
    form: str,
    pair: tuple[Profile, Profile],
    answer: str,
    conclusion: str,
    split: Literal["train", "test"],
) -> SearchTask | None:
    one, other = pair
    names_kind = "{noun}" in form or one.kind in form
    noun = one.kind if one.kind in ("film", "album") else one.noun
    shown = [
        profile.name
        if names_kind and tells_sense(f"{form} {noun}", profile.title)
        else described(profile, False)
        for profile in pair
    ]
    question = form.format(a=shown[0], b=shown[1], noun=noun)
    if not all(tells_sense(question, profile.title) for profile in pair):
        return None
    return SearchTask(
        id=content_id("comparison", one.passage_id, other.passage_id, question, answer),
        kind="qa",
        question=question,
        answers=((answer,),),
        category="comparison",
        hops=tuple(
            Hop(
                how.need.format(of=profile.name),
                f"{profile.name} {how.query}",
                _value(profile, how.fact),
                how.sought,
            )
            for profile in pair
        ),
        conclusion=conclusion,
        gold_passage_ids=(one.passage_id, other.passage_id),
        evidence=(Evidence(one.title), Evidence(other.title)),
        split=split,
    )
