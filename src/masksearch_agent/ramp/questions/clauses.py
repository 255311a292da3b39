"""The parts of a declarative sentence that a question can be made of.

Only plain sentences pass: one main clause with a subject before a finite verb, which says all by itself what it is
about. Everything else has no clause, and no question is made of it. Works on spaCy's parse (CLEAR labels).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from masksearch_agent.ramp.lexicon.fact_patterns import KINDS
from masksearch_agent.ramp.lexicon.half_names import whole_names
from masksearch_agent.ramp.lexicon.rule_words import (
    CONJUNCTIONS,
    CONNECTORS,
    ENTRY_NOUNS,
    IDIOMS,
    OF_SUBJECT,
    PERSON_NOUN,
    POINTERS,
)
from masksearch_agent.ramp.lexicon.titles import NUMBERING, heading_name
from masksearch_agent.text.matching import contains_phrase

__all__ = ("Clause", "Topic", "find_clause", "is_bare", "is_of_topic", "subtree", "topic_of")

_SUBJECTS = frozenset({"nsubj", "nsubjpass"})
_AUXILIARIES = frozenset({"aux", "auxpass"})
_FINITE = frozenset({"VBZ", "VBP", "VBD", "MD"})
_LOOSE = frozenset({"punct", "cc", "conj", "parataxis", "intj", "dep", "meta", "discourse", "preconj"})
"""Children of the verb that a question does without."""
_SHIFTED = frozenset({"prep", "advcl", "npadvmod", "advmod", "tmod"})
"""What may stand before the subject; a question has it at its end."""
_PERSONS = frozenset({"he", "she"})
_POSSESSIVES = frozenset({"his", "her", "its", "their"})
_PRONOUNS = frozenset(
    {"he", "she", "it", "they", "him", "them", "himself", "herself", "itself", "themselves"}
)
_ABBREVIATED = re.compile(r"(?:^|[\s.])(?:[A-Z]|Mrs?|Dr|St|vs|No|Jr|Sr|Inc|Ltd|Co|e\.g|i\.e|etc|approx)\.$")
"""The recogniser of sentences took an abbreviation for the end of one."""
_CLEFT = re.compile(r"\b[Ii]t (?:is|was) (?:the )?[A-Z][\w.'’-]*(?: [\w.'’,-]+){0,8}? (?:who|that|whom)\b")
"""`It was Euler who …`: neither its subject nor its verb says what is told."""
_CONTRASTS = frozenset({"while", "whereas", "although", "though"})
"""Open clauses that tell something else by the way."""
_MAX_COMMAS = 4
_MIN_TOKENS, _MAX_TOKENS = 6, 45


@dataclass(frozen=True, slots=True)
class Topic:
    """What a passage is about, where its first sentence says that this is its title."""

    name: str
    """`""` where the passage is not about its title."""
    is_person: bool = False
    noun: str = ""
    """What the first sentence calls it: `film` in "X is a 1990 film"."""
    entry: str | None = ""
    """What the lines above describe, as manuals do: a function, a setting, an option; None where they are cut off."""
    title: str = ""
    """Of the passage."""
    article: str = ""
    """`the ` where the first sentence has it before the name."""

    @property
    def shown(self) -> str:
        """The name as it stands in a sentence."""
        return f"{self.article}{self.name}"


@dataclass(frozen=True, slots=True)
class Clause:
    """The main clause of a sentence."""

    root: Any
    """The verb."""
    subject: Any
    """The head of the subject."""
    auxiliaries: tuple[Any, ...]
    before: tuple[Any, ...]
    """Heads of what stands before the subject."""
    adverbs: tuple[Any, ...]
    """Between subject and verb."""
    after: tuple[Any, ...]
    """Heads of what stands behind the verb, in order."""
    names: dict[int, str]
    """What to write instead of the token with this index."""
    dropped: frozenset[int]
    """Tokens that a question does without: parentheses, asides."""


def find_clause(sentence: Any, topic: Topic) -> Clause | str:
    """Return the clause of a sentence (a spaCy span), or why there is none."""
    root = _main_verb(sentence)
    pointed = _entries(sentence, topic)
    if flaw := _sentence_flaw(sentence, root, pointed):
        return flaw
    subjects = [child for child in root.lefts if child.dep_ in _SUBJECTS]
    if len(subjects) != 1:
        return "no_subject"
    subject = subjects[0]
    if any(token.lower_ in OF_SUBJECT for token in subject.subtree):
        return "points_elsewhere"
    auxiliaries = tuple(child for child in root.lefts if child.dep_ in _AUXILIARIES)
    finite = auxiliaries[0] if auxiliaries else root
    if finite.tag_ not in _FINITE or root.tag_ == "MD" or any(child.dep_ == "neg" for child in root.children):
        return "no_finite_verb"
    if any("'" in token.text or "’" in token.text for token in (*auxiliaries, root)):
        return "contraction"
    before: list[Any] = []
    adverbs: list[Any] = []
    after: list[Any] = []
    for child in root.children:
        if child.dep_ in _LOOSE or child in auxiliaries or child == subject or _is_connector(child):
            continue
        if child.dep_ == "advcl" and any(part.lower_ in _CONTRASTS for part in child.children):
            continue
        if _is_loose_participle(child) or " ".join(token.lower_ for token in child.subtree) in IDIOMS:
            continue
        if child.i > root.i:
            after.append(child)
        elif child.i > subject.i:
            adverbs.append(child)
        elif child.dep_ in _SHIFTED and not (child.dep_ == "advcl" and not _has_conjunction(child)):
            before.append(child)
        else:
            return "fronted"
    dropped = _asides(sentence)
    if all(token.i in dropped for token in subject.subtree):
        return "no_subject"  # Of `POWRi (…, inc.) is a …`, parsed around the parentheses, all is an aside.
    whole = whole_names(sentence, topic.title)
    if whole is None:
        return "half_name"
    named = _names(sentence, subject, topic)
    if isinstance(named, str):
        return named
    head = re.sub(r".*\W", "", topic.name).lower()
    names = {**whole, **named, **pointed}
    for token in sentence:
        nouns = (topic.noun, head if topic.name else "")
        if token.lower_ in nouns and token.lower_ and is_bare(token):
            names = {**names, token.i - 1: topic.shown, token.i: ""}
    return Clause(root, subject, auxiliaries, tuple(before), tuple(adverbs), tuple(after), names, dropped)


def subtree(head: Any, clause: Clause) -> list[Any]:
    """Return the tokens of a part of the clause, in order, without what the question does without."""
    return [token for token in head.subtree if token.i not in clause.dropped]


def topic_of(title: str, sentences: Sequence[Any]) -> Topic:
    """Return what a passage with these sentences is about."""
    name = heading_name(title)
    if not name or not sentences or name.startswith(("History of", "List of", "Lists of", "Timeline of")):
        return Topic("", title=title)
    first = sentences[0]
    root = first.root
    subject = next((child for child in root.lefts if child.dep_ in _SUBJECTS), None)
    said = "" if subject is None else " ".join(token.lower_ for token in subject.subtree)
    last = re.findall(r"\w+", name.lower())[-1:]
    # A heading ("Setting Up Shares with Samba") holds a name, and is none.
    is_named = all(word in said for word in name.lower().split()) or not NUMBERING.match(title)
    if not last or last[0] not in said.split() or not is_named:
        return Topic("", title=title)
    nouns = [child for child in root.children if child.dep_ == "attr"] if root.lemma_ == "be" else []
    noun = nouns[0].lower_ if nouns else ""
    pronouns = {token.lower_ for sentence in sentences for token in sentence}
    is_person = bool(pronouns & {"he", "she", "his", "her"}) and not pronouns & {"it"}
    is_person = is_person or (
        subject is not None and any(token.ent_type_ == "PERSON" for token in subject.subtree)
    )
    # "Ranji Trophy is a championship": what it is called knows better than the recogniser.
    is_person = is_person and (not noun or bool(PERSON_NOUN.search(noun)) or KINDS.get(noun) == "person")
    has_article = subject is not None and subject.left_edge.lower_ == "the" and not name.startswith("The ")
    return Topic(name, is_person, noun, title=title, article="the " if has_article else "")


def is_of_topic(sentence: Any, topic: Topic) -> bool:
    """Whether the subject of a sentence is what the passage is about, as far as its words tell."""
    subject = next((child for child in sentence.root.lefts if child.dep_ in _SUBJECTS), None)
    if subject is None:
        return True
    words = {token.lower_ for token in subject.subtree}
    return bool(words & (_PRONOUNS | _POSSESSIVES | {topic.noun, *topic.name.lower().split()}))


def is_bare(noun: Any) -> bool:
    """Whether a noun stands with `the` alone, so that an earlier sentence says which one is meant."""
    children = [child for child in noun.children if child.dep_ != "case"]  # "the band's predecessor"
    return (
        [child.lower_ for child in children] == ["the"]
        and children[0].i == noun.i - 1
        and noun.dep_ != "compound"
    )


def _main_verb(sentence: Any) -> Any:
    """Return the verb of the main clause; "Note that" before it is none."""
    root = sentence.root
    told = [child for child in root.children if child.dep_ == "ccomp" and child.i > root.i]
    return told[0] if root.lower_ == "note" and root.i == sentence.start and told else root


def _entries(sentence: Any, topic: Topic) -> dict[int, str]:
    """Return what stands in place of "this parameter" and "the default" in the description of an entry."""
    names: dict[int, str] = {}
    if not topic.entry:
        return names
    for token in sentence[:-1]:
        noun = token.nbor(1)
        if token.lower_ == "this" and noun.lower_ in ENTRY_NOUNS and noun.dep_ != "compound":
            names |= {token.i: topic.entry, noun.i: ""}
        if (
            token.lower_ == "the"
            and noun.lower_ == "default"
            and noun.dep_ != "amod"
            and noun.head.pos_ != "NOUN"
        ):
            names[noun.i] = f"default of {topic.entry}"
        elif (
            token.lower_ == "default"
            and noun.lower_ in ("value", "setting")
            and token.nbor(-1).lower_ == "the"
        ):
            names[noun.i] = f"value of {topic.entry}"
    return names


def _sentence_flaw(sentence: Any, root: Any, pointed: dict[int, str]) -> str:
    tokens = [token for token in sentence if not token.is_space]
    if not _MIN_TOKENS <= len(tokens) <= _MAX_TOKENS:
        return "length"
    if any("\n" in token.text for token in sentence[:-1]):
        return "line_break"
    text = sentence.text.strip()
    if sum(token.text == "," for token in tokens) > _MAX_COMMAS:
        return "listing"
    if _ABBREVIATED.search(text):
        return "no_sentence"
    if not re.search(r"[.!][\"”’)]?$", text) or not (text[0].isupper() or text[0].isdigit()):
        return "no_sentence"
    if re.search(r"[?=<>{}|*§]|\.\.\.|…|:\s|\"", text):
        return "punctuation"
    if root.pos_ not in ("VERB", "AUX"):
        return "no_verb"
    if any(token.lower_ in POINTERS and token.i not in pointed for token in tokens):
        return "points_elsewhere"
    if any(token.lower_ == "that" and token.dep_ == "det" for token in tokens):
        return "points_elsewhere"
    if any(token.dep_ in ("expl", "csubj", "csubjpass") for token in root.children):
        return "no_subject"
    if _CLEFT.search(text):
        return "cleft"
    return ""


def _is_connector(token: Any) -> bool:
    is_of_verb = token.dep_ == "advmod" and token.head.dep_ in ("ROOT", "ccomp")
    if token.lower_ == "first" and token.i + 1 == token.head.i:
        return False  # "was first described": what happened again has other dates.
    return is_of_verb and token.lower_ in CONNECTORS


def _has_conjunction(clause: Any) -> bool:
    return any(child.dep_ in ("mark", "advmod") and child.lower_ in CONJUNCTIONS for child in clause.children)


def _is_loose_participle(child: Any) -> bool:
    """Whether a part is told by the way: "produced by X, the film …", "…, making it the largest"."""
    is_loose = child.dep_ in ("advcl", "acl") and child.tag_ in ("VBG", "VBN") and not _has_conjunction(child)
    if not is_loose or any(
        grandchild.dep_ == "prep" and grandchild.i < child.i for grandchild in child.children
    ):
        return False
    edge = child.left_edge
    return bool(child.i < child.head.i or (edge.i > 0 and edge.nbor(-1).text == ","))


def _asides(sentence: Any) -> frozenset[int]:
    """Return the tokens in parentheses, of connecting words, and of what is told between commas."""
    dropped: set[int] = set()
    depth = 0
    for token in sentence:
        depth += token.text in ("(", "[")
        if depth or token.is_space or _is_connector(token):
            dropped.add(token.i)
        depth = max(0, depth - (token.text in (")", "]")))
        first = token.left_edge
        if (
            token.dep_ in ("relcl", "appos", "acl")
            and not (token.ent_type_ == "DATE" and token.text.isdigit())  # "December 31, 2015"
            and first.i > sentence.start
            and first.nbor(-1).text == ","
        ):
            dropped.update(range(first.i - 1, token.right_edge.i + 1))
            if token.right_edge.i + 1 < sentence.end and token.right_edge.nbor(1).text == ",":
                dropped.add(token.right_edge.i + 1)
    return frozenset(dropped)


def _names(sentence: Any, subject: Any, topic: Topic) -> dict[int, str] | str:
    """Return what stands in place of pronouns, or a flaw where one of them can't be told."""
    names: dict[int, str] = {}
    whole = list(subject.subtree)
    if subject.lower_ in _PRONOUNS and len(whole) == 1:
        is_person = subject.lower_ in _PERSONS
        if not topic.name or is_person != topic.is_person or subject.lower_ == "they":
            return "pronoun"
        names[subject.i] = topic.shown
    elif whole[0].lower_ in _POSSESSIVES:
        if not topic.name or whole[0].lower_ == "their" or (whole[0].lower_ == "its") == topic.is_person:
            return "pronoun"
        if topic.is_person and _names_another(sentence, topic):
            return "pronoun"  # Whose sister?
        names[whole[0].i] = f"{topic.shown}'" if topic.name.endswith("s") else f"{topic.shown}'s"
    is_named = bool(names)
    for token in sentence:
        if token.i in names or token.lower_ not in _PRONOUNS | _POSSESSIVES:
            continue
        if token.lower_ in ("their", "them") and subject.tag_ not in ("NNS", "NNPS"):
            return "pronoun"
        # Behind the subject it most often means the subject.
        if token.i < subject.i or not (is_named or token.lower_ in _POSSESSIVES):
            return "pronoun"
    return names


def _names_another(sentence: Any, topic: Topic) -> bool:
    """Whether a sentence names a person other than the one the passage is about."""
    return any(
        entity.label_ == "PERSON" and not contains_phrase(topic.name, entity.text) for entity in sentence.ents
    )
