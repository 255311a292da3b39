"""Questions by rule from declarative sentences: the answer is taken out, and what is left is put as English asks.

"The Danube rises in the Black Forest." asks "In which region does the Danube rise?" of `Black Forest`, and "Which river
rises in the Black Forest?" of `Danube`. A rule is applied only where the parse (spaCy) says that answer and sentence are
of its form; all other answers give no question. Heilman and Smith, "Good Question! Statistical Ranking for Question
Generation" (NAACL 2010) make questions in this way and rank them; here the doubtful ones are dropped instead.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any

from masksearch_agent.ramp.clauses import Clause, subtree

__all__ = ("KIND", "ask")

KIND = "[kind]"
"""Stands in a question for what the corpus calls the answer."""

_PLACES = frozenset({"GPE", "LOC", "FAC"})
_NUMBERS = frozenset({"CARDINAL", "QUANTITY", "PERCENT", "MONEY", "ORDINAL"})
_YEAR = re.compile(r"(?:1\d|20)\d\d")
_VERBS_WITH_PREPOSITION = frozenset(
    tuple(pair.split("_"))
    for pair in "belong_to refer_to depend_on consist_of base_on call_by replace_by replace_with correspond_to store_in "
    "define_in derive_from name_after write_in convert_to convert_into use_for map_to apply_to rely_on result_in "
    "stand_for know_as lead_to contain_in connect_to send_to located_in publish_in record_in keep_in work_for study_at "
    "graduate_from marry_to translate_into divide_into split_into add_to pass_to write_to play_for come_from".split()
)
_MIN_WORDS, _MAX_WORDS = 5, 26
_MAX_SUBJECT_WORDS = 14
_SPACE_BEFORE_POINT = re.compile(r"\s+(?=[,.;:%)]|['’]s\b|['’](?:\s|$))")

def ask(clause: Clause, answer: Any, label: str, kind: str) -> str:
    """Return a question for an answer, or `""` where no rule makes one.

    Args:
        clause: Of the sentence that holds the answer.
        answer: A spaCy span.
        label: Its entity label, `""` where it has none.
        kind: What it is, in words (`river`); `""` where unknown.
    """
    answered = {token.i for token in answer}
    for head in (clause.subject, *clause.after, *clause.before):
        if answered <= {token.i for token in head.subtree}:
            break
    else:
        return ""
    if head == clause.subject:
        question = _of_subject(clause, answer, label, kind)
    else:
        question = _of_object(clause, head, answer, label, kind)
    question = _tidy(question)
    words = question.split()
    return question if _MIN_WORDS <= len(words) <= _MAX_WORDS else ""


def _of_subject(clause: Clause, answer: Any, label: str, kind: str) -> str:
    """Who or what does what the sentence says."""
    whole = subtree(clause.subject, clause)
    if _counts(answer, clause.subject) and not clause.before:
        # "Five ships sank." -> "How many ships sank?"
        rest = [token for token in whole if token.i > answer[-1].i]
        if whole[0].i == answer[0].i and rest:
            return f"How many {_text(rest, clause)} {_predicate(clause, ())}"
        return ""
    if not _is_whole(answer, whole) or label in (*_NUMBERS, "DATE", "TIME"):
        return ""
    root = clause.root
    is_plural = clause.subject.tag_ in ("NNS", "NNPS")
    finite = clause.auxiliaries[0] if clause.auxiliaries else root
    if finite.tag_ in ("VBZ", "VBP") and (finite.tag_ == "VBP") != is_plural:
        return ""  # The parse is wrong.
    if is_plural and finite.tag_ == "VBP" and finite.lemma_ != "be":
        return ""  # "What reclaim space?"
    if root.lemma_ == "be" and not clause.auxiliaries and not _identifies(clause):
        return ""
    word = "who" if label == "PERSON" and kind in ("", "person") else f"which {kind}" if kind else "what"
    return f"{word} {_predicate(clause, ())}"


def _of_object(clause: Clause, head: Any, answer: Any, label: str, kind: str) -> str:
    """What the subject does it to, with, when, where."""
    if len(subtree(clause.subject, clause)) > _MAX_SUBJECT_WORDS or not _is_definite(clause):
        return ""
    if head.dep_ in ("dobj", "attr"):
        if any(child.dep_ in ("xcomp", "ccomp", "oprd", "dative") for child in clause.root.children):
            return ""
        is_number = label in _NUMBERS and label != "ORDINAL" and head.dep_ == "attr"
        is_thing = label not in (*_NUMBERS, "DATE", "TIME")
        if _is_whole(answer, subtree(head, clause)) and (is_thing or is_number):
            return f"{_word(label, kind)} {_inverted(clause, head)}"
        return _of_amount(clause, head, answer) or _how_many(clause, head, head, answer) or _in_place(clause, head, answer, label, kind)
    if head.dep_ in ("prep", "agent"):
        return _of_preposition(clause, head, answer, label, kind)
    if head.dep_ in ("npadvmod", "tmod") and label == "DATE":
        return f"when {_inverted(clause, head)}" if _is_whole(answer, subtree(head, clause)) else ""
    return ""


def _of_preposition(clause: Clause, head: Any, answer: Any, label: str, kind: str) -> str:
    noun = next((child for child in head.children if child.dep_ == "pobj"), None)
    if noun is None:
        return ""
    if not _is_whole(answer, subtree(noun, clause)):
        return _how_many(clause, head, noun, answer) or _in_place(clause, head, answer, label, kind)
    preposition = head.lower_
    inverted = _inverted(clause, head)
    if label == "DATE":
        if preposition in ("in", "on", "at") and not clause.root.lemma_ == "be":
            is_year = preposition == "in" and _YEAR.fullmatch(answer.text)
            return f"in what year {inverted}" if is_year else f"when {inverted}"
        return ""
    if label in (*_NUMBERS, "TIME") or preposition in ("as", "of", "like", "than", "per", "including", "such", "via"):
        return ""
    if preposition == "by":
        is_agent = head.dep_ == "agent" and clause.root.tag_ == "VBN"
        if is_agent and head == clause.after[-1] and not clause.before:
            return f"{_word(label, kind)} {inverted} by"
        return f"by {'whom' if label == 'PERSON' else f'which {kind}' if kind else 'what'} {inverted}" if is_agent else ""
    if kind:
        return f"{preposition} which {kind} {inverted}"
    if label in _PLACES:
        if preposition in ("in", "at", "near"):
            return f"where {inverted}"
        return f"where {inverted} from" if preposition == "from" else ""
    if label == "PERSON":
        return f"{preposition} whom {inverted}"
    # "Over what will the force affect the movement?" Where the preposition belongs to the verb, it reads well.
    return f"{preposition} what {inverted}" if (clause.root.lemma_, preposition) in _VERBS_WITH_PREPOSITION else ""


def _in_place(clause: Clause, head: Any, answer: Any, label: str, kind: str) -> str:
    """"X is the capital of which country?": where the answer ends the sentence and its kind is known."""
    kind = kind or {"GPE": "place"}.get(label, "")
    last = answer.root
    if not kind or last.dep_ != "pobj" or last.head.lower_ not in ("of", "in", "by", "from", "for", "with"):
        return ""
    if head != (*clause.after, *clause.before)[-1 if not clause.before else len(clause.after) - 1]:
        return ""
    rest = [token for token in subtree(head, clause) if token.pos_ != "PUNCT"]
    if not _is_whole(answer, subtree(last, clause)) or rest[-1].i != answer[-1].i or clause.before:
        return ""
    kept = [token for token in _all(clause) if token.i < subtree(last, clause)[0].i]
    if any(token.dep_ in ("relcl", "acl", "conj", "appos") for token in last.ancestors if token.i > clause.root.i):
        return ""
    return f"{_text(kept, clause)} which {kind}"


def _of_amount(clause: Clause, head: Any, answer: Any) -> str:
    """"What is the population of X?", where X has a population of so many."""
    of = next((child for child in head.children if child.dep_ == "prep" and child.lower_ == "of"), None)
    if clause.root.lemma_ != "have" or clause.auxiliaries or of is None or answer.root.head not in (of, *of.children):
        return ""
    amount = [token for child in of.children for token in subtree(child, clause)]
    if answer.label_ not in _NUMBERS or not _is_whole(answer, amount) or head.left_edge.lower_ not in ("a", "an"):
        return ""
    be = "was" if clause.root.tag_ == "VBD" else "is"
    words = [token for token in subtree(head, clause) if head.left_edge.i < token.i < of.i]
    subject = _text(subtree(clause.subject, clause), clause, is_first=True)
    return f"what {be} the {_text(words, clause)} of {subject} {_rest(clause, head)}"


def _how_many(clause: Clause, head: Any, noun: Any, answer: Any) -> str:
    """"How many districts does X have?" of the number before an object; "in how many countries" behind a preposition."""
    if not _counts(answer, noun):
        return ""
    rest = [token for token in subtree(noun, clause) if token.i > answer[-1].i]
    ahead = [token for token in subtree(noun, clause) if token.i < answer[0].i]
    if ahead or noun.tag_ != "NNS" or not rest:
        return ""
    preposition = f"{head.lower_} " if head.dep_ == "prep" else ""
    return f"{preposition}how many {_text(rest, clause)} {_inverted(clause, head)}"


def _counts(answer: Any, noun: Any) -> bool:
    return answer.root.dep_ == "nummod" and answer.root.head == noun and noun.tag_ == "NNS"


def _word(label: str, kind: str) -> str:
    if label == "PERSON" and kind in ("", "person"):
        return "who"
    return f"which {kind}" if kind else "what"


def _inverted(clause: Clause, left_out: Any) -> str:
    """"does the Danube rise in May": the clause without a part, its verb before its subject."""
    root = clause.root
    subject = _text(subtree(clause.subject, clause), clause, is_first=True)
    rest = _rest(clause, left_out)
    adverbs = _text([token for head in clause.adverbs for token in subtree(head, clause)], clause)
    if clause.auxiliaries:
        first, *more = clause.auxiliaries
        return f"{first.text} {subject} {_text(more, clause)} {adverbs} {root.text} {rest}"
    if root.lemma_ == "be":
        return f"{root.text} {subject} {adverbs} {rest}"
    do = {"VBD": "did", "VBZ": "does", "VBP": "do"}[root.tag_]
    return f"{do} {subject} {adverbs} {_base(root)} {rest}"


def _predicate(clause: Clause, left_out: Any) -> str:
    adverbs = [token for head in clause.adverbs for token in subtree(head, clause)]
    verb = sorted((*adverbs, *clause.auxiliaries, clause.root), key=lambda token: token.i)
    return f"{_text(verb, clause)} {_rest(clause, left_out)}"


def _rest(clause: Clause, left_out: Any) -> str:
    """What stands behind the verb, then what stood before the subject."""
    after = [token for head in clause.after if head != left_out for token in subtree(head, clause)]
    before = [_text(subtree(head, clause), clause, is_first=True) for head in clause.before if head != left_out]
    return " ".join([_text(after, clause), *before])


def _all(clause: Clause) -> list[Any]:
    heads = (clause.subject, *clause.adverbs, *clause.after)
    tokens = [token for head in heads for token in subtree(head, clause)]
    return sorted((*tokens, *clause.auxiliaries, clause.root), key=lambda token: token.i)


def _identifies(clause: Clause) -> bool:
    """Whether a copula says enough for only one thing to be meant: "the capital of X", or many words of it."""
    attributes = [child for child in clause.after if child.dep_ == "attr"]
    if not attributes:
        return bool(clause.after)
    tokens = [token for head in clause.after for token in subtree(head, clause)]
    article = attributes[0].left_edge.lower_
    content = sum(not token.is_stop and not token.is_punct for token in tokens)
    return article == "the" and content >= 2 or content >= 6


def _is_definite(clause: Clause) -> bool:
    """Whether the subject is somebody or something in particular."""
    first = subtree(clause.subject, clause)
    return bool(first) and not (first[0].lower_ in ("a", "an", "some", "many", "several", "most", "all", "any", "each", "no", "every", "few", "both") or clause.subject.tag_ in ("CD", "DT", "WDT", "WP"))


def _is_whole(answer: Any, tokens: Sequence[Any]) -> bool:
    """Whether an answer is all that a phrase says, articles and punctuation left out."""
    answered = {token.i for token in answer}
    return all(
        token.i in answered or token.pos_ in ("PUNCT", "SPACE") or token.lower_ in ("the", "a", "an") and token.dep_ == "det"
        for token in tokens
    )


def _text(tokens: Iterable[Any], clause: Clause, is_first: bool = False) -> str:
    """Return tokens as text; the first word of the sentence gets the case that it has elsewhere."""
    pieces: list[str] = []
    end = None
    for token in tokens:
        word = clause.names.get(token.i)
        if word is None:
            word = token.text
            if token.is_sent_start and token.pos_ not in ("PROPN", "X") and not token.ent_type_ and word[1:].islower() or word in ("A", "I") and token.pos_ == "DET":
                word = word[:1].lower() + word[1:]
        if end is not None and token.i == end and pieces and not token.nbor(-1).whitespace_:
            pieces[-1] += word
        elif word:
            pieces.append(word)
        end = token.i + 1
    return " ".join(pieces)


def _base(verb: Any) -> str:
    """The lemmatizer takes `premiered` for a form of `premier`."""
    return {"premier": "premiere"}.get(verb.lemma_, verb.lemma_)


def _tidy(question: str) -> str:
    question = " ".join(question.split())
    question = _SPACE_BEFORE_POINT.sub("", question).rstrip(" ,.;:!—–-")
    question = re.sub(r",(?:\s*,)+", ",", question)
    return f"{question[:1].upper()}{question[1:]}?" if question else ""
