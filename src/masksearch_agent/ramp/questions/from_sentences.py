"""Questions by rule from declarative sentences: the answer is taken out, and what is left is put as English asks.

"The Danube rises in the Black Forest." asks "In which region does the Danube rise?" of `Black Forest`, and "Which river
rises in the Black Forest?" of `Danube`. A rule is applied only where spaCy's parse says that answer and sentence are of
its form; all other answers give no question. Heilman and Smith, "Good Question! Statistical Ranking for Question
Generation" (NAACL 2010) make questions in this way and rank them; here the doubtful ones are dropped instead.
"""

from __future__ import annotations

import re
from typing import Any

from masksearch_agent.ramp.lexicon.answer_kinds import (
    OF_CITY,
    counts,
    has_life,
    is_city,
    is_exact,
    is_name,
    is_place,
    is_whole,
)
from masksearch_agent.ramp.lexicon.fact_patterns import KINDS
from masksearch_agent.ramp.lexicon.rule_words import ARBITRARY, EVERYWHERE, NO_PLACE, PERSON_NOUN
from masksearch_agent.ramp.questions.clauses import Clause, subtree
from masksearch_agent.ramp.questions.unambiguous import (
    LISTING_VERBS,
    fits_subject,
    has_rest,
    identifies,
    is_broken,
    is_common,
    is_cut,
    is_definite,
    is_listing,
    is_placed,
)
from masksearch_agent.ramp.questions.word_order import (
    all_tokens,
    has_base,
    inverted,
    predicate,
    rest_of,
    text_of,
    tidy,
)

__all__ = ("POINTING", "ask")


_PLACES = frozenset({"GPE", "LOC", "FAC"})
_NUMBERS = frozenset({"CARDINAL", "QUANTITY", "PERCENT", "MONEY", "ORDINAL"})
_OF_NOTHING_ASKED = frozenset({"as", "of", "like", "than", "per", "including", "such", "via"})
"""Prepositions whose noun no question word asks for."""
POINTING = re.compile(
    r"\b(?:this|these|those|it|its|they|their|above|below|following|here|see|same|such)\b", re.IGNORECASE
)
_YEAR = re.compile(r"(?:1\d|20)\d\d")
_SUPPOSED = frozenset({"would", "could", "might"})
_ALSO = frozenset({"also", "too", "additionally"})
_OF_EVENT = frozenset({"after", "before", "since", "until", "upon", "following"})
_MIN_WORDS, _MAX_WORDS = 5, 26
_MAX_SUBJECT_WORDS = 14


def ask(clause: Clause, answer: Any, label: str, kind: str) -> str:
    """Return a question for an answer, or `""` where no rule makes one.

    Args:
        clause: Of the sentence that holds the answer.
        answer: A spaCy span.
        label: Its entity label, `""` where it has none.
        kind: What it is, in words (`river`); `""` where unknown.
    """
    answered = {token.i for token in answer}
    if _next_word(answer, clause) in ("or", "and", "/"):
        return ""  # One of two.
    for head in (clause.subject, *clause.after, *clause.before):
        if answered <= {token.i for token in head.subtree}:
            break
    else:
        return ""
    if head != clause.subject and not has_base(clause):
        return ""
    if head == clause.subject:
        question = _of_subject(clause, answer, label, kind)
    else:
        question = _of_object(clause, head, answer, label, kind)
    if is_listing(clause) or any(child.dep_ == "ccomp" for child in clause.root.lefts):
        return ""
    if any(child.lower_ in _SUPPOSED for child in clause.auxiliaries):
        return ""
    if any(child.lower_ in _ALSO for child in clause.root.children) and label not in ("DATE", *_NUMBERS):
        return ""  # So does another.
    # What stood before the subject comes to stand behind a part of it that has a verb of its own, and is said of that.
    is_shifted = any(child != head for child in clause.before)
    if is_shifted and any(token.pos_ in ("VERB", "AUX") for part in clause.after for token in part.subtree):
        return ""
    if any(child.dep_ == "ccomp" and child.i < answer.start for child in clause.after):
        return ""
    if any(token.pos_ == "PROPN" for head in clause.adverbs for token in head.subtree):
        return ""
    is_passive = any(child.dep_ == "auxpass" for child in clause.auxiliaries)
    if is_passive and any(
        c.dep_ in ("dobj", "npadvmod") and c.ent_type_ not in ("DATE", "TIME") for c in clause.after
    ):
        return ""
    question = tidy(question)
    if is_broken(question) or is_cut(clause, question):
        return ""
    return question if _MIN_WORDS <= len(question.split()) <= _MAX_WORDS else ""


def _next_word(answer: Any, clause: Clause) -> str:
    """Return the word behind an answer, of those that a question keeps."""
    rest = (token for token in answer.doc[answer.end :] if token.i not in clause.dropped)
    return str(next((token.lower_ for token in rest), ""))


def _of_subject(clause: Clause, answer: Any, label: str, kind: str) -> str:
    """Who or what does what the sentence says."""
    whole = subtree(clause.subject, clause)
    if label in _NUMBERS and counts(answer, clause.subject) and not clause.before and clause.after:
        # "Five ships sank." -> "How many ships sank?"
        rest = [token for token in whole if token.i > answer[-1].i]
        if whole[0].i == answer[0].i and rest:
            return f"How many {text_of(rest, clause)} {predicate(clause)}"
        return ""
    if not is_whole(answer, whole) or label in (*_NUMBERS, "DATE", "TIME"):
        return ""
    if not fits_subject(clause, answer, kind):
        return ""
    root = clause.root
    is_plural = clause.subject.tag_ in ("NNS", "NNPS")
    finite = clause.auxiliaries[0] if clause.auxiliaries else root
    if finite.tag_ in ("VBZ", "VBP") and (finite.tag_ == "VBP") != is_plural:
        return ""  # The parse is wrong.
    if is_plural and finite.tag_ == "VBP" and finite.lemma_ != "be":
        return ""  # "What reclaim space?"
    if root.lemma_ == "be" and not clause.auxiliaries and not identifies(clause, in_context=True):
        return ""
    attributes = [child for child in clause.after if child.dep_ == "attr"] if root.lemma_ == "be" else []
    # "X is a film", "X was the leader": the predicate knows better than the recogniser whether X is a person.
    if attributes:
        is_person = all(
            PERSON_NOUN.search(noun.lower_) or KINDS.get(noun.lower_) == "person" for noun in attributes
        )
        if (label == "PERSON" or has_life(answer)) and not is_person:
            return ""  # "Commandment Rock is a large rock": one of the two is wrong.
        label = "PERSON" if is_person else ""
    is_acting = not attributes and not any(child.dep_ == "auxpass" for child in clause.auxiliaries)
    if (label in _PLACES and not attributes and not kind) or (is_place(kind) and is_acting):
        return ""  # "What founded colonies in …?" "Which city won the second leg?"
    word = "who" if label == "PERSON" and kind in ("", "person") else f"which {kind}" if kind else "what"
    told = predicate(clause)
    if word == "what" and re.search(r"\b(?:his|her|he|she)\b", told):
        word = "who"
    if word == "who" and len(answer) == 1 and not attributes:
        return ""  # Half of a name.
    is_called_so = word == "what" and not attributes and is_name(answer)
    return f"{'who or what' if is_called_so and label not in _PLACES else word} {told}"


def _of_object(clause: Clause, head: Any, answer: Any, label: str, kind: str) -> str:
    """What the subject does it to, with, when, where."""
    if len(subtree(clause.subject, clause)) > _MAX_SUBJECT_WORDS or not is_definite(clause):
        return ""
    is_copula = clause.root.lemma_ == "be" and not clause.auxiliaries
    is_several = any(child.dep_ == "conj" for child in clause.subject.children)
    if is_copula and (is_several or any(child.dep_ == "attr" and child != head for child in clause.after)):
        return ""
    is_counted = label in _NUMBERS and clause.root.lemma_ == "contain"
    if clause.root.lemma_ in LISTING_VERBS and not is_counted:
        return ""
    if any(child.lower_ == "should" for child in clause.auxiliaries):
        return ""
    if head.dep_ in ("dobj", "attr"):
        if any(child.dep_ in ("xcomp", "ccomp", "oprd", "dative") for child in clause.root.children):
            return ""
        is_number = label in _NUMBERS and label != "ORDINAL" and head.dep_ == "attr"
        is_thing = label not in (*_NUMBERS, "DATE", "TIME")
        if head.dep_ == "dobj" and any(child.dep_ == "auxpass" for child in clause.auxiliaries):
            return ""
        if clause.root.text.isupper() or (is_common(answer) and len(answer) == 1):
            return ""
        if head.dep_ == "dobj" and is_city(kind):
            return ""  # A city that is beaten is a club.
        if clause.root.lemma_ == "be" and any(child.lower_ == "as" for child in clause.after):
            return ""
        is_told = has_rest(clause, head) or (label in _NUMBERS and clause.root.lemma_ == "have")
        if head.dep_ == "dobj" and not (kind or is_told):
            return ""
        if is_whole(answer, subtree(head, clause)) and (is_thing or is_number):
            if head.dep_ == "attr" and head.left_edge.lower_ in ("a", "an") and not is_number:
                return ""
            is_described = clause.subject.pos_ == "NOUN" and clause.subject.i not in clause.names
            if head.dep_ == "attr" and not is_number and not is_described:
                return ""  # "What is the Church of England?" has as many answers as words.
            has_done = any(child.lower_ in ("has", "have") for child in clause.auxiliaries)
            if head.dep_ == "dobj" and not kind and (label != "PERSON" or has_done):
                return ""  # "What has X led?" "What did she win?" Much.
            is_called = clause.subject.lower_ in ("name", "nickname", "pseudonym", "title")
            return f"{'what' if is_called else _word(label, kind)} {inverted(clause, head)}"
        return (
            _of_amount(clause, head, answer)
            or _how_many(clause, head, head, answer, label)
            or _in_place(clause, head, answer, kind)
        )
    if head.dep_ in ("prep", "agent"):
        return _of_preposition(clause, head, answer, label, kind)
    if head.dep_ in ("npadvmod", "tmod") and label == "DATE" and is_exact(answer.text):
        return f"when {inverted(clause, head)}" if is_whole(answer, subtree(head, clause)) else ""
    return ""


def _of_preposition(clause: Clause, head: Any, answer: Any, label: str, kind: str) -> str:
    noun = next((child for child in head.children if child.dep_ == "pobj"), None)
    if noun is None:
        return ""
    if not is_whole(answer, subtree(noun, clause)):
        return _how_many(clause, head, noun, answer, label) or _in_place(clause, head, answer, kind)
    preposition = head.lower_
    if clause.root.lemma_ == "be" and any(child.dep_ == "attr" for child in clause.after):
        # "Where is X a village?" asks for one thing of two that the sentence tells.
        return ""
    if is_common(answer):
        return ""
    asked = inverted(clause, head)
    if label == "DATE":
        return _of_date(clause, head, answer, asked)
    if label in (*_NUMBERS, "TIME") or preposition in _OF_NOTHING_ASKED:
        return ""
    if preposition == "by":
        return _of_agent(clause, head, answer, label, kind, asked)
    if is_city(kind) and preposition not in OF_CITY:
        return ""
    if kind:
        return f"{preposition} which {kind} {asked}"
    if label in _PLACES and (preposition not in ("in", "at", "from") or NO_PLACE.search(answer.text)):
        return ""
    if label in _PLACES and clause.root.lemma_ in EVERYWHERE:
        return ""
    if label in _PLACES and is_placed(clause, head):
        return ""
    if label in _PLACES:
        is_short = not has_rest(clause, head)
        return f"where {asked}" if preposition in ("in", "at") else f"where {asked} from" if is_short else ""
    if label == "PERSON" and preposition in ("by", "with", "to", "from", "for"):
        return f"{preposition} whom {asked}"
    # "Over what will the force affect the movement?": without a noun, hardly anybody asks so.
    return ""


def _of_date(clause: Clause, head: Any, answer: Any, asked: str) -> str:
    # "When is X considered one of the most important …?" has a century for a scope.
    finite = clause.auxiliaries[0] if clause.auxiliaries else clause.root
    is_told = is_exact(answer.text) and finite.tag_ == "VBD"
    place = clause.after.index(head) if head in clause.after else 0
    if place and clause.after[place - 1].lower_ in _OF_EVENT and head.nbor(-1).text != ",":
        return ""  # "after the passage of the Acts in 1774" dates the Acts.
    if not is_told or head.lower_ not in ("in", "on", "at") or clause.root.lemma_ == "be":
        return ""
    is_year = head.lower_ == "in" and _YEAR.fullmatch(answer.text)
    return f"in what year {asked}" if is_year else f"when {asked}"


def _of_agent(clause: Clause, head: Any, answer: Any, label: str, kind: str, asked: str) -> str:
    is_agent = head.dep_ == "agent" and clause.root.tag_ == "VBN"
    # Of two that are told, one was taken: "By which country is Peru bordered to the north by Ecuador …?"
    is_arbitrary = any(child.lower_ in ARBITRARY for child in clause.auxiliaries)
    is_vague = clause.root.lemma_ in ("influence", "inspire", "affect")
    if not is_agent or is_arbitrary or is_vague or " by " in asked:
        return ""
    if label == "PERSON" and head == clause.after[-1] and not clause.before:
        return f"who {asked} by"
    is_named = label in ("PERSON", "ORG") or all(token.pos_ == "PROPN" for token in answer)
    return (
        f"by {f'which {kind}' if kind else 'whom' if is_named and label not in _PLACES else 'what'} {asked}"
    )


def _in_place(clause: Clause, head: Any, answer: Any, kind: str) -> str:
    """ "X is the capital of which country?": where the answer ends the sentence and its kind is known."""
    if answer[-1].i + 1 < len(answer.doc) and answer[-1].nbor(1).text in ("-", "–", "/"):
        return ""
    last = answer.root
    if not kind or last.dep_ != "pobj" or last.head.lower_ not in ("of", "in", "by", "from", "for", "with"):
        return ""
    if clause.before or head != clause.after[-1] or clause.root.lemma_ != "be":
        return ""
    if is_city(kind) and last.head.lower_ not in OF_CITY:
        return ""
    rest = [token for token in subtree(head, clause) if token.pos_ != "PUNCT"]
    if not is_whole(answer, subtree(last, clause)) or rest[-1].i != answer[-1].i:
        return ""
    kept = [token for token in all_tokens(clause) if token.i < subtree(last, clause)[0].i]
    if any(
        token.dep_ in ("relcl", "acl", "conj", "appos") for token in last.ancestors if token.i > clause.root.i
    ):
        return ""
    return f"{text_of(kept, clause)} which {kind}"


def _of_amount(clause: Clause, head: Any, answer: Any) -> str:
    """ "What is the population of X?", where X has a population of so many."""
    of = next((child for child in head.children if child.dep_ == "prep" and child.lower_ == "of"), None)
    if (
        clause.root.lemma_ != "have"
        or clause.auxiliaries
        or of is None
        or answer.root.head not in (of, *of.children)
    ):
        return ""
    amount = [token for child in of.children for token in subtree(child, clause)]
    if (
        answer.label_ not in _NUMBERS
        or not is_whole(answer, amount)
        or head.left_edge.lower_ not in ("a", "an")
    ):
        return ""
    be = "was" if clause.root.tag_ == "VBD" else "is"
    words = [token for token in subtree(head, clause) if head.left_edge.i < token.i < of.i]
    subject = text_of(subtree(clause.subject, clause), clause, is_first=True)
    return f"what {be} the {text_of(words, clause)} of {subject} {rest_of(clause, head)}"


def _how_many(clause: Clause, head: Any, noun: Any, answer: Any, label: str) -> str:
    """ "How many districts does X have?" of the number before an object, "in how many …" behind a preposition."""
    if label not in _NUMBERS or not counts(answer, noun):
        return ""
    if head.dep_ != "dobj" and (clause.root.lemma_ == "be" and not clause.auxiliaries):
        return ""
    rest = [token for token in subtree(noun, clause) if token.i > answer[-1].i]
    ahead = [token for token in subtree(noun, clause) if token.i < answer[0].i]
    if ahead or noun.tag_ != "NNS" or not rest or len(rest) > 4:
        return ""
    if head.dep_ == "prep" and head.lower_ not in ("in", "of", "for", "to", "into", "from", "at"):
        return ""
    preposition = f"{head.lower_} " if head.dep_ in ("prep", "agent") else ""
    return f"{preposition}how many {text_of(rest, clause)} {inverted(clause, head)}"


def _word(label: str, kind: str) -> str:
    if label == "PERSON" and kind in ("", "person"):
        return "who"
    return f"which {kind}" if kind else "what"
