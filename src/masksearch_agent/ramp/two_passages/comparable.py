"""Which things somebody would compare: two that share something narrow, a director or a band, or that are of one class.

Two things of one kind have little to do with each other: nobody asks whether a Mexican film of 1946 or an Australian
one of 1998 came first. `1946 Mexican drama film` is a class narrow enough, where the years lie close.
"""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise

from masksearch_agent.ramp.lexicon.fact_patterns import WORK_KINDS
from masksearch_agent.ramp.two_passages.facts import Profile

__all__ = ("alike", "tied_pairs")

_NARROW = (
    "director", "author", "performer", "writer", "producer", "composer", "creator", "developer", "single_of",
    "based_on", "founder", "owner", "parent", "architect", "discoverer", "inventor", "president_of", "premier_of",
    "king_of", "member_of", "plays_for", "county", "tributary",
)  # fmt: skip
"""Facts that few things share."""
_PASSING = re.compile(r"\b(?:former|retired|professional|late|famous|noted|popular|short|upcoming|feature)\s")
_MOST_OF_ONE = 2
"""Comparisons of one sort that a thing takes part in."""
_MIN_WORDS = {"person": 2}
"""Words of a class: `Spanish footballer`, but `American drama film`."""
_CITIES = frozenset({"city", "capital", "town"})


def tied_pairs(
    profiles: Sequence[Profile],
    drawn: random.Random,
    number: Callable[[Profile], float] | None = None,
    is_close: Callable[[Profile, Profile], bool] = lambda *_: True,
) -> Iterator[tuple[Profile, Profile]]:
    """Yield pairs that somebody would compare, in a drawn order; each thing is in two of them at most.

    Args:
        profiles: Of things that have the fact which is compared.
        drawn: Draws who meets whom.
        number: What is compared; those of a class meet those next to them. None where it is no number.
        is_close: Whether two things of a class are close enough. Those that share more need not be.
    """
    for ties, is_class in ((_narrow_ties, False), (_class_ties, True)):
        taken: Counter[str] = Counter()
        for pair in _neighbours(profiles, ties, drawn, number if is_class else None):
            if any(taken[one.title] >= _MOST_OF_ONE for one in pair) or (is_class and not is_close(*pair)):
                continue
            taken.update(one.title for one in pair)
            yield pair


def alike(
    profiles: Sequence[Profile], value: Callable[[Profile], str], drawn: random.Random
) -> Iterator[tuple[Profile, Profile]]:
    """Yield pairs of things that are called the same and have the same value."""
    yield from _neighbours(profiles, lambda one: [(one.noun, value(one))], drawn)


def _neighbours(
    profiles: Sequence[Profile],
    ties: Callable[[Profile], list[tuple[str, ...]]],
    drawn: random.Random,
    number: Callable[[Profile], float] | None = None,
) -> Iterator[tuple[Profile, Profile]]:
    groups: dict[tuple[str, ...], list[Profile]] = {}
    for profile in profiles:
        for tie in ties(profile):
            groups.setdefault(tie, []).append(profile)
    for group in groups.values():
        drawn.shuffle(group)
        if number is not None:
            group.sort(key=number)
        # In the order of the number, the wording of a question would tell its answer: what is named first came first.
        yield from (pair if drawn.random() < 0.5 else pair[::-1] for pair in pairwise(group))


def _narrow_ties(profile: Profile) -> list[tuple[str, ...]]:
    if profile.kind == "place" and profile.noun not in _CITIES:
        return []
    return [(profile.kind, fact, profile.facts[fact]) for fact in _NARROW if fact in profile.facts]


def _class_ties(profile: Profile) -> list[tuple[str, ...]]:
    if profile.kind == "place":
        country = profile.facts.get("country", "")
        return [(profile.noun, country)] if country and profile.noun in _CITIES else []
    if profile.kind == "taxon":
        within = re.match(r"(.{8,60}?) (?:in|of|from) the family\b", profile.definition)
        return [("taxon", within[1])] if within else []
    phrase = _PASSING.sub("", profile.phrase)
    is_narrow = profile.nationality and len(phrase.split()) >= _MIN_WORDS.get(profile.kind, 3)
    if profile.kind in WORK_KINDS and "year" not in profile.facts:
        return []
    return [(phrase,)] if is_narrow else []
