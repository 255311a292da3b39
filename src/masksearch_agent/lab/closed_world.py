"""A synthetic encyclopedia: nothing in it can be known without searching.

A seed makes people, cities, companies and books with facts about them. Every fact is told in two of the three
articles about its subject, each time in other words, and facts that link two entities also stand in an article
of the other one, so a fact that is masked in one passage can be found in another. Names are fresh pairs of
shared words: a model can learn to read and copy them but never to recall what is said about them.

Entities of the test split are linked among themselves only and never occur in a training passage, task or
question. Their names come from a reserved share of all names, which no training split of any world uses, so no
model has seen them in training of any kind.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from masksearch_agent.errors import CorpusError
from masksearch_agent.files import replace_text
from masksearch_agent.jsonl import write_jsonl
from masksearch_agent.lab.world_language import (
    ADJECTIVES,
    ARTICLES,
    COMPANY_SUFFIXES,
    GENRES,
    GIVEN_NAMES,
    INNER,
    NOUNS,
    PLACE_KINDS,
    PLACE_STEMS,
    PRODUCTS,
    PROFESSIONS,
    REGIONS,
    SURNAMES,
    Relation,
    relations_of,
)
from masksearch_agent.ramp.spans import FactMention
from masksearch_agent.records import Hop, Passage, content_id

__all__ = ("ClosedWorld", "Entity", "Fact", "Split", "make_world", "write_world")

Split = Literal["train", "test"]

_NAME_PARTS: dict[str, tuple[str, Sequence[str], Sequence[str]]] = {
    "person": ("{} {}", GIVEN_NAMES, SURNAMES),
    "city": ("{} {}", PLACE_STEMS, PLACE_KINDS),
    "company": ("{} {}", SURNAMES, COMPANY_SUFFIXES),
    "work": ("The {} {}", ADJECTIVES, NOUNS),
}
_TERMS = {"profession": PROFESSIONS, "region": REGIONS, "product": PRODUCTS, "genre": GENRES}
_SHARE_OF_KIND = {"person": 0.4, "city": 0.2, "company": 0.2, "work": 0.2}
_MAX_INVERSE_MENTIONS = 2
_RESERVED_SHARE = 1 / 8
"""Share of all names kept for test splits. A larger share, or one that follows a rule, would let a language model
learn which names do not occur instead of reading them: names are pairs of words, and pairs can be memorised."""


@dataclass(frozen=True, slots=True)
class Entity:
    """A person, city, company or book."""

    name: str
    kind: str
    split: Split


@dataclass(frozen=True, slots=True)
class Fact:
    """What a relation says of a subject; `object` is an entity's name or a plain value."""

    subject: str
    relation: Relation
    object: str

    @property
    def hop(self) -> Hop:
        """The fact as something to be looked up."""
        label = self.relation.label
        return Hop(f"{self.subject}'s {label}", f"{self.subject} {label}", self.object)


@dataclass(frozen=True)
class ClosedWorld:
    """Entities, their facts, and the articles that tell them."""

    seed: int
    entities: dict[str, Entity]
    facts: dict[str, tuple[Fact, ...]]
    """By subject."""
    passages: tuple[Passage, ...]
    mentions: tuple[FactMention, ...]

    def split_of(self, passage: Passage) -> Split:
        """Return the split of the entity that a passage is about."""
        return self.entities[passage.document_id].split

    def fact(self, subject: str, label: str) -> Fact:
        """Return the one fact of a subject with a relation's label."""
        return next(fact for fact in self.facts[subject] if fact.relation.label == label)


def make_world(seed: int, train_entities: int = 400, test_entities: int = 200) -> ClosedWorld:
    """Make a world from a seed; the same seed and sizes give the same world, to the letter.

    Args:
        test_entities: Entities of the test split; 0 for a world that is only read.

    Raises:
        CorpusError: A split is too small to link its entities, or more names are asked for than exist.
    """
    rng = random.Random(f"closed-world:{seed}")
    entities: dict[str, Entity] = {}
    facts: dict[str, tuple[Fact, ...]] = {}
    sizes: tuple[tuple[Split, int], ...] = (("train", train_entities), ("test", test_entities))
    for split, size in sizes:
        if size == 0:
            continue
        names = {kind: _shuffled_names(kind, is_reserved=split == "test", rng=rng) for kind in _NAME_PARTS}
        members = _make_entities(size, split, names)
        entities |= {entity.name: entity for entity in members}
        facts |= _make_facts(members, rng)
    passages: list[Passage] = []
    mentions: list[FactMention] = []
    inverse = _inverse_facts(facts, entities)
    for name, entity in entities.items():
        for passage, told in _write_articles(entity, facts[name], inverse.get(name, []), rng, seed):
            passages.append(passage)
            mentions.extend(told)
    return ClosedWorld(seed, entities, facts, tuple(passages), tuple(mentions))


def _shuffled_names(kind: str, is_reserved: bool, rng: random.Random) -> list[str]:
    pattern, first, second = _NAME_PARTS[kind]
    names = [pattern.format(a, b) for a in first for b in second]
    # The reserved names are the same in every world, and follow no rule.
    random.Random(f"reserved:{kind}").shuffle(names)
    reserved = round(len(names) * _RESERVED_SHARE)
    names = names[:reserved] if is_reserved else names[reserved:]
    rng.shuffle(names)
    return names


def _make_entities(size: int, split: Split, names: dict[str, list[str]]) -> list[Entity]:
    members = []
    for kind, share in _SHARE_OF_KIND.items():
        count = round(size * share)
        if count < 3:
            raise CorpusError(f"a {split} split of {size} entities is too small to link; ask for at least 15")
        if count > len(names[kind]):
            raise CorpusError(
                f"{count} names of kind {kind!r} were asked for but only {len(names[kind])} are left; "
                f"make the world smaller"
            )
        members += [Entity(names[kind].pop(), kind, split) for _ in range(count)]
    return members


def _make_facts(members: Sequence[Entity], rng: random.Random) -> dict[str, tuple[Fact, ...]]:
    by_kind: dict[str, list[str]] = {kind: [] for kind in INNER}
    for entity in members:
        by_kind[entity.kind].append(entity.name)
    facts = {}
    for entity in members:
        told = []
        for relation in relations_of(entity.kind):
            if relation.is_entity_valued:
                choices = [name for name in by_kind[relation.object_kind] if name != entity.name]
                value = rng.choice(choices)
            elif relation.object_kind == "year":
                value = str(rng.randrange(1500, 2000))
            elif relation.object_kind == "number":
                value = str(rng.randrange(1000, 10000))
            else:
                value = rng.choice(_TERMS[relation.label])
            told.append(Fact(entity.name, relation, value))
        facts[entity.name] = tuple(told)
    return facts


def _inverse_facts(facts: dict[str, tuple[Fact, ...]], entities: dict[str, Entity]) -> dict[str, list[Fact]]:
    inverse: dict[str, list[Fact]] = {}
    for told in facts.values():
        for fact in told:
            if fact.object in entities:
                inverse.setdefault(fact.object, []).append(fact)
    return inverse


def _write_articles(
    entity: Entity,
    facts: Sequence[Fact],
    inverse: Sequence[Fact],
    rng: random.Random,
    seed: int,
) -> Iterator[tuple[Passage, list[FactMention]]]:
    """Write one article per title suffix; each fact goes into two of them, in two different wordings."""
    plans: list[list[tuple[str, Fact, str]]] = [[] for _ in ARTICLES]
    for fact in facts:
        homes = rng.sample(range(len(ARTICLES)), 2)
        tellings = rng.sample(fact.relation.tellings, len(homes))
        for home, telling in zip(homes, tellings, strict=True):
            plans[home].append((telling, fact, fact.object))
    for fact in rng.sample(list(inverse), min(_MAX_INVERSE_MENTIONS, len(inverse))):
        home = rng.randrange(len(ARTICLES))
        plans[home].append((rng.choice(fact.relation.inverse_tellings), fact, fact.subject))
    for position, (suffix, plan) in enumerate(zip(ARTICLES, plans, strict=True)):
        rng.shuffle(plan)
        if not plan:
            continue
        title = entity.name + suffix
        text, spans = _write_text(entity, plan)
        passage_id = content_id("closed-world", seed, title, text)
        passage = Passage(passage_id, title, text, entity.name, position, f"closed-world:{seed}")
        told = [
            FactMention(
                passage_id, start, end, fact.relation.label, fact.hop, _question(fact, telling, passage_id)
            )
            for start, end, fact, telling in spans
        ]
        yield passage, told


def _write_text(
    entity: Entity, plan: Sequence[tuple[str, Fact, str]]
) -> tuple[str, list[tuple[int, int, Fact, str]]]:
    """Return the article, and the spans where an object of the entity's own facts is named, with how it is told."""
    text = ""
    spans = []
    for telling, fact, told_object in plan:
        before, after = telling.format(s=entity.name, p=f"{entity.name}'s", o="{o}").split("{o}")
        text += (" " if text else "") + before
        start = len(text)
        text += told_object + after
        if fact.subject == entity.name:
            spans.append((start, start + len(told_object), fact, telling))
    return text, spans


def _question(fact: Fact, telling: str, passage_id: str) -> str:
    """Return a sentence of a passage as a question for its fact, in one of the ways there are.

    Drawn apart from the world, which is the same with and without its questions.
    """
    draw = random.Random(content_id("cloze", passage_id, telling))
    pattern = draw.choice(fact.relation.cloze_questions(telling))
    return pattern.format(s=fact.subject, p=f"{fact.subject}'s")


def write_world(world: ClosedWorld, directory: Path) -> None:
    """Write a world's passages, fact mentions and description into a folder."""
    directory.mkdir(parents=True, exist_ok=True)
    write_jsonl(directory / "passages.jsonl", world.passages)
    write_jsonl(directory / "mentions.jsonl", world.mentions)
    counts = {split: sum(e.split == split for e in world.entities.values()) for split in get_args(Split)}
    description = {"seed": world.seed, "passages": len(world.passages), "entities": counts}
    replace_text(directory / "world.json", json.dumps(description, indent=2) + "\n")
