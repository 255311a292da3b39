"""Questions over two passages, made by rule from what the corpus says anyway.

One passage says who directed a film, another, with that director's name for a title, where he was born: `Where was the
director of the film Down to Earth born?` needs both, and the first has to be read before the second can be searched
for. Two passages about things of one kind make a comparison (`comparisons.py`). The form is that of HotpotQA and
2WikiMultihopQA. Both passages stay in the index: a user asks about facts that are in the documents.

Invariant: a question depends on its passages, on the names in the corpus and on the seed, not on the order of the
corpus. Memory grows with the facts that were read (`facts.py`), not with the text.
"""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Literal, TypeVar

from masksearch_agent.failures import Failures
from masksearch_agent.ramp.lexicon.fact_patterns import WORK_KINDS
from masksearch_agent.ramp.lexicon.titles import page_title, plain_name, sense_of
from masksearch_agent.ramp.two_passages.chain_wording import (
    ASKED,
    LINKS,
    Asked,
    Link,
    belongs,
    described,
    is_date,
    tells_sense,
)
from masksearch_agent.ramp.two_passages.comparisons import comparisons
from masksearch_agent.ramp.two_passages.facts import Profile, read_profile
from masksearch_agent.records import Evidence, Hop, Passage, SearchTask, content_id
from masksearch_agent.text.matching import contains_phrase

TaskT = TypeVar("TaskT")

__all__ = ("interleave_share", "two_passage_questions")

_MOST_OF_ONE = 3
"""Questions that one passage leads to."""
_MOST_OF_PAIR = 2
_MOST_TO_ONE = 16
"""Questions that one passage answers: every village leads to its country."""
_OF_OTHERS = frozenset({"author", "artist", "model", "editor"})
"""What somebody is called in parentheses who hardly made the film of a namesake."""
_MADE = frozenset({"director", "writer", "author", "performer", "producer", "composer", "creator"})
_STILL = frozenset({"teaches_at", "plays_for"})
"""What the dead don't do."""
_LEAST_AGE, _MOST_AFTER_DEATH = 8, 3
"""Years, of who makes a work."""
_PARENTS = {"male": "father", "female": "mother"}
_SPOUSES = {"male": "husband", "female": "wife"}


def two_passage_questions(
    passages: Iterable[Passage],
    seed: int = 0,
    split: Literal["train", "test"] = "train",
    failures: Failures | None = None,
) -> list[SearchTask]:
    """Return all questions over two passages that the rules find; bridges and comparisons take turns while both last.

    Args:
        passages: Read once. Those with a title that open with a definition of it give questions.
        seed: Draws which fact is asked for and how, and which things are compared.
        split: Of the tasks.
        failures: Counts the passages and pairs that break a rule; they are left out.
    """
    failures = failures or Failures()
    titles: dict[str, set[str]] = {}
    profiles: dict[str, Profile] = {}
    places: dict[str, tuple[int, str]] = {}
    for passage in passages:
        try:
            name = plain_name(passage.title)
            page = page_title(passage.title)
            titles.setdefault(name.casefold(), set()).add(page)
            # Of several passages with one title the first opens the document.
            place = (passage.position, passage.id)
            if (page not in places or place < places[page]) and (profile := read_profile(passage)):
                profiles[page], places[page] = profile, place
        except Exception as failure:  # noqa: BLE001 (raised again where it is more than a passage's)
            failures.add(f"passage {passage.id}", failure)
    # By title, so that the order of the corpus does not matter.
    found = [profiles[title] for title in sorted(profiles)]
    names = _Names(found, {name for name, of_name in titles.items() if len(of_name) > 1})
    drawn = random.Random(content_id("two_passages", seed))
    bridges = _mixed(_bridges(found, names, drawn, split, failures), drawn)
    compared = _mixed(comparisons(found, names.shared, drawn, split, failures), drawn)
    return [task for pair in zip_longest(bridges, compared) for task in pair if task is not None]


def _mixed(tasks: Sequence[SearchTask], drawn: random.Random) -> list[SearchTask]:
    """Return tasks in a drawn order in which frequent forms come more evenly than they are frequent.

    Nine comparisons of ten would be about nationality, and few tasks are taken. A form is taken as the square root of
    how many there are of it.
    """
    forms: dict[tuple[str, ...], list[SearchTask]] = {}
    for task in tasks:
        forms.setdefault(tuple(hop.kind for hop in task.hops), []).append(task)
    places = []
    for of_form in forms.values():
        drawn.shuffle(of_form)
        places += [
            ((number + drawn.random()) / len(of_form) ** 0.5, task) for number, task in enumerate(of_form)
        ]
    return [task for _, task in sorted(places, key=lambda place: place[0])]


def interleave_share(tasks: Iterable[TaskT], others: Iterable[TaskT], share: float) -> Iterator[TaskT]:
    """Yield tasks with `others` among them, so that those make `share` (0 to 1) of all, while they last.

    A share of 1 yields the others alone.
    """
    if share >= 1:
        yield from others
        return
    rest, owed = iter(others), 0.0
    for task in tasks:
        yield task
        owed += share / (1 - share)
        while owed >= 1 and (other := next(rest, None)):
            owed -= 1
            yield other


class _Names:
    """What the corpus calls things, to find the passage about a thing that another passage names."""

    def __init__(self, profiles: Sequence[Profile], shared: set[str]) -> None:
        self.shared = shared
        """Names, in lower case, that several titles have."""
        self._by_name: dict[str, list[Profile]] = {}
        for profile in profiles:
            self._by_name.setdefault(profile.name.casefold(), []).append(profile)

    def find(self, value: str, link: Link) -> Profile | None:
        """Return the only thing of a fitting kind with the name, or with the beginning of it up to a comma."""
        parts = value.split(", ")
        for count in range(len(parts), 0, -1):
            named = self._by_name.get(", ".join(parts[:count]).casefold(), [])
            fitting = [
                one
                for one in named
                if one.kind in link.kinds and (link.nouns is None or one.noun in link.nouns)
            ]
            # Of `Jamaica, Queens` the rest must be where its first part is.
            if fitting:
                is_it = len(fitting) == 1 and all(
                    part in fitting[0].definition for part in parts[count:][-1:]
                )
                return fitting[0] if is_it else None
        return None

    def is_clear(self, profile: Profile) -> bool:
        """Whether a question can name the thing so that no other of the corpus is meant."""
        return profile.name.casefold() not in self.shared or (
            profile.kind in WORK_KINDS and "year" in profile.facts
        )


@dataclass(frozen=True, slots=True)
class _Chain:
    start: Profile
    relation: str
    end: Profile
    asked: str


def _bridges(
    profiles: Sequence[Profile],
    names: _Names,
    drawn: random.Random,
    split: Literal["train", "test"],
    failures: Failures,
) -> list[SearchTask]:
    chains: list[_Chain] = []
    for profile in profiles:
        with failures.costing(f"passage {profile.passage_id}"):
            chains += list(_chains_from(profile, names)) if names.is_clear(profile) else []
    drawn.shuffle(chains)
    # The rarer a fact, the earlier it is asked for: there are dates of birth for all.
    chains.sort(key=lambda chain: drawn.expovariate(ASKED[chain.asked].weight))
    leads, answers, pairs = Counter[str](), Counter[str](), Counter[tuple[str, str]]()
    tasks = []
    for chain in chains:
        pair = (chain.start.title, chain.end.title)
        if pairs[pair] >= _MOST_OF_PAIR or leads[pair[0]] >= _MOST_OF_ONE or answers[pair[1]] >= _MOST_TO_ONE:
            continue
        task = None
        with failures.costing(f"question over {pair[0]} and {pair[1]}"):
            task = _bridge(chain, names, drawn, split)
        if task is not None:
            tasks.append(task)
            pairs[pair] += 1
            leads[pair[0]] += 1
            answers[pair[1]] += 1
    return tasks


def _chains_from(start: Profile, names: _Names) -> Iterator[_Chain]:
    for relation, link in LINKS.items():
        end = names.find(start.facts[relation], link) if relation in start.facts else None
        if end is None or end.title == start.title or not _is_meant(start, relation, end, link):
            continue
        facts = {**end.facts, "nationality": end.nationality}
        for asked, how in ASKED.items():
            if facts.get(asked) and end.kind in how.kinds and belongs(start, relation, end, asked):
                yield _Chain(start, relation, end, asked)


def _is_meant(start: Profile, relation: str, end: Profile, link: Link) -> bool:
    """Whether a thing is the one that another passage names, and no namesake.

    A title that needs parentheses has namesakes: the author Christopher Nolan directed no film. And nobody makes a work
    as a child or years after their death.
    """
    if relation in _STILL and "death_date" in start.facts:
        return False  # "the university where Paul Dirac is a professor"
    if end.kind != "person":
        return True
    sense = sense_of(end.title)
    named = (link.nouns or frozenset()) - _OF_OTHERS | {relation}
    if sense and (re.search(r"\d", sense) or sense.split()[-1] not in named):
        return False
    if relation not in _MADE or "year" not in start.facts:
        return True
    year = int(start.facts["year"])
    born, died = (re.findall(r"\d{4}", end.facts.get(fact, "")) for fact in ("birth_date", "death_date"))
    is_too_late = died and year > int(died[0]) + _MOST_AFTER_DEATH and relation not in ("writer", "author")
    return not (is_too_late or (born and year < int(born[0]) + _LEAST_AGE))


def _bridge(
    chain: _Chain, names: _Names, drawn: random.Random, split: Literal["train", "test"]
) -> SearchTask | None:
    """Return the question of a chain, or None where it, or its first passage, gives the answer or the bridge away."""
    start, end = chain.start, chain.end
    link, asked = LINKS[chain.relation], ASKED[chain.asked]
    answer = end.nationality if chain.asked == "nationality" else end.facts[chain.asked]
    words = {
        "noun": "city" if end.noun == "capital" else end.noun,
        "who": "who" if end.kind == "person" else "that",
        "parent": _PARENTS.get(end.sex, "parent"),
        "spouse": _SPOUSES.get(end.sex, "spouse"),
    }
    needs_year = start.name.casefold() in names.shared or re.search(r"\(.*\d", start.title) is not None
    of = described(start, needs_year or drawn.random() < 0.4)
    if not tells_sense(of, start.title):
        return None
    description = link.description.format(of=of, **words)
    question = _question(asked, answer, drawn).format(of=description)
    # Nobody can look up `Johnson`, unless the world knows a singer by that.
    is_too_short = end.kind == "person" and " " not in end.name and chain.relation != "performer"
    if is_too_short or _tells(question, end.name) or _tells(f"{question} {end.name}", answer):
        return None
    # "Machuca is a 2004 Chilean film": nobody has to look up of what nationality its writer is to guess it.
    if contains_phrase(start.definition, answer):
        return None
    answers = (answer, *([answer.split(", ")[0]] if asked.sought.startswith(("place", "school")) else []))
    return SearchTask(
        id=content_id("bridge", start.passage_id, end.passage_id, question, answer),
        kind="qa",
        question=question,
        answers=(tuple(dict.fromkeys(answers)),),
        category="bridge",
        hops=(
            Hop(
                description,
                f"{start.name} {link.query.format(**words)}".strip(),
                end.name,
                link.sought.format(**words),
            ),
            Hop(asked.need.format(of=end.name), f"{end.name} {asked.query}", answer, asked.sought),
        ),
        gold_passage_ids=(start.passage_id, end.passage_id),
        evidence=(Evidence(start.title), Evidence(end.title)),
        split=split,
    )


def _question(asked: Asked, answer: str, drawn: random.Random) -> str:
    """Draw how a fact is asked for; of a bare year the year is asked for."""
    is_year = re.fullmatch(r"\d{4}", answer) is not None
    questions = [
        form
        for form in asked.questions
        if is_date(answer) or not form.startswith(("On what date", "What is the date"))
    ]
    question = drawn.choice(questions)
    return question.replace("When ", "In which year ", 1) if is_year else question


def _tells(text: str, phrase: str) -> bool:
    """Whether a text gives a name away: all of it, or for a person the last word."""
    return contains_phrase(text, phrase) or contains_phrase(text, phrase.split(", ")[0])
