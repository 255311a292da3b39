"""What an encyclopedic passage says of the thing in its title, read by rule.

Such a passage opens with a definition, `Down to Earth is a 1932 American film directed by David Butler`, and goes on
with sentences about the same thing. Read are its kind, and facts that can be asked for: who made it, when it began,
where it is. A pattern is tried only where the sentence is about the title and nothing before it in the sentence has
changed the subject: a missed fact costs nothing, a wrong one makes a wrong question. English only.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from masksearch_agent.ramp.lexicon.fact_patterns import (
    KINDS,
    MONTH_DATE,
    NATIONALITY,
    OF_PART,
    PATTERNS,
    PLACE,
    SENTENCES,
    YEAR,
)
from masksearch_agent.ramp.lexicon.nationalities import COUNTRIES
from masksearch_agent.ramp.lexicon.titles import PARENTHESES, plain_name
from masksearch_agent.records import Passage

__all__ = ("Profile", "read_profile")

_ALIAS = re.compile(r",\s+|\s+(?:or|alias|known as|called|and)\s+")
_MOST_OTHER_WORDS = 4
"""Of a name in the text, that are not in the title: `Rachel Louise Carson`."""
_SENTENCE_END = re.compile(
    r"(?<![A-Z])(?<!\bSt)(?<!\bJr)(?<!\b[DM]r)(?<!\bMrs)(?<!\bNo)(?<!\bvs)[.!?][\"”)]?\s+(?=[\"“(]?[A-Z])"
)
_MOST_CHARACTERS = 1500
"""Of a passage that are read: a longer one is about more than its title."""
_MOST_OF_DEFINITION = 200
_DEFINITION = re.compile(
    r"(?P<subject>[^;:]{1,160}?),?\s+(?P<verb>is|was|are|were)\s+(?P<article>an?|the)\s+(?P<definition>.+)"
)
_NOUN_END = re.compile(
    r"[,.;:\"]|\s(?:that|who|which|by|in|of|from|for|and|or|with|on|at|about|whose|to|as|where|between|near|under|during|"
    r"within|along|(?!(?:based|animated|illustrated|fortified|inhabited|populated|recorded|owned|operated|listed|unincorporated"
    r"|retired|united|published|gated|walled|protected|disputed)\b(?=\s\w+$))[a-z]+(?:ed|ten|wn)|starring|featuring|set|"
    r"consisting|first|is|was|made|born|built|held|found|currently|originally|primarily|mainly)(?=\s|$)"
)
_FIELD = "film|television|TV|stage|theatre|theater|voice|radio|screen|documentary|movie|opera|short|music"
_FIELDS = re.compile(
    rf"\b({_FIELD})(?:,? (?:and |or |& )?(?:{_FIELD}))*,? (?:and|or|&) (?:[\w-]+ )?"
    r"((?:actor|actress|director|producer|writer|composer|singer|screenwriter|editor|performer)\b)"
)
"""`film and television director`: the noun is behind the `and`."""
_BARRIER = re.compile(
    r"\b(?:which|that|who|whose|where|when|while|after|before|based on|novel|book|play|story|sequel|remake|"
    r"adaptation|adapted|starring|stars|featuring|about|version|prequel|until|because|but|than|episodes?|"
    r"from|not|if|although|though|like|including|such)\b"
)
"""What changes the subject of a sentence: what comes after it need not be about the title."""
_LIFE = re.compile(rf"(?:^|;|,)\s*(?:(?P<born>born|b\.)\s+)?(?P<birth>{MONTH_DATE}|{YEAR})(?P<rest>.*)$")
_LIFE_END = re.compile(
    rf"\s[-–—]\s*(?P<death>{MONTH_DATE}|{YEAR})\s*(?:[,;)]|in\b|$)|[-–—](?P<short>{YEAR})\s*$"
)
_LIFE_PLACE = re.compile(rf",? (?:in )?({PLACE})(?= [-–—]|$|;)")
_NATIONALITY = re.compile(rf"(?<![\w-])({NATIONALITY})(?![\w-])")


@dataclass(frozen=True, slots=True)
class Profile:
    """What a passage says of its title."""

    passage_id: str
    title: str
    name: str
    """The title without what it has in parentheses."""
    kind: str
    """`person`, `film`, `place`, …: a key of `fact_patterns.KINDS`."""
    noun: str
    """What its definition calls it: `director`, `village`."""
    nationality: str
    """`American`; empty where the definition does not begin with exactly one."""
    definition: str
    """How it is defined: `1932 American film directed by …`."""
    sex: str = ""
    """`male` or `female`, by the pronouns that the passage uses; empty where it uses none or both."""
    facts: dict[str, str] = field(default_factory=dict)
    """What is said, by the name of the relation (`fact_patterns.PATTERNS`), as written in the passage."""
    phrase: str = ""
    """The definition up to its noun, without a year: `American silent drama film`."""


def read_profile(passage: Passage) -> Profile | None:
    """Return what a passage says of its title, or None where it does not open with a definition of a known kind."""
    name = plain_name(passage.title)
    first, *others = _SENTENCE_END.split(_tidy(passage.text[:_MOST_CHARACTERS]))
    without = _pull_parentheses(first)[0]
    found = _DEFINITION.match(without)
    if not name or found is None or not _is_about(found["subject"], name):
        return None
    phrase, rest = _cut(found["definition"])
    noun = phrase.split()[-1].lower() if phrase else ""
    kind = _kind_of(phrase, noun, passage.title)
    if not kind or "&" in name:  # Left of markup, in half of the corpora: `&amp;`.
        return None
    nationalities = _NATIONALITY.findall(phrase)
    facts: dict[str, str] = {}
    _read_life(_pull_parentheses(_before_verb(first, found["verb"]))[1], facts)
    if kind != "person" and "birth_date" in facts:
        return None  # Somebody, whose occupation is none of `KINDS`.
    if kind != "person" and (year := re.match(rf"(?:{YEAR})(?=\s)", phrase)):
        facts["year"] = year[0]
    clauses = [rest, *_predicates(others, name, noun, kind)]
    parts = _parts(others, name, kind)
    for relation, (kinds, pattern) in PATTERNS.items():
        told = [*clauses, *parts] if relation in OF_PART else clauses
        if kind in kinds and relation not in facts and (value := _find(pattern, told, relation)):
            facts[relation] = value
    for relation, (kinds, pattern) in SENTENCES.items():
        if kind in kinds and relation not in facts and (value := _find(pattern, others, relation)):
            facts[relation] = value
    if noun in ("country", "state", "region", "continent"):
        facts.pop("river", None)
    if not re.search(r"\b[Cc]apital(?: city)?$", phrase):
        facts.pop("capital_of", None)
    if (
        kind in ("place", "building", "school", "river", "landmark")
        and noun != "country"
        and (country := _country(rest))
    ):
        facts["country"] = country
    return Profile(
        passage.id, passage.title, name, kind, noun,
        nationalities[0] if len(nationalities) == 1 and f"{nationalities[0]}-" not in phrase else "",
        found["definition"][:_MOST_OF_DEFINITION], _sex(passage.text, noun) if kind == "person" else "", facts,
        re.sub(r"\b\d{4}\b\s*", "", phrase),
    )  # fmt: skip


def _sex(text: str, noun: str) -> str:
    male, female = (
        re.search(rf"\b(?:{words})\b", text, re.IGNORECASE) for words in ("he|his|him", "she|her")
    )
    if noun in ("actress", "princess", "queen", "noblewoman", "businesswoman"):
        return "female"
    return "" if bool(male) == bool(female) else "male" if male else "female"


def _tidy(text: str) -> str:
    """Undo what tokenisers and lost markup leave: spaces before a comma, none after a full stop."""
    text = text.replace("``", '"').replace("''", '"').replace("\xa0", " ")
    text = re.sub(r"\s+([,.;:)])", r"\1", re.sub(r"\(\s+", "(", text))
    text = re.sub(r"(?<=[\w)])\(", " (", text)
    text = re.sub(r"(?<=[a-z)\d]{2}[.])(?=[A-Z])", " ", text)
    return re.sub(r"\s+", " ", re.sub(r"\s*(?<=\w)-\s(?=\w)", "-", text)).strip()


def _pull_parentheses(sentence: str) -> tuple[str, list[str]]:
    """Return a sentence without its parentheses, and what stood in them."""
    remarks: list[str] = []

    def take(found: re.Match[str]) -> str:
        remarks.append(found[0].strip()[1:-1].strip())
        return ""

    while (shorter := PARENTHESES.sub(take, sentence)) != sentence:
        sentence = shorter
    return re.sub(r"\s+([,.;:])", r"\1", sentence), remarks


def _before_verb(sentence: str, verb: str) -> str:
    """Return a sentence up to its verb: "her trilogy (1941–1955)" behind it tells of no life."""
    depth = 0
    for found in re.finditer(rf"[()]|\s{verb}\s", sentence):
        depth += {"(": 1, ")": -1}.get(found[0], 0)
        if not depth and found[0] != ")":
            return sentence[: found.start()]
    return sentence


def _is_about(subject: str, name: str) -> bool:
    """Whether what a sentence defines is the title: it may say more (`Rachel Louise Carson`), hardly less."""
    words = re.findall(r"\w+", name.casefold())
    for part in (subject, *_ALIAS.split(subject)):
        said = set(re.findall(r"\w+", part.casefold()))
        shared = sum(word in said for word in words)
        if words and shared >= max(1, len(words) - 1) and len(said) - shared <= _MOST_OTHER_WORDS:
            return True
    return False


def _cut(definition: str) -> tuple[str, str]:
    definition = _FIELDS.sub(r"\1 \2", definition)
    end = _NOUN_END.search(definition)
    return (definition, "") if end is None else (definition[: end.start()], definition[end.start() :])


def _kind_of(phrase: str, noun: str, title: str) -> str:
    if noun in ("series", "show") and not re.search(
        r"\b(?:television|TV|sitcom|drama|reality|web|anime|comedy)\b", f"{phrase} {title}"
    ):
        return ""
    if (
        re.search(r"\b(?:School|University|College|Airport|Museum|Stadium|Park|Band)$", plain_name(title))
        and KINDS.get(noun) == "place"
    ):
        return ""
    if noun == "game" and "video game" not in phrase:
        return "thing"
    if noun == "group" and not re.search(
        r"\b(?:rock|pop|hip|music|musical|girl|vocal|rap|R&B|folk)\b", phrase
    ):
        return "thing"
    if noun not in KINDS and re.search(r"\bfilm\b", phrase):
        return "film"
    return KINDS.get(noun, "thing" if noun.isalpha() else "")


def _read_life(remarks: list[str], facts: dict[str, str]) -> None:
    """Read the dates of birth and death that stand behind a person's name."""
    for remark in remarks[:3]:
        found = _LIFE.search(remark)
        if found is None:
            continue
        end = _LIFE_END.search(found["rest"])
        if end is None and not found["born"]:
            continue
        facts["birth_date"] = found["birth"]
        if place := _LIFE_PLACE.match(found["rest"]):
            facts["birth_place"] = place[1]
        if end is not None:
            facts["death_date"] = end["death"] or end["short"]
        return


def _predicates(sentences: list[str], name: str, noun: str, kind: str) -> list[str]:
    """Return what the sentences that begin with the title, or with a word for it, say of it."""
    words = (name.split()[-1], "He", "She") if kind == "person" else ("It", "They")
    subjects = (name, f"The {noun}", f"This {noun}", *words)
    return [
        _pull_parentheses(sentence[len(subject) :])[0]
        for sentence in sentences
        for subject in subjects
        if sentence.startswith(f"{subject} ") and sentence[len(subject) + 1 : len(subject) + 2].islower()
    ]


def _parts(sentences: list[str], name: str, kind: str) -> list[str]:
    """Return what is said of something that belongs to the title: "Its call sign is named after …"."""
    owners = (f"{name}'s", *(("His", "Her") if kind == "person" else ("Its",)))
    return [
        _pull_parentheses(sentence[len(owner) :])[0]
        for sentence in sentences
        for owner in owners
        if sentence.startswith(f"{owner} ")
    ]


def _find(pattern: re.Pattern[str], clauses: list[str], relation: str) -> str:
    for clause in clauses:
        found = pattern.search(clause)
        if not found or (_BARRIER.search(clause[: found.start()]) and relation != "single_of"):
            continue
        if relation != "population" or not _is_of_part(clause, found):
            return next(group for group in found.groups() if group).strip(" ,")
    return ""


def _is_of_part(clause: str, found: re.Match[str]) -> bool:
    """Whether a number of people is that of the greater city, or of a country's largest."""
    around = clause[: found.start()], clause[found.end() : found.end() + 60]
    return bool(
        re.search("capital|cities|metropol|urban|largest city", around[0])
        or re.search("metropol|urban", around[1])
    )


def _country(rest: str) -> str:
    """Return the one country that a definition names."""
    place = re.match(r"\s*(?:located |situated )?(?:in|of|at|on)\b(?P<where>.{1,160})", rest)
    where = (
        re.split(
            r"\b(?:near|border\w*|between|from|with|to the|overlooking|surrounded|once|formerly)\b",
            place["where"],
        )[0]
        if place
        else ""
    )
    named = [country for country in COUNTRIES if re.search(rf"\b{country}\b(?! [A-Z]|')", where)]
    return named[0] if len(named) == 1 else ""
