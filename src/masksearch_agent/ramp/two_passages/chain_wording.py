"""How facts of passages are asked for: what leads from one passage to another, and what is asked of the other.

The forms are those of questions that people wrote over two passages (HotpotQA) or that were made of relations between
them (2WikiMultihopQA): `Where was the director of the 1932 film Down to Earth born?`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from masksearch_agent.ramp.lexicon.fact_patterns import KINDS, MONTH_DATE, WORK_KINDS
from masksearch_agent.ramp.lexicon.titles import sense_of
from masksearch_agent.ramp.two_passages.facts import Profile

__all__ = ("ASKED", "LINKS", "Asked", "Link", "belongs", "described", "is_date", "tells_sense")


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_SCREEN = _words(
    "author director filmmaker actor actress screenwriter producer writer cinematographer comedian animator playwright "
    "choreographer editor artist singer model"
)
_PAGE = _words(
    "writer author novelist poet playwright journalist philosopher dramatist historian essayist screenwriter scholar "
    "economist physicist biologist scientist politician statesman activist psychologist sociologist theologian critic "
    "naturalist satirist humorist mathematician actor actress filmmaker translator"
)
_STAGE = _words(
    "singer musician rapper singer-songwriter songwriter guitarist pianist dj drummer composer producer vocalist "
    "artist "
    "actor actress bassist entertainer saxophonist trumpeter violinist band group duo trio quartet"
)
_PLACES = _words(
    "city capital town village municipality commune hamlet suburb community county country island state province "
    "settlement "
    "neighborhood neighbourhood district region borough"
)


@dataclass(frozen=True, slots=True)
class Link:
    """How one thing is described by what the passage of another says of it."""

    description: str
    """`{of}` is the other thing, `{noun}` what this one is, `{parent}` and `{spouse}` what its sex is
    called."""
    kinds: tuple[str, ...]
    """What this thing may be."""
    nouns: frozenset[str] | None = None
    """What its own passage must call it; a namesake is hardly called the same. None takes any."""
    query: str = ""
    """Words to search with, behind the other thing's name."""
    sought: str = "{noun}"
    """What a thought calls it."""


@dataclass(frozen=True, slots=True)
class Asked:
    """How a fact is asked for."""

    questions: tuple[str, ...]
    """`{of}` is what the fact is about."""
    kinds: tuple[str, ...]
    """What it may be about."""
    need: str
    query: str
    """Words to search with, behind the name of what the fact is about."""
    sought: str
    """What a thought calls the answer."""
    weight: float = 1.0
    """How often it is asked, where several facts could be."""


LINKS = {
    "director": Link("the director of {of}", ("person",), _SCREEN, "directed by", "director"),
    "writer": Link("the writer of {of}", ("person",), _SCREEN | _PAGE, "written by", "writer"),
    "author": Link("the author of {of}", ("person",), _PAGE, "author", "author"),
    "performer": Link("the {noun} {who} recorded {of}", ("person", "group"), _STAGE, "{noun}"),
    "producer": Link("the producer of {of}", ("person",), _SCREEN | _STAGE, "produced by", "producer"),
    "composer": Link("the composer of {of}", ("person",), _STAGE, "composed by", "composer"),
    "creator": Link("the creator of {of}", ("person",), _SCREEN | _PAGE, "created by", "creator"),
    "developer": Link("the developer of {of}", ("company",), None, "developed by", "developer"),
    "publisher": Link("the publisher of {of}", ("company",), None, "published by", "publisher"),
    "single_of": Link("the album from which {of} was taken", ("album",), None, "from album", "album"),
    "based_on": Link("the {noun} on which {of} is based", ("book",), None, "based on"),
    "founder": Link("the founder of {of}", ("person",), None, "founded by", "founder"),
    "owner": Link("the owner of {of}", ("company",), None, "owned by", "owner"),
    "parent": Link(
        "the company of which {of} is a subsidiary", ("company",), None, "subsidiary of", "company"
    ),
    "label": Link(
        "the record label that released {of}", ("company",), None, "released on label", "record label"
    ),
    "architect": Link("the architect who designed {of}", ("person",), None, "designed by", "architect"),
    "discoverer": Link("the discoverer of {of}", ("person",), None, "discovered by", "discoverer"),
    "inventor": Link("the inventor of {of}", ("person",), None, "invented by", "inventor"),
    "named_after": Link("the person after whom {of} is named", ("person",), None, "named after", "person"),
    "founder_of": Link(
        "the {noun} of which {of} is a founder", ("company", "group", "school", "team"), None, "founder of"
    ),
    "father": Link("the {parent} of {of}", ("person",), None, "child of", "{parent}"),
    "spouse": Link("the {spouse} of {of}", ("person",), None, "married to", "{spouse}"),
    "university": Link("the {noun} that {of} attended", ("school",), None, "attended"),
    "member_of": Link("the {noun} of which {of} is known as a member", ("group",), None, "band"),
    "teaches_at": Link("the {noun} where {of} is a professor", ("school",), None, "professor at"),
    "held": Link("the {noun} where {of} took place", ("place",), _PLACES, "held in"),
    "set_in": Link("the {noun} in which {of} is set", ("place",), _PLACES, "set in"),
    "home_of": Link("the team whose home is {of}", ("team",), None, "home of", "team"),
    "plays_for": Link("the club that {of} plays for", ("team",), None, "plays for", "club"),
    "birth_place": Link("the {noun} where {of} was born", ("place",), _PLACES, "born in"),
    "death_place": Link("the {noun} where {of} died", ("place",), _PLACES, "died in"),
    "based": Link("the {noun} where {of} is based", ("place",), _PLACES, "based in"),
    "located": Link("the {noun} where {of} is located", ("place",), _PLACES, "located in"),
    "stands_in": Link("the {noun} where {of} is located", ("place",), _PLACES, "located in"),
    "county": Link("the {noun} where {of} is located", ("place",), _PLACES, "located in"),
    "country": Link(
        "the country where {of} is located",
        ("place",),
        frozenset(["country", "state", "island"]),
        "located in",
        "country",
    ),
    "capital": Link("the capital of {of}", ("place",), None, "capital", "capital"),
    "capital_of": Link("the {noun} whose capital is {of}", ("place",), _PLACES, "capital of"),
    "river": Link("the river on which {of} lies", ("river",), None, "on river", "river"),
    "tributary": Link("the river of which {of} is a tributary", ("river",), None, "tributary of", "river"),
}
"""By the name of the fact (`fact_patterns.PATTERNS`) that names the thing."""

_PERSON, _PLACE = ("person",), ("place",)

ASKED = {
    "birth_date": Asked(
        ("When was {of} born?", "What is the date of birth of {of}?", "On what date was {of} born?"),
        _PERSON,
        "when {of} was born",
        "born",
        "date of birth",
    ),
    "death_date": Asked(
        ("When did {of} die?", "What is the date of death of {of}?"),
        _PERSON,
        "when {of} died",
        "died",
        "date of death",
    ),
    "birth_place": Asked(
        ("Where was {of} born?", "What is the place of birth of {of}?"),
        _PERSON,
        "where {of} was born",
        "born in",
        "place of birth",
        4.0,
    ),
    "death_place": Asked(
        ("Where did {of} die?",), _PERSON, "where {of} died", "died in", "place of death", 4.0
    ),
    "nationality": Asked(
        ("What nationality is {of}?", "What is the nationality of {of}?"),
        _PERSON,
        "the nationality of {of}",
        "nationality",
        "nationality",
        0.7,
    ),
    "father": Asked(("Who is a parent of {of}?",), _PERSON, "a parent of {of}", "child of", "parent", 3.0),
    "spouse": Asked(
        ("Who is the spouse of {of}?",), _PERSON, "the spouse of {of}", "married to", "spouse", 3.0
    ),
    "university": Asked(
        ("Which school did {of} attend?", "Where was {of} educated?"),
        _PERSON,
        "where {of} was educated",
        "attended",
        "school",
        2.0,
    ),
    "member_of": Asked(
        ("Which band is {of} known as a member of?",), _PERSON, "the band of {of}", "band member", "band", 2.0
    ),
    "director": Asked(("Who directed {of}?",), ("film",), "the director of {of}", "directed by", "director"),
    "author": Asked(("Who wrote {of}?",), ("book",), "the author of {of}", "by", "author"),
    "performer": Asked(("Who recorded {of}?",), ("song", "album"), "who recorded {of}", "by", "performer"),
    "release_date": Asked(
        ("When was {of} released?", "What is the release date of {of}?"),
        ("film", "song", "album", "game"),
        "when {of} was released",
        "released",
        "release date",
    ),
    "year": Asked(
        ("In which year did {of} come out?", "What year is {of} from?"),
        WORK_KINDS,
        "the year of {of}",
        "year",
        "year",
    ),
    "founded": Asked(
        ("When was {of} founded?", "When was {of} established?"),
        ("company", "group", "school", "team", "place"),
        "when {of} was founded",
        "founded",
        "date",
    ),
    "founder": Asked(
        ("Who founded {of}?",),
        ("company", "group", "school", "team"),
        "the founder of {of}",
        "founded by",
        "founder",
        2.0,
    ),
    "based": Asked(
        ("Where is {of} based?", "In which place is {of} based?"),
        ("company", "group", "team"),
        "where {of} is based",
        "based in",
        "place",
    ),
    "area": Asked(("What is the area of {of}?",), _PLACE, "the area of {of}", "area", "area", 2.0),
    "capital": Asked(
        ("What is the capital of {of}?",), _PLACE, "the capital of {of}", "capital", "capital", 2.0
    ),
    "language": Asked(
        ("What is the official language of {of}?",),
        _PLACE,
        "the official language of {of}",
        "official language",
        "language",
        3.0,
    ),
    "river": Asked(("On which river does {of} lie?",), _PLACE, "the river of {of}", "on river", "river", 3.0),
    "country": Asked(
        ("In which country is {of}?",),
        (*_PLACE, "building", "school", "river"),
        "the country of {of}",
        "country",
        "country",
    ),
    "located": Asked(
        ("Where is {of} located?",),
        ("school", "building"),
        "where {of} is located",
        "located in",
        "place",
        0.7,
    ),
    "tributary": Asked(
        ("Which river is {of} a tributary of?",), ("river",), "what {of} flows into", "tributary of", "river"
    ),
    "length": Asked(("How long is {of}?",), ("river",), "the length of {of}", "long", "length"),
}
"""By the name of the fact."""

_ASKED_OF_CITY = _words("country")
_TOWNS = _words("city capital town")
_ASKED_OF_PLACE = {
    "capital": _words("river area founded"),
    "capital_of": _words("area language country"),
    "country": _words("language"),
}
"""What people ask of a place, by the link that leads there; elsewhere only which country it is in."""


def belongs(start: Profile, relation: str, end: Profile, asked: str) -> bool:
    """Whether somebody who asks about one thing would want to know this of the place that it leads to.

    Where an airport is, is one question, and what the capital of that country is, another one.
    """
    if end.kind != "place":
        return True
    if relation == "country" and start.noun not in _TOWNS:
        return False
    return asked in _ASKED_OF_PLACE.get(relation, _ASKED_OF_CITY)


_SHOWN_KINDS = {"series": "series", "game": "video game"}


def described(profile: Profile, has_year: bool) -> str:
    """Return a thing as a question names it: a work with what it is, and its year where `has_year` and known."""
    sense = sense_of(profile.title)
    if profile.kind not in (*WORK_KINDS, "group"):
        is_noun = sense.islower() and KINDS.get(sense.split()[-1]) == profile.kind
        return f"the {sense} {profile.name}" if is_noun else profile.name
    shown = _SHOWN_KINDS.get(
        profile.kind, profile.noun if profile.noun in ("novel", "band", "play", "duo") else profile.kind
    )
    year = f"{profile.facts['year']} " if has_year and "year" in profile.facts else ""
    return f"the {year}{shown} {profile.name}"


def tells_sense(text: str, title: str) -> bool:
    """Whether a text tells which of several things with one name is meant, as the title does in parentheses."""
    said = set(re.findall(r"\w+", text.casefold()))
    return said.issuperset(re.findall(r"\w+", sense_of(title).casefold()))


def is_date(value: str) -> bool:
    """Whether a time is told to the day."""
    return re.fullmatch(MONTH_DATE, value) is not None
