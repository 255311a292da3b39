"""What the corpus itself says of a phrase: how many of its passages hold it, and what kind of thing they call it.

A phrase is worth asking for where it is the corpus' own: more than one passage has it, not nearly all do, and general
English does not (document frequency against general text, as in term extraction; a phrase of general words is one where
its words stand together more often than by chance). What kind of thing it is, tells a sentence that defines it: "The
Danube is a river in …" makes `Danube` a river wherever else it is asked for.

Built from the passages of an index in one pass; 4 bytes for each word, pair and triple of them.
"""

from __future__ import annotations

import logging
import re
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING, Any

from masksearch_agent.failures import reason_of, stops_run
from masksearch_agent.ramp.lexicon.fact_patterns import KINDS
from masksearch_agent.ramp.lexicon.rule_words import KIND_NOUNS, PERSON_NOUN, POINTERS, VAGUE, WORKS
from masksearch_agent.ramp.lexicon.titles import NUMBERING, heading_name, page_title, plain_name
from masksearch_agent.ramp.spans import IDENTIFIER, TERM, Span
from masksearch_agent.records import Passage
from masksearch_agent.text.matching import phrase_form

if TYPE_CHECKING:
    import numpy as np

__all__ = ("Glossary", "general_words")

logger = logging.getLogger(__name__)

_PRONOUNS = frozenset(
    ["it", "he", "she", "they", "that", "there", "what", "which", "who", "one", "another", "each"]
)
_LONGEST = 3
"""Words of the phrases that are counted; a longer one is as frequent as the rarest of its parts."""
_SLOTS_PER_PASSAGE = 512
_MAX_SHARE = 0.03
"""A term in more passages than this says nothing of any."""
_MAX_MASKED_SHARE = 0.005
"""An identifier in more passages than this can be guessed: `ValueError`, `NULL`."""
_MIN_ALLOWED = 12
"""A small corpus may say a term so often."""
_COLLOCATED = 0.04
"""Share of a phrase's rarest word that stands in the phrase, from which general words are a term."""
_DEFINITION = re.compile(
    r"(?:^|(?<=[.!?]\s)|\n)\s*(?:(?P<article>The|A|An)\s)?(?P<name>[\w][\w'’./ -]{1,58}?)(?:\s*\([^()]*\))?"
    r"(?:,[^,.]{1,60},)?\s(?:is|was)\s(?:an?|the|one of the)\s(?P<said>[^,.;:()\n]{3,90})"
)
_END_OF_NOUN = re.compile(
    r"\s(?:in|of|on|at|by|from|for|to|with|that|which|who|whose|where|when|and|or|as|is|was|are|were|has|had|near|"
    r"between|under|about|into|using|used|based|located|situated|known|written|directed|made|born|set|than|but|"
    r"released|published|produced|held|played|developed|founded|created|designed|consisting|containing|running)\b.*"
)
_POLITIES = frozenset(
    [
        "continent",
        "subregion",
        "territory",
        "kingdom",
        "empire",
        "republic",
        "emirate",
        "nation",
        "duchy",
        "colony",
    ]
)
_MIN_USED = 2
"""Things that are called so, from which a word is a kind of thing."""
_NOUN = re.compile(r"[a-z][a-z-]{2,}")


class Glossary:
    """Knows the phrases of passages, and the kinds of what they define."""

    def __init__(self, passages: Sequence[Passage]) -> None:
        import numpy as np

        self._total = len(passages)
        self._mask = (1 << (_SLOTS_PER_PASSAGE * max(1, len(passages))).bit_length()) - 1
        self._counts = np.zeros(self._mask + 1, dtype=np.uint16)
        self._most = np.iinfo(np.uint16).max
        self._title_words: set[str] = set()
        self._defined: set[str] = set()
        self._headings: dict[str, set[str]] = {}
        """Of numbered pages: the pages with a heading."""
        self.broken: dict[str, Exception] = {}
        """Why passages are left out, by their ids."""
        kinds: dict[str, Counter[str]] = {}
        for passage in passages:
            try:
                self._read(passage, kinds)
            except Exception as failure:
                if stops_run(failure):
                    raise
                logger.warning("passage %s is in no glossary: %s", passage.id, reason_of(failure))
                self.broken[passage.id] = failure
        agreed = {name: said.most_common(1)[0][0] for name, said in kinds.items() if _agree(said)}
        # A word that only one thing is called is an adjective or a slip more often than a kind.
        used = Counter(agreed.values())
        self._kinds = {name: kind for name, kind in agreed.items() if used[kind] >= _MIN_USED}

    def _read(self, passage: Passage, kinds: dict[str, Counter[str]]) -> None:
        words = phrase_form(f"{passage.title}\n{passage.text}").split()
        slots = self._slots(set(_phrases(words)))
        title_words = phrase_form(passage.title).split()
        if NUMBERING.match(passage.title):
            name = heading_name(passage.title).casefold()
            self._headings.setdefault(name, set()).add(page_title(passage.title))
        defined, definitions = set(_defined(passage)), list(_definitions(passage))
        self._title_words.update(title_words)
        # A slot that is full stays so; nothing is asked of such frequent phrases but that they are frequent.
        self._counts[slots] += self._counts[slots] < self._most
        self._defined.update(defined)
        for name, kind in definitions:
            kinds.setdefault(name, Counter())[kind] += 1

    def frequency(self, phrase: str) -> int:
        """Return how many passages hold a phrase, title or text; at least as many as do."""
        words = phrase_form(phrase).split()
        if not words:
            return 0
        longest = min(_LONGEST, len(words))
        parts = [" ".join(words[start : start + longest]) for start in range(len(words) - longest + 1)]
        return int(self._counts[self._slots(parts)].min())

    def is_ambiguous(self, title: str) -> bool:
        """Return whether several numbered pages have one heading, as each part of a manual has its `Implementation`."""
        return len(self._headings.get(heading_name(title).casefold(), ())) > 1

    def kind_of(self, span: Span) -> str:
        """Return what the corpus calls a thing of this name: `river`; `""` where it does not say, says several, or
        means another thing: a film that is named like a person.
        """
        kind = self._kinds.get(phrase_form(span.text), "")
        is_person = PERSON_NOUN.search(kind) is not None
        if span.label == "PERSON":
            return kind if is_person else ""
        if span.label in ("GPE", "LOC") and kind.endswith("s"):
            return ""
        if span.label == "GPE" and kind not in _POLITIES and KINDS.get(kind) != "place":
            return ""  # The phoenix is a bird, and a city.
        return (
            ""
            if (kind in WORKS and span.label not in (TERM, "WORK_OF_ART"))
            or (is_person and span.label != TERM)
            else kind
        )

    def flaw(self, span: Span, is_masked: bool = False) -> str:
        """Return why a term or an identifier is not worth asking for, `""` where it is or is something else.

        Whether another passage has it too, the search will tell.

        Args:
            span: Of any label.
            is_masked: Whether it is to be masked. Then an identifier has to be rare, a common noun has to be a term
                that the corpus defines, and a phrase of general words is none, however often they stand
                together: without a question nobody can tell it from others that fit as well.
        """
        if span.label not in (TERM, IDENTIFIER):
            return ""
        found = self.frequency(span.text)
        most = _MAX_MASKED_SHARE if is_masked and span.label == IDENTIFIER else _MAX_SHARE
        if found > max(_MIN_ALLOWED, most * self._total):
            return "frequent_term"
        if span.label == IDENTIFIER:
            return ""
        words = phrase_form(span.text).split()
        if len(words) == 1 and span.text.islower() and not self._is_in_titles(words[0]):
            return "no_heading"
        is_own = any(word not in general_words() and not word.isdigit() for word in words)
        is_name = not (
            span.text.islower() or (general_words().issuperset(words[:1]) and span.text[1:].islower())
        )
        if is_own:
            # "The cron package" says by itself what it is; any other common noun has to be a term somewhere.
            is_term = is_name or self._is_defined(words) or (not is_masked and words[-1] in KIND_NOUNS)
            return "" if is_term else "undefined_term"
        if is_masked and len(words) == 1:
            return "general_words"
        rarest = min((self.frequency(word) for word in words), default=0)
        is_collocated = len(words) > 1 and found > 1 and found >= _COLLOCATED * rarest
        if not is_masked and is_collocated and self._is_defined(words):
            return ""
        return "general_words"

    def _is_defined(self, words: Sequence[str]) -> bool:
        """Whether the corpus says what a term is: it is a title, or some passage says "a … is a …"."""
        if not words:
            return False
        *rest, last = words
        return not self._defined.isdisjoint(
            " ".join([*rest, form]) for form in (last, last.removesuffix("s"), f"{last}s")
        )

    def _is_in_titles(self, word: str) -> bool:
        return not self._title_words.isdisjoint({word, word.removesuffix("s"), f"{word}s"})

    def _slots(self, phrases: Iterable[str]) -> np.ndarray[Any, Any]:
        import numpy as np

        hashes = [zlib.crc32(phrase.encode(errors="surrogatepass")) for phrase in phrases]
        return np.array(hashes, dtype=np.int64) & self._mask


def _phrases(words: Sequence[str]) -> Iterator[str]:
    for length in range(1, _LONGEST + 1):
        for start in range(len(words) - length + 1):
            yield " ".join(words[start : start + length])


def _defined(passage: Passage) -> Iterator[str]:
    """Yield the terms that a passage defines, in one of many or as such, and its title."""
    yield phrase_form(heading_name(passage.title))
    for found in _DEFINITION.finditer(passage.text):
        words = phrase_form(found["name"]).split()
        is_general = found["article"] != "The" and 0 < len(words) <= _LONGEST and " is " in found[0]
        if is_general and words[0] not in POINTERS and words[0] not in _PRONOUNS:
            yield " ".join(words)


def _definitions(passage: Passage) -> Iterator[tuple[str, str]]:
    """Yield names and kinds that a passage tells in the form "X is a river in …"."""
    title = phrase_form(plain_name(passage.title))
    for found in _DEFINITION.finditer(passage.text):
        name = phrase_form(found["name"])
        # Other sentences begin like a definition too: "The river was a great help".
        if name != title and not re.fullmatch(r"\S*(?:[A-Z_]\S*[A-Z_]|\w_\w)\S*", found["name"]):
            continue
        words = _END_OF_NOUN.sub("", found["said"]).split()
        # "A commercial and cultural centre": an adjective stands before `and`.
        said = found["said"][len(" ".join(words)) :]
        if (
            words
            and not said.startswith((" and ", " or "))
            and _NOUN.fullmatch(words[-1])
            and words[-1] not in VAGUE
            and not words[-1].endswith(("ed", "ly", "ing"))
        ):
            yield name, words[-1]


def _agree(said: Counter[str]) -> bool:
    return said.most_common(1)[0][1] * 3 >= said.total() * 2


@cache
def general_words() -> frozenset[str]:
    """The words that are frequent in texts of every kind: encyclopedia, manuals, handbooks."""
    text = (
        resources.files("masksearch_agent.ramp.lexicon")
        .joinpath("general_words.txt")
        .read_text(encoding="utf-8")
    )
    return frozenset(line for line in text.splitlines() if not line.startswith("#"))
