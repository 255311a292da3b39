"""Multi-hop questions about a closed world, each with the path of facts that answers it.

Four categories, as in HotpotQA and FanoutQA: bridge (a chain of 1 to 4 facts), comparison (which of two came
first), intersection (who fits two conditions) and counting (how many). A question is only ever asked about
entities of one split.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Callable, Sequence

from masksearch_agent.lab.closed_world import ClosedWorld, Entity, Fact, Split
from masksearch_agent.records import Hop, SearchTask, content_id

__all__ = ("CATEGORIES", "make_questions")

MAX_HOPS = 4
_ATTEMPTS_PER_QUESTION = 20


def make_questions(
    world: ClosedWorld,
    split: Split,
    count: int,
    hops: int = 2,
    category: str = "bridge",
    seed: int = 0,
) -> list[SearchTask]:
    """Make distinct questions of one category and number of hops.

    Args:
        split: Ask about entities of this split only.
        count: Number of questions; fewer come back where the world holds no more.
        hops: Facts on the path of a bridge question, 1 to 4; other categories need as many as they need.
        category: One of `CATEGORIES`.
        seed: Independent of the world's seed.

    Raises:
        ValueError: An unknown category or a number of hops outside 1 to 4.
    """
    if category not in CATEGORIES:
        raise ValueError(f"unknown category {category!r}; expected one of {sorted(CATEGORIES)}")
    if not 1 <= hops <= MAX_HOPS:
        raise ValueError(f"hops is {hops}; expected 1 to {MAX_HOPS}")
    rng = random.Random(f"questions:{world.seed}:{split}:{category}:{hops}:{seed}")
    writer = _QuestionWriter(world, split, rng)
    tasks: dict[str, SearchTask] = {}
    for _ in range(count * _ATTEMPTS_PER_QUESTION):
        if len(tasks) == count:
            break
        task = CATEGORIES[category](writer, hops)
        if task is not None:
            tasks.setdefault(task.id, task)
    return list(tasks.values())


class _QuestionWriter:
    """Draws entities of one split and writes questions about them."""

    def __init__(self, world: ClosedWorld, split: Split, rng: random.Random) -> None:
        self.world = world
        self.split: Split = split
        self.rng = rng
        self.entities = [entity for entity in world.entities.values() if entity.split == split]
        self.passages_telling = defaultdict[tuple[str, str], list[str]](list)
        for mention in world.mentions:
            self.passages_telling[mention.hop.need, mention.hop.answer].append(mention.passage_id)

    def task(
        self, question: str, answer: str, facts: Sequence[Fact], category: str, hops: Sequence[Hop] = ()
    ) -> SearchTask:
        """Assemble a task; its gold passages are those that tell the facts, its hops by default look them up."""
        gold = [passage for fact in facts for passage in self.passages_telling[fact.hop.need, fact.object]]
        return SearchTask(
            id=content_id("closed-world-question", self.world.seed, question),
            kind="qa",
            question=question,
            answers=((answer,),),
            category=category,
            hops=tuple(hops) or tuple(fact.hop for fact in facts),
            gold_passage_ids=tuple(dict.fromkeys(gold)),
            split=self.split,
        )

    def chain(self, hops: int) -> list[Fact]:
        """Walk from a random entity over facts that lead to entities; the last fact may be of any kind."""
        current = self.rng.choice(self.entities).name
        path: list[Fact] = []
        for step in range(hops):
            is_last = step == hops - 1
            choices = [f for f in self.world.facts[current] if is_last or f.relation.is_entity_valued]
            path.append(self.rng.choice(choices))
            current = path[-1].object
        return path

    def phrase(self, path: Sequence[Fact]) -> str:
        """Write a noun phrase for where a path leads: `the mayor of the city where Elise Keller was born`."""
        phrase = path[0].subject
        for fact in path:
            phrase = self.rng.choice(fact.relation.noun_phrases).format(s=phrase)
        return phrase


def _ask_bridge(writer: _QuestionWriter, hops: int) -> SearchTask | None:
    path = writer.chain(hops)
    visited = [fact.subject for fact in path] + [path[-1].object]
    if len(set(visited)) != len(visited):
        return None
    inner = writer.phrase(path[:-1]) if hops > 1 else path[0].subject
    question = writer.rng.choice(path[-1].relation.questions).format(s=inner)
    return writer.task(question, path[-1].object, path, "bridge")


_COMPARISONS = {
    "person": ("birth year", "Who was born first, {a} or {b}?"),
    "city": ("population", "Which city has more people, {a} or {b}?"),
    "company": ("founding year", "Which company was founded first, {a} or {b}?"),
    "work": ("publication year", "Which book came out first, {a} or {b}?"),
}


def _ask_comparison(writer: _QuestionWriter, hops: int) -> SearchTask | None:
    kind = writer.rng.choice(sorted(_COMPARISONS))
    label, pattern = _COMPARISONS[kind]
    first, second = writer.rng.sample([entity for entity in writer.entities if entity.kind == kind], 2)
    facts = [writer.world.fact(entity.name, label) for entity in (first, second)]
    values = [int(fact.object) for fact in facts]
    if values[0] == values[1]:
        return None
    first_wins = values[0] > values[1] if label == "population" else values[0] < values[1]
    winner = first if first_wins else second
    question = pattern.format(a=first.name, b=second.name)
    return writer.task(question, winner.name, facts, "comparison")


def _ask_intersection(writer: _QuestionWriter, hops: int) -> SearchTask | None:
    person = writer.rng.choice([entity for entity in writer.entities if entity.kind == "person"])
    employer = writer.world.fact(person.name, "employer")
    profession = writer.world.fact(person.name, "profession")
    matching = [
        entity
        for entity in _staff(writer, employer.object)
        if writer.world.fact(entity.name, "profession").object == profession.object
    ]
    if len(matching) != 1:
        return None
    question = f"Which {profession.object} works for {employer.object}?"
    need = f"the {profession.object} on the staff of {employer.object}"
    found = Hop(need, f"{employer.object} {profession.object}", person.name)
    return writer.task(question, person.name, (employer, profession), "intersection", (found, profession.hop))


def _ask_counting(writer: _QuestionWriter, hops: int) -> SearchTask | None:
    company = writer.rng.choice([entity for entity in writer.entities if entity.kind == "company"])
    staff = _staff(writer, company.name)
    if not staff:
        return None
    facts = [writer.world.fact(entity.name, "employer") for entity in staff]
    found = [Hop(f"who works for {company.name}", f"{company.name} staff", entity.name) for entity in staff]
    return writer.task(f"How many people work for {company.name}?", str(len(staff)), facts, "counting", found)


def _staff(writer: _QuestionWriter, company: str) -> list[Entity]:
    return [
        entity
        for entity in writer.entities
        if entity.kind == "person" and writer.world.fact(entity.name, "employer").object == company
    ]


CATEGORIES: dict[str, Callable[[_QuestionWriter, int], SearchTask | None]] = {
    "bridge": _ask_bridge,
    "comparison": _ask_comparison,
    "intersection": _ask_intersection,
    "counting": _ask_counting,
}
"""How to ask a question of each category; None where the entities drawn do not make one."""
