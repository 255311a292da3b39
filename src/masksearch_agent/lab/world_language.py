"""Words and sentence patterns of the closed world: what its encyclopedia and its questions are written with.

The words are few, about two hundred, because a model of a million parameters has to learn to copy each of them; the
names are pairs of them, hundreds of each kind.

Patterns name the subject as `{s}`, its possessive as `{p}`, and the object as `{o}`. Names are always written out, so
a fact can be masked and found by its text, and every sentence can be understood on its own.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

__all__ = (
    "ADJECTIVES",
    "ARTICLES",
    "COMPANY_SUFFIXES",
    "GENRES",
    "GIVEN_NAMES",
    "INNER",
    "NOUNS",
    "PLACE_KINDS",
    "PLACE_STEMS",
    "PRODUCTS",
    "PROFESSIONS",
    "REGIONS",
    "RELATIONS",
    "SURNAMES",
    "WORDS",
    "Relation",
    "relations_of",
)


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


GIVEN_NAMES = _words(
    "Alden Brisa Corin Delia Edric Farah Gavin Hilda Ivor Jorun Kasia Lorne Mirel Nadia Osric Petra Quill Rhea "
    "Soren Talia Ulric Vesna Wilma Xenia Yorick Zelda Anwen Bruno Cyra Dario Elise Fenn"
)
SURNAMES = _words(
    "Abbot Barlow Calder Dunmore Ellery Farrow Garrick Hollis Ingram Jarvis Keller Lomax Marlow Norwood Orwell "
    "Penrose Quincy Radley Selwyn Thorne Underhill Vance Whitlock Yardley Ashby Benton Crane Draper Everett "
    "Fulton Granger Hastings"
)
PLACE_STEMS = _words(
    "Velling Harrow Tarn Ospen Brackwater Cindle Dorrin Eskam Fallow Glimmer Hexton Istrel Juniper Kestrel Lunden "
    "Morrow Nettle Ostra Pellam Quarren Rook Sable Tolland Umber Vintry Wexley Yarrow Zephyr"
)
PLACE_KINDS = _words("Harbor Bridge Heights Ferry Hollow Cross Landing Falls Point Market Green Gate")
COMPANY_SUFFIXES = _words(
    "Works Mills Foundry Press Labs Motors Brewery Shipping Textiles Glass Optics Tools"
)
ADJECTIVES = _words(
    "Silent Crimson Broken Golden Hidden Distant Frozen Gentle Lonely Midnight Narrow Pale Quiet Restless Scarlet "
    "Tender Unseen Velvet Wandering Ancient"
)
NOUNS = _words(
    "River Orchard Lantern Mirror Garden Voyage Winter Castle Shepherd Compass Letter Meadow Island Harvest Window "
    "Tower Violin Sparrow Kingdom Journey"
)
PROFESSIONS = _words(
    "barber botanist cartographer dentist farmer geologist lawyer musician painter pilot tailor weaver"
)
REGIONS = _words("Ardenia Borvale Caldera Drumland Estoria Fennmark Gallovia Hestria Ironreach Jutmark")
PRODUCTS = _words("bicycles candles cameras clocks carpets engines gloves kettles pianos radios sails shoes")
GENRES = _words("mystery romance satire tragedy comedy fantasy memoir thriller")

WORDS = (
    *GIVEN_NAMES, *SURNAMES, *PLACE_STEMS, *PLACE_KINDS, *COMPANY_SUFFIXES, *ADJECTIVES, *NOUNS,
    *PROFESSIONS, *REGIONS, *PRODUCTS, *GENRES,
)  # fmt: skip
"""All words that names and plain values are made of."""

ARTICLES = ("", " (almanac)", " (chronicle)")
"""Title suffixes of the articles about one entity. Each fact is told in two of them, in other words."""

INNER: dict[str, str] = {
    "person": "person",
    "city": "city",
    "company": "company",
    "work": "book",
}
"""The common noun of each kind of entity."""


_QUESTION_WORDS: dict[str, tuple[str, ...]] = {
    "person": ("who", "which person"),
    "city": ("where", "which city"),
    "company": ("which company",),
    "year": ("when", "which year"),
    "number": ("how many",),
    "term": ("what", "which"),
}
"""What a masked sentence that is worded as a question asks for an object of a kind with."""


@dataclass(frozen=True, slots=True)
class Relation:
    """A kind of fact: how it is told in articles and asked for in questions."""

    subject_kind: str
    label: str
    """Noun used in needs, queries and nested questions: `founder`."""
    object_kind: str
    """An entity kind, or the kind of value: `year`, `number`, `term`."""
    tellings: tuple[str, ...]
    """Sentences for the subject's own articles."""
    inverse_tellings: tuple[str, ...]
    """Sentences for the object's articles, `{s}` the object and `{o}` the subject; empty for plain values."""
    questions: tuple[str, ...]
    """Direct questions about `{s}`."""
    descriptions: tuple[str, ...] = ()
    """Noun phrases for the object beside `the LABEL of {s}`, used inside longer questions."""

    def cloze_questions(self, telling: str) -> tuple[str, ...]:
        """Return the ways to word one of the tellings as a question for its object, about `{s}` or `{p}`.

        They are made of the sentence's own words: a question word stands in the object's place, or in front with `is`
        or `was` before the subject, and `X's mentor` may be `the mentor of X`. What evaluation asks word for word
        (`questions`) is left out.
        """
        sentence = telling.removesuffix(".")
        labels = () if self.label in sentence else (f"which {self.label}", f"what {self.label}")
        asked = []
        for told in dict.fromkeys(
            (sentence, re.sub(r"^{p} (.+?) (?=is |are )", r"the \1 of {s} ", sentence))
        ):
            turned = re.sub(r"^({s}|{p} .+?|the .+? of {s}) (is|are|was)\b", r"\2 \1", told)
            for words in (*_QUESTION_WORDS[self.object_kind], *labels):
                asked += [told.replace("{o}", words), " ".join([words, *turned.replace("{o}", "").split()])]
        # A pattern that begins with a name begins with a capital already.
        made = (f"{text[:1].upper()}{text[1:]}?" for text in asked)
        return tuple(question for question in made if question not in self.questions)

    @property
    def noun_phrases(self) -> tuple[str, ...]:
        """All noun phrases for the object."""
        return (f"the {self.label} of {{s}}", *self.descriptions)

    @property
    def is_entity_valued(self) -> bool:
        """Whether the object is an entity with articles of its own."""
        return self.object_kind in INNER


RELATIONS = (
    Relation(
        "person", "birthplace", "city",
        ("{s} was born in {o}.", "{p} birthplace is {o}.", "{s} grew up in {o}.", "{p} life began in {o}."),
        ("{s} is the birthplace of {o}.", "One of the people born in {s} is {o}."),
        ("Where was {s} born?", "In which city was {s} born?"),
        ("the city where {s} was born",),
    ),
    Relation(
        "person", "employer", "company",
        ("{s} works for {o}.", "{p} employer is {o}.", "{s} has a post at {o}.", "{s} is on the staff of {o}."),
        ("{s} employs {o}.", "{o} is on the staff of {s}."),
        ("Which company does {s} work for?", "Who employs {s}?"),
        ("the company that employs {s}",),
    ),
    Relation(
        "person", "birth year", "year",
        ("{s} was born in the year {o}.", "{p} birth year is {o}.", "{s} came into the world in {o}."),
        (),
        ("When was {s} born?", "In which year was {s} born?"),
    ),
    Relation(
        "person", "profession", "term",
        ("{s} is known as a {o}.", "{p} profession is that of a {o}.", "{s} earns a living as a {o}."),
        (),
        ("What does {s} do for a living?", "What is the profession of {s}?"),
    ),
    Relation(
        "person", "mentor", "person",
        ("{s} was taught by {o}.", "{p} mentor is {o}.", "{s} learned the trade from {o}."),
        ("{s} taught {o}.", "{s} was the mentor of {o}."),
        ("Who taught {s}?", "Who is the mentor of {s}?"),
        ("the person who taught {s}",),
    ),
    Relation(
        "city", "mayor", "person",
        ("{s} is led by {o}.", "{p} mayor is {o}.", "{s} chose {o} as its mayor."),
        ("{s} is the mayor of {o}.", "{s} leads {o}."),
        ("Who leads {s}?", "Who is the mayor of {s}?"),
        ("the person who leads {s}",),
    ),
    Relation(
        "city", "region", "term",
        ("{s} lies in {o}.", "{p} region is {o}.", "{s} is part of {o}."),
        (),
        ("In which region is {s}?", "Which region is {s} part of?"),
    ),
    Relation(
        "city", "population", "number",
        ("{s} has {o} people.", "{p} population is {o}.", "{s} counts {o} people."),
        (),
        ("How many people live in {s}?", "What is the population of {s}?"),
    ),
    Relation(
        "city", "founding year", "year",
        ("{s} was founded in {o}.", "{p} founding year is {o}.", "{s} goes back to {o}."),
        (),
        ("When was {s} founded?", "In which year was {s} founded?"),
    ),
    Relation(
        "company", "headquarters", "city",
        ("{s} is based in {o}.", "{p} headquarters are in {o}.", "{s} runs its business from {o}."),
        ("{s} is home to {o}.", "{s} is the seat of {o}."),
        ("Where is {s} based?", "In which city is {s} based?"),
        ("the city where {s} is based",),
    ),
    Relation(
        "company", "founder", "person",
        ("{s} was founded by {o}.", "{p} founder is {o}.", "{s} was set up by {o}."),
        ("{s} founded {o}.", "{s} is the founder of {o}."),
        ("Who founded {s}?", "Who is the founder of {s}?"),
        ("the person who founded {s}",),
    ),
    Relation(
        "company", "founding year", "year",
        ("{s} was founded in {o}.", "{p} founding year is {o}.", "{s} opened its doors in {o}."),
        (),
        ("When was {s} founded?", "In which year was {s} founded?"),
    ),
    Relation(
        "company", "product", "term",
        ("{s} makes {o}.", "{p} main product is {o}.", "{s} is known for its {o}."),
        (),
        ("What does {s} make?", "What is the main product of {s}?"),
    ),
    Relation(
        "work", "author", "person",
        ("{s} was written by {o}.", "{p} author is {o}.", "{s} came from the pen of {o}."),
        ("{s} wrote {o}.", "{s} is the author of {o}."),
        ("Who wrote {s}?", "Who is the author of {s}?"),
        ("the person who wrote {s}",),
    ),
    Relation(
        "work", "publisher", "company",
        ("{s} was published by {o}.", "{p} publisher is {o}.", "{s} was brought out by {o}."),
        ("{s} published {o}.", "{s} is the publisher of {o}."),
        ("Who published {s}?", "Which company published {s}?"),
        ("the company that published {s}",),
    ),
    Relation(
        "work", "publication year", "year",
        ("{s} came out in {o}.", "{p} publication year is {o}.", "{s} first appeared in {o}."),
        (),
        ("When did {s} come out?", "In which year did {s} come out?"),
    ),
    Relation(
        "work", "genre", "term",
        ("{s} is a work of {o}.", "{p} genre is {o}.", "{s} belongs to the shelf of {o}."),
        (),
        ("Which genre is {s}?", "What is the genre of {s}?"),
    ),
)  # fmt: skip


def relations_of(kind: str) -> tuple[Relation, ...]:
    """Return the relations whose subject is of a kind."""
    return tuple(relation for relation in RELATIONS if relation.subject_kind == kind)
