"""Whether a question can be asked without its passage, and what to say first where it can't.

A sentence leaves out what the page around it has said: which server, whose interface. A question of it says so itself,
or it begins with what the page is about, "In the context of LDAP Directory, …", or it is dropped.
"""

from __future__ import annotations

import re
from typing import Any

from masksearch_agent.ramp.hops import content_words
from masksearch_agent.ramp.lexicon.fact_patterns import KINDS
from masksearch_agent.ramp.lexicon.rule_words import (
    ORDINALS,
    PERSON_NOUN,
    QUESTION_WORDS,
    UNIQUE_NOUNS,
    VAGUE_NOUNS,
)
from masksearch_agent.ramp.lexicon.titles import (
    CONTEXT,
    NUMBERING,
    context_of,
    heading_name,
    is_manual,
    sense_of,
)
from masksearch_agent.ramp.questions.clauses import Clause, Topic, is_bare
from masksearch_agent.ramp.questions.unambiguous import has_loose_ends, identifies, singles_out
from masksearch_agent.text.matching import contains_phrase

__all__ = ("in_context", "standing")

_IS_CODE = re.compile(r"\S*[_.]\S*|\w+\(\)|[A-Z]{3,}|[a-z]+[A-Z]\w*")
_IS_NOUN = re.compile(r"[a-z]+(?:tion|ment|ness)")
_WHAT_IS = re.compile(r"What (?:is|are|was|will|does|contains?|holds?)\b")
_OF_CALL = re.compile(r"\b(?:if|when|raised|raises?|returned)\b")
_PROGRAM = re.compile(r"[a-z][\w.+-]*")
_OF_READER = re.compile(r"\b(?:if|when|that|which|\w+ion|package|command|do|does|can|should|must|will) you\b")
_STEM = 5
_NOW = frozenset({"VBZ", "VBP"})
_IN_YEAR = re.compile(r"\bin (?:1\d|20)\d\d\b")
_OF_PERSON = re.compile(r"\b(?:he|she|his|her|him)\b")
_DATED = re.compile(r"\b(?:1\d|20)\d\d\b|\b(?:first|only|last|largest|smallest|highest|longest|oldest)\b")


def standing(question: str, answer: str, clause: Clause, topic: Topic, sentence: Any) -> str:
    """Return a question as it can be asked of somebody who has not the passage; `""` where it can't.

    Args:
        question: As a rule makes it of the sentence.
        answer: To it.
        clause: Of the sentence.
        topic: Of the passage.
        sentence: A spaCy span.
    """
    if not question:
        return ""
    stood = _standing(question, answer, clause, topic, sentence)
    return stood if NUMBERING.match(topic.title) else _sensed(stood, topic.title, answer)


def _standing(question: str, answer: str, clause: Clause, topic: Topic, sentence: Any) -> str:
    name = heading_name(topic.title)
    is_of_manual = is_manual(topic.title)
    if not is_of_manual and topic.title and not (_stands_alone(question, answer, clause)):
        return ""
    if is_of_manual and (clause.root.tag_ == "VBD" or _OF_READER.search(question)):
        return ""  # A manual tells of what is; the past is that of an example.
    if answer.startswith("-") and not _PROGRAM.fullmatch(name):
        return ""  # An option can't be told without its program.
    is_listed = question.startswith("How many") and clause.root.lemma_ == "be"  # By the output of a program.
    if is_of_manual and (is_listed or question.partition(" ")[0].lower() not in QUESTION_WORDS):
        return ""
    if is_of_manual and (clause.root.lemma_ == "exist" or _says_too_little(question, answer)):
        return ""
    if is_of_manual:
        # Many a program is taken for a person.
        is_thing = " " not in answer or answer.isupper()
        question = re.sub(r"^[Ww]ho (?:or what )?", "What " if is_thing else "Who or what ", question)
        if "by whom" in question.lower() and " " not in answer:
            return ""  # Programs are no persons.
    if "the default" in question and not contains_phrase(question, f"default of {topic.entry or ''}"):
        return ""  # Of what?
    if not _is_specific(question, topic, sentence, clause):
        return ""
    if _points_elsewhere(question, clause, topic):
        return ""
    if topic.entry is None and _OF_CALL.search(question):
        return ""  # Raised by what?
    if topic.entry and contains_phrase(question, topic.entry):
        # An option says nothing without its program.
        return in_context(question, topic.title, answer) if topic.entry.startswith("-") else question
    if topic.name and question.lower().count(topic.name.lower()) > 1:
        return ""  # "Was the academy built for the academy?"
    if _names(question, topic.title):
        return question
    asked = set(re.findall(r"\w[\w-]*", question.lower()))
    words = [token for token in sentence if token.lower_ in asked and token.i not in clause.names]
    is_pointing = any(
        token.pos_ == "NOUN" and is_bare(token) and token.lower_ not in UNIQUE_NOUNS for token in words
    )
    is_identified = clause.root.lemma_ != "be" or bool(clause.auxiliaries) or identifies(clause)
    if not topic.title:
        return question if is_identified else ""
    if _tells(name, answer):
        is_told = clause.root.lemma_ == "be" or _DATED.search(question)
        return question if is_told and is_identified and not is_pointing else ""
    if topic.entry and is_of_manual:
        return _of_entry(question, topic.entry, topic.title, answer)
    if not is_of_manual and (is_pointing or not is_identified):
        return ""  # "The browser" of a page on the web.
    return in_context(question, topic.title, answer)


def _of_entry(question: str, entry: str, title: str, answer: str) -> str:
    """Return a question that begins with the entry that it was made of: `csv.writer`, or `writerow of csv`."""
    context = context_of(title)
    is_whole = re.fullmatch(r"[a-z]\w*|-.*", entry) is None
    if _tells(entry, answer) or not (is_whole or context):
        return in_context(question, title, answer)
    return _led_by(question, entry if is_whole else f"{entry} of {context}")


def _says_too_little(question: str, answer: str) -> bool:
    """Whether a question of a manual counts what should be told, gives its answer away, or asks for a word of code and
    names nothing.
    """
    if re.search(r"\bhow many (?:ways|things|kinds|methods)\b", question, re.IGNORECASE):
        return True
    words = content_words(answer.casefold())
    asked = {word[:_STEM] for word in re.findall(r"\w+", question.casefold())}
    if len(words) > 1 and any(word[:_STEM] in asked for word in words):
        return True  # "What performs a VACUUM?" VACUUM ANALYZE.
    if re.search(r"\bwhich (?:function|command)\b", question, re.IGNORECASE) and _IS_NOUN.fullmatch(answer):
        return True  # "The canonicalization function" is one of many.
    is_named = re.search(r"\w[A-Z_]|[A-Z]\w|\d", question[1:]) is not None
    return _IS_CODE.fullmatch(answer) is not None and _WHAT_IS.match(question) is not None and not is_named


def in_context(question: str, title: str, answer: str) -> str:
    """Return a question that begins with what its page is about; `""` where that is not known, or tells the answer."""
    context = context_of(title)
    if not context or _tells(context, answer):
        return ""
    return _led_by(question, context)


def _led_by(question: str, context: str) -> str:
    first = question.split()[0]
    is_word = first.lower() in QUESTION_WORDS or first in ("The", "A", "An")
    return f"{CONTEXT}{context}, {first.lower() if is_word else first}{question[len(first) :]}"


def _tells(context: str, answer: str) -> bool:
    """Whether one gives the other away: a name by a part of it, or by its first letters."""
    letters = _initials(context)
    parts = {word[:_STEM] for word in re.findall(r"[A-Z][\w-]{3,}", answer)}
    is_part = any(word[:_STEM] in parts for word in re.findall(r"[\w-]+", context))
    return (
        is_part
        or letters == answer
        or _initials(answer) == context
        or _are_letters_of(answer, context)
        or contains_phrase(context, answer)
        or contains_phrase(answer, context)
    )


def _initials(name: str) -> str:
    return "".join(word[0] for word in name.split() if word[0].isupper())


def _are_letters_of(answer: str, context: str) -> bool:
    """Whether an answer is short for a name: its letters stand there in order, the first one first."""
    if not (answer.isupper() and answer.isalpha() and 1 < len(answer) < 7):
        return False
    letters = iter(context.upper())
    return context[:1].upper() == answer[0] and all(letter in letters for letter in answer)


def _stands_alone(question: str, answer: str, clause: Clause) -> bool:
    """Whether a question of a text that tells of the world leans on nothing, and asks for one thing alone."""
    is_of_subject = clause.subject.text in answer
    is_described = clause.root.lemma_ == "be" and not clause.auxiliaries and answer.islower()
    if re.match(r"(?:same|year) ", answer) or (is_described and question.startswith("What ")):
        return False  # "What was the Lê dynasty?" has as many answers as words.
    return not has_loose_ends(question) and (not is_of_subject or singles_out(clause))


def _sensed(question: str, title: str, answer: str) -> str:
    """Return a question that tells a title from its namesakes as the title does in parentheses; `""` where it can't."""
    sense, name = sense_of(title), heading_name(title)
    start = question.lower().find(name.lower())
    if start >= 0 and not name.split(" ")[-1].islower() and " " in name:
        # The first word of a sentence got a small letter, and is one of a name.
        question = f"{question[:start]}{name}{question[start + len(name) :]}"
    said = set(re.findall(r"\w+", question.lower()))
    if not sense or start < 0 or said.issuperset(re.findall(r"\w+", sense.lower())):
        return question
    if contains_phrase(sense, answer) or contains_phrase(answer, sense):
        return ""
    last = sense.split()[-1]
    is_noun = last in KINDS or PERSON_NOUN.search(last) is not None
    if last.islower() and not is_noun:
        return ""  # "the rugby league Abraham Jonas"
    before = re.sub(r"\b[Tt]he $", "", question[:start])
    shown = f"the {sense} {name}" if is_noun else f"{name} ({sense})"
    told = f"{before}{shown}{question[start + len(name) :]}"
    return f"{told[:1].upper()}{told[1:]}"


def _points_elsewhere(question: str, clause: Clause, topic: Topic) -> bool:
    """Whether a question speaks of somebody whom it does not name, or of a year as if it were now."""
    finite = clause.auxiliaries[0] if clause.auxiliaries else clause.root
    if finite.tag_ in _NOW and _IN_YEAR.search(question):
        return True
    subject = clause.subject
    is_told = subject.i in clause.names or subject.lower_ in UNIQUE_NOUNS or is_manual(topic.title)
    if subject.pos_ == "NOUN" and is_bare(subject) and not is_told:
        return True  # "When was the structure renamed?"
    if not _OF_PERSON.search(question):
        return False
    if question.startswith(("Who ", "By whom ")):
        # "Who described her?" Somebody else.
        return any(child.tag_ == "PRP" and child.i not in clause.names for child in clause.root.rights)
    is_named = clause.subject.i in clause.names and topic.is_person
    return not (is_named or any(token.ent_type_ == "PERSON" for token in clause.subject.subtree))


def _names(question: str, title: str) -> bool:
    """Whether a question holds all words of a title; those of an article in some form."""
    words = re.findall(r"\w+", " ".join(content_words(heading_name(title))).lower())
    stem = None if NUMBERING.match(title) else _STEM  # `secure` says nothing of the chapter on security.
    held = {word[:stem] for word in re.findall(r"\w+", question.lower())}
    return bool(words) and all(word[:stem] in held for word in words)


def _is_specific(question: str, topic: Topic, sentence: Any, clause: Clause) -> bool:
    """Whether a question says enough for a page to be found by it."""
    subject = [token for token in clause.subject.subtree if token.i not in clause.dropped]
    asked = set(re.findall(r"[\w.-]+", question.lower()))
    words = [token for token in sentence if token.lower_ in asked and token.i not in clause.names]
    if any(token.lower_ in VAGUE_NOUNS and is_bare(token) for token in words):
        return False
    if subject[0].lower_ == "the" and subject[1:] and subject[1].lower_ in ORDINALS and len(subject) < 4:
        return False
    content = [token for token in sentence if token.lower_ in asked and not token.is_stop and token.is_alpha]
    if topic.entry and topic.entry in question:
        return True
    has_topic = bool(topic.name) and topic.name.lower() in question.lower()
    is_named = has_topic or any(token.pos_ == "PROPN" for token in content) or "_" in question
    # "In which file is the main configuration?"
    is_defined = clause.root.lemma_ == "be" and question.startswith(("What ", "Who "))
    is_named = is_named or (is_defined and bool(context_of(topic.title)))
    return len(content) >= (3 if is_named else 5) or (has_topic and len(content) >= 2)
