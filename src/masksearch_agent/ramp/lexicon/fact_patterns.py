"""The kinds of things that a definition names, and how facts about them are worded."""

from __future__ import annotations

import re

from masksearch_agent.ramp.lexicon.nationalities import NATIONALITIES

__all__ = (
    "KINDS",
    "MONTH_DATE",
    "NATIONALITY",
    "OF_PART",
    "PATTERNS",
    "PLACE",
    "SENTENCES",
    "WORK_KINDS",
    "YEAR",
)

_NOUNS = {
    "film": "film movie documentary",
    "song": "song single ballad track",
    "album": "album ep soundtrack",
    "book": "novel book novella memoir play autobiography trilogy",
    "series": "series sitcom show",
    "game": "game",
    "group": "band group duo trio quartet",
    "company": "company corporation firm manufacturer airline brand retailer label studio publisher chain conglomerate "
    "startup brewery bank newspaper magazine organization organisation agency charity",
    "team": "club team",
    "school": "university college school institute",
    "place": "city town village municipality commune hamlet suburb locality community county country island state "
    "province settlement neighborhood neighbourhood parish district region capital borough",
    "river": "river tributary stream creek",
    "building": "airport museum stadium church cathedral castle mall hotel skyscraper theatre theater arena hospital "
    "mosque temple palace prison lighthouse library park bridge station",
    "landmark": "lake mountain volcano desert peninsula valley glacier waterfall canyon bay peak range forest",
    "art": "painting sculpture opera poem composition symphony musical ballet fresco statue concerto sonata tragedy",
    "taxon": "genus species",
    "person": """
        actor actress director politician footballer singer writer poet composer philosopher author painter artist
        novelist officer musician mathematician filmmaker businessman coach physicist producer statesman general boxer
        emperor engineer scientist screenwriter scholar singer-songwriter playwright chemist polymath historian
        journalist president lawyer ruler comedian architect activist revolutionary wrestler cricketer cyclist soldier
        nobleman inventor sultan priest driver physician biologist professor pitcher sculptor designer psychologist
        pilot athlete monk attorney diplomat guitarist peer runner prince entrepreneur explorer pianist songwriter
        skater bishop economist educator astronomer theologian dancer dramatist swimmer cinematographer academic
        princess photographer judoka quarterback sociologist aristocrat conductor nationalist rapper dj drummer model
        king queen noblewoman player businesswoman critic violinist bassist surgeon botanist zoologist geologist
        anthropologist archaeologist linguist editor translator judge jurist tenor soprano choreographer animator
        cartoonist illustrator bassist saxophonist trumpeter cellist organist missionary sailor aviator industrialist
        banker philanthropist merchant gymnast golfer jockey racer presenter broadcaster televangelist magician
        humorist satirist essayist lyricist librettist impresario impressionist entertainer vocalist chef activist
        biochemist geneticist logician cosmologist astronaut cosmonaut admiral colonel commander marshal baseballer
    """,
}
KINDS = {noun: kind for kind, nouns in _NOUNS.items() for noun in nouns.split()}
"""What kind of thing a noun names. A noun that is not here is of no kind, and nothing is asked of it."""

_MONTH = "(?:January|February|March|April|May|June|July|August|September|October|November|December)"
YEAR = r"(?:1[0-9]|20)\d{2}"
MONTH_DATE = rf"(?:\d{{1,2}} {_MONTH},? \d{{4}}|{_MONTH} \d{{1,2}}, \d{{4}})"
NATIONALITY = "|".join(sorted(NATIONALITIES))

_UPPER = "A-ZÀ-ÖØ-ÞĀĂĄĆČĎĐĒĖĘĚĞĢĪİĶŁŃŅŇŌŐŒŘŚŞŠŢŤŪŮŰŹŻŽȘȚ"
_WORD = rf"(?:(?:[{_UPPER}]\.)+|(?:Jr|Sr|St|Dr|Mt)\.|[{_UPPER}0-9][\w'’&-]*)"
_JOIN_PERSON = "de|la|von|van|der|den|du|del|della|di|da|bin|ibn|al|y|le|ten|ter|af|dos|das|do|zu"
_FULL_NAME = rf"{_WORD}(?:\s(?:(?:{_JOIN_PERSON})\s){{0,2}}{_WORD})+"
_PERSON = rf"(?:{_FULL_NAME}|{_WORD})"
_THING = rf"{_WORD}(?:\s(?:(?:{_JOIN_PERSON}|of|the|at|to|and the|of the|n)\s){{0,2}}{_WORD})*"
_CAPITAL = rf"(?:[{_UPPER}]\.)+|(?:St|Mt)\.|[{_UPPER}][\w'’-]*"
PLACE = (
    rf"(?:{_CAPITAL})(?:\s(?:(?:{_JOIN_PERSON}|of|upon|on|sur)\s)?(?:the\s)?(?:{_CAPITAL}))*"
    rf"(?:,\s(?:{_CAPITAL})(?:\s(?:of\s)?(?:{_CAPITAL}))*(?=[,.;\s]|$)){{0,2}}"
)
_FOLLOWS = (
    r"(?=[,.;:]|$|\s(?:and|in|on|with|for|from|as|at|to|but|starring|featuring|about|set"
    r"|through|under|during|after|before"
    r"|via|is|was|has|while|when|where|which|who|that|near|around|since|until|off|\w+ed"
    r"|written|made|or|along|between)\b)"
)
"""What can come behind a name; in `English rock band` another noun does, so `English` is no name."""
_ALONE = (
    rf"(?!\s*(?:,\s*(?:and\s+)?|and\s+|&\s*)[\"]?[{_UPPER}])"
    rf"(?!['’]s)(?!\s[{_UPPER}]){_FOLLOWS}"
)
"""Nobody else is named beside: of two directors neither is `the director`."""
_GAP = (
    rf"(?:(?:(?!(?:of|for|in|from|with|to|at|as|on|and|the)\s)[a-z][\w-]*|the|{NATIONALITY}"
    rf"|[A-Z][\w-]+[-\s]winning)\s){{0,6}}"
)
"""Words for what somebody is, before the name: `award-winning American director`."""


def _by(verbs: str, value: str = _PERSON) -> re.Pattern[str]:
    return re.compile(rf"\b(?:{verbs})(?: and (?:\w+-)?\w+)? by {_GAP}({value}){_ALONE}")


def _after(words: str, value: str, ending: str = _ALONE) -> re.Pattern[str]:
    return re.compile(rf"(?:{words})\s(?:the\s)?({value}){ending}")


_END = rf"(?!\s[{_UPPER}]){_FOLLOWS}"
_WHEN = rf"{MONTH_DATE}|{_MONTH} {YEAR}|{YEAR}"
_ABOUT = r"(?:(?:more than|over|about|approximately|around|nearly|almost|roughly|some|an? estimated|estimated at|at) )*"
_AMOUNT = r"\d+(?:,\d+)*(?:\.\d+)?(?![.,]?\d)(?: million| billion)?"
_SITUATED = r"\b(?:located|situated)(?: at [^,.]+| downtown)? in"
WORK_KINDS = ("film", "song", "album", "book", "series", "game")

PATTERNS: dict[str, tuple[tuple[str, ...], re.Pattern[str]]] = {
    "director": (("film",), _by("directed")),
    "writer": (("film", "series"), _by("written")),
    "author": (
        ("book", "art"),
        re.compile(rf"^(?: written| published| authored)?(?: in {YEAR})? by {_GAP}({_PERSON}){_ALONE}"),
    ),
    "performer": (
        ("song", "album"),
        re.compile(
            rf"^(?: recorded| released| performed| sung)?(?: and \w+)? (?:by|from) {_GAP}({_THING}){_ALONE}"
        ),
    ),
    "producer": (("film", "album", "song"), _by("produced")),
    "composer": (("film", "song"), _by("composed|music composed")),
    "creator": (("series",), _by("created")),
    "developer": (("game",), _by("developed", _THING)),
    "publisher": (("game",), _by("published", _THING)),
    "single_of": (
        ("song",),
        re.compile(
            rf"\bfrom (?:his|her|their|its|the) [\w\s,-]*?\balbum,? (?:\"([^\"]+)\"|({_THING}){_END})"
        ),
    ),
    "label": (
        ("album", "song"),
        re.compile(
            rf"\b(?:released|issued)\b[^.;]*?\b(?:through|by|on|via) (?:the )?({_THING} (?:Records"
            rf"|Music|Entertainment))\b{_ALONE}"
        ),
    ),
    "based_on": (
        ("film", "series"),
        re.compile(
            rf"\bbased on (?:the |[A-Z]\S+(?: [A-Z]\S+)*['’]s? )(?:\d{{4}} )?(?:{NATIONALITY})? ?(?:novel"
            rf"|book|play|memoir),? (?:of the same name )?(?:\"([^\"]+)\"|({_THING}){_END})"
        ),
    ),
    "release_date": (
        WORK_KINDS,
        re.compile(
            rf"\b(?:released|published|premiered|aired)\b (?:theatrically |worldwide |in [A-Z][a-z]+"
            rf" )?(?:on|in) ({_WHEN})\b"
        ),
    ),
    "founder": (
        ("company", "group", "school", "team"),
        _by("founded|established|started|formed|created"),
    ),
    "discoverer": (("thing", "landmark", "taxon"), _by("discovered")),
    "inventor": (("thing",), _by("invented|devised")),
    "named_after": (
        ("thing", "building", "landmark", "place", "school", "taxon", "company"),
        re.compile(rf"\bnamed (?:after|for|in hono\w+ of) (?:the )?{_GAP}({_PERSON}){_ALONE}"),
    ),
    "founder_of": (
        ("person",),
        re.compile(rf"\b(?:co-)?founder(?:,? and \w+| and former \w+)? of (?:the )?{_GAP}({_THING}){_ALONE}"),
    ),
    "president_of": (("person",), re.compile(rf"\b[Pp]resident of (?:the )?({_THING}){_ALONE}")),
    "premier_of": (("person",), re.compile(rf"\b[Pp]rime [Mm]inister of (?:the )?({_THING}){_ALONE}")),
    "king_of": (
        ("person",),
        re.compile(
            rf"\b(?:[Kk]ing|[Qq]ueen|[Ee]mperor|[Mm]onarch|[Ss]ultan|[Rr]uler) of (?:the )?({_THING}){_ALONE}"
        ),
    ),
    "founded": (
        ("company", "group", "school", "team", "place"),
        re.compile(
            rf"\b(?:founded|established|formed|incorporated|started|launched)\b(?: as [\w\s]+?)?(?:"
            rf" in [A-Z][\w\s,]+?)? (?:on|in) ({_WHEN})\b"
        ),
    ),
    "based": (
        ("company", "group", "team"),
        _after(
            r"\b(?:based|headquartered)(?: is| are)? in|headquarters (?:is|are)?(?: located)? ?in|^ from",
            PLACE,
            _END,
        ),
    ),
    "owner": (("company", "team", "building"), _by("owned", _THING)),
    "parent": (("company",), re.compile(rf"\bsubsidiary of (?:the )?{_GAP}({_THING}){_ALONE}")),
    "located": (
        ("school", "building", "place", "river", "landmark"),
        _after(rf"^ in|{_SITUATED}", PLACE, _END),
    ),
    "stands_in": (("thing", "art", "company"), _after(_SITUATED, PLACE, _END)),
    "held": (
        ("thing",),
        re.compile(
            rf"\b(?:held|took place|take place|takes place)(?: [a-z]+){{0,2}} (?:in|at) (?:the )?({PLACE}){_END}"
        ),
    ),
    "set_in": (("film", "book", "series", "game"), re.compile(rf"\bset in ({PLACE}){_END}")),
    "home_of": (
        ("building",),
        re.compile(
            rf"\bhome (?:field |venue |stadium |arena |ground |ballpark )?(?:of|to|for) (?:the )?(?:(?:{NATIONALITY}"
            rf"|[a-z]+) )*({_THING}){_ALONE}"
        ),
    ),
    "county": (
        ("place",),
        re.compile(rf"^ (?:located |situated )?in ({_WORD}(?: {_WORD})* (?:County|Province|District))\b"),
    ),
    "capital": (
        ("place",),
        re.compile(
            rf"\b(?:capital|capital city|[Cc]apital and (?:largest|most populous) city)(?: and [\w\s-]+?)?,?"
            rf" is ({PLACE}){_ALONE}"
        ),
    ),
    "capital_of": (
        ("place",),
        re.compile(
            rf"^(?: and (?:largest|most populous) (?:city|metropolis))? of (?:the )?(?:(?:{NATIONALITY}"
            rf"|U\.S\.) )?(?:[a-z]+ )*({_THING}){_ALONE}"
        ),
    ),
    "population": (("place",), re.compile(rf"\bpopulation (?:of|was|is) {_ABOUT}({_AMOUNT})\b")),
    "area": (
        ("place",),
        re.compile(rf"\barea of {_ABOUT}({_AMOUNT} (?:square (?:kilometres|kilometers|miles)|km2|sq mi))"),
    ),
    "river": (
        ("place",),
        re.compile(
            rf"\b(?:on|along) (?:the )?(?:\w+ )?(?:banks? of )?(?:the )?((?:River {_WORD}|{_WORD}(?:"
            rf" {_WORD})* River)){_END}"
        ),
    ),
    "tributary": (("river",), re.compile(rf"\btributary of (?:the )?({_WORD}(?: {_WORD})*){_ALONE}")),
    "length": (
        ("river",),
        re.compile(r"\b(\d[\d,.]*(?:-| )(?:miles?|km|kilometres?|kilometers?))(?:-| )long\b"),
    ),
    "family": (("taxon",), re.compile(rf"\bfamily ({_WORD})\b")),
    "opened": (
        ("building",),
        re.compile(rf"\b(?:opened|built|completed)\b(?: in [A-Z][a-z]+)? (?:on|in) ({_WHEN})\b"),
    ),
    "architect": (("building",), _by("designed")),
    "birth_place": (
        ("person",),
        re.compile(
            rf"\bborn(?:,? [\w\s.\"-]+?)??(?: (?:on|in) (?:{_WHEN}),?)? (?:in|at) (?:the (?:city"
            rf"|town|village) of )?({PLACE}){_END}"
        ),
    ),
    "death_place": (
        ("person",),
        re.compile(rf"\bdied(?: (?:on|in) (?:{_WHEN}),?)? (?:in|at) ({PLACE}){_END}"),
    ),
    "father": (
        ("person",),
        re.compile(
            rf"\b(?:son|daughter|child) of (?:the )?{_GAP}({_FULL_NAME})(?=[\s,.;]|$)(?!\s[{_UPPER}])(?!['’]s)"
        ),
    ),
    "spouse": (
        ("person",),
        re.compile(rf"\b(?:married to|husband of|wife of|^ married) (?:the )?{_GAP}({_FULL_NAME}){_ALONE}"),
    ),
    "university": (
        ("person",),
        re.compile(rf"\b(?:attended|graduated from|educated at|studied at) (?:the )?({_THING})(?=[\s,.;]|$)"),
    ),
    "member_of": (
        ("person",),
        re.compile(
            rf"\b(?:member|lead singer|vocalist|frontman|drummer|guitarist|bassist|keyboardist|singer"
            rf"|co-founder|founder)s? (?:of|for|with) (?:the )?(?:(?:{NATIONALITY}|[a-z-]+) ){{0,5}}(?:band"
            rf"|group|duo|trio) ({_THING}){_ALONE}"
        ),
    ),
    "teaches_at": (
        ("person",),
        re.compile(rf"\b[Pp]rofessor (?:[Ee]meritus )?(?:of [\w\s]+? )?at (?:the )?({_THING}){_ALONE}"),
    ),
    "plays_for": (
        ("person",),
        re.compile(
            rf"(?:\bplays? (?:as an? [\w\s-]+ )?|^ )for (?:the )?(?:(?:{NATIONALITY}|[a-z0-9-]+)"
            rf" ){{0,4}}({_THING})(?: of| in|,|\.|$)"
        ),
    ),
}
"""By relation: the kinds of things that have it, and the pattern; its first group that took part is the value."""

OF_PART = frozenset({"based", "capital", "population", "area", "length"})
"""What a sentence says of a thing that speaks of a part of it: "Its headquarters are in …"."""

SENTENCES: dict[str, tuple[tuple[str, ...], re.Pattern[str]]] = {
    "capital": (
        ("place",),
        re.compile(
            rf"^(?:The|Its) (?:country's |nation's )?(?:national |current |official )?capital(?: city)?"
            rf"(?:(?:,| and)[\w\s,-]*?(?:city|center|centre|metropolis))?(?: of [\w\s]+?)?(?: is|,) ({PLACE}){_ALONE}"
            rf"|^({PLACE}) is (?:the|its)(?: (?:country|nation|state|province|region)'s)? capital\b"
        ),
    ),
    "population": (
        ("place",),
        re.compile(
            rf"^(?:As of|According to|In|At) [^,;]+, (?:it|the \w+) (?:has|had) an?(?: \w+)? population"
            rf" of {_ABOUT}({_AMOUNT})\b"
            rf"|^(?:The|Its)(?: \w+)? population (?:is|was) {_ABOUT}({_AMOUNT})\b"
            rf"|^With an?(?: \w+)? population of {_ABOUT}({_AMOUNT})\b"
        ),
    ),
    "language": (
        ("place",),
        re.compile(
            rf"^(?:The|Its|The country's) official language(?: of the country)? is ({_CAPITAL}){_ALONE}"
            rf"|^({_CAPITAL}) is the official language\b"
        ),
    ),
    "founded": (
        ("place", "company", "group", "school", "team"),
        re.compile(rf"^(?:Founded|Established|Formed) (?:on|in) ({_WHEN})\b"),
    ),
}
"""The same for whole sentences behind the first, which say it with another subject: `The capital is Luanda`."""
