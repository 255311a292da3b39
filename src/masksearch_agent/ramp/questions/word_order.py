"""How the parts of a clause are written in a question: its verb before its subject, or behind the question word."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from masksearch_agent.ramp.questions.clauses import Clause, subtree

__all__ = ("all_tokens", "has_base", "inverted", "predicate", "rest_of", "text_of", "tidy")

_SPACE_BEFORE_POINT = re.compile(r"\s+(?=[,.;:%)]|['’]s\b|['’](?:\s|$))")


def inverted(clause: Clause, left_out: Any) -> str:
    """ "does the Danube rise in May": the clause without a part, its verb before its subject."""
    root = clause.root
    subject = text_of(subtree(clause.subject, clause), clause, is_first=True)
    rest = rest_of(clause, left_out)
    adverbs = text_of([token for head in clause.adverbs for token in subtree(head, clause)], clause)
    if clause.auxiliaries:
        first, *more = clause.auxiliaries
        return f"{first.text} {subject} {text_of(more, clause)} {adverbs} {root.text} {rest}"
    if root.lemma_ == "be":
        return f"{root.text} {subject} {adverbs} {rest}"
    do = {"VBD": "did", "VBZ": "does", "VBP": "do"}[root.tag_]
    return f"{do} {subject} {adverbs} {_base(root)} {rest}"


def predicate(clause: Clause) -> str:
    """Return the clause without its subject: "rises in the Black Forest"."""
    adverbs = [token for head in clause.adverbs for token in subtree(head, clause)]
    verb = sorted((*adverbs, *clause.auxiliaries, clause.root), key=lambda token: token.i)
    return f"{text_of(verb, clause)} {rest_of(clause)}"


def rest_of(clause: Clause, left_out: Any = None) -> str:
    """Return what stands behind the verb, then what stood before the subject; a part of it can be left out."""
    after = [token for head in clause.after if head != left_out for token in subtree(head, clause)]
    before = [
        text_of(subtree(head, clause), clause, is_first=True) for head in clause.before if head != left_out
    ]
    return " ".join([text_of(after, clause), *before])


def all_tokens(clause: Clause) -> list[Any]:
    """Return the tokens of subject, verb and what follows, in order."""
    heads = (clause.subject, *clause.adverbs, *clause.after)
    tokens = [token for head in heads for token in subtree(head, clause)]
    return sorted((*tokens, *clause.auxiliaries, clause.root), key=lambda token: token.i)


def has_base(clause: Clause) -> bool:
    """Whether the verb can stand behind `did`: its base form is known, or it needs none."""
    root = clause.root
    is_bare = not clause.auxiliaries and root.lemma_ != "be"
    return not is_bare or bool(root.lemma_)


def _base(verb: Any) -> str:
    """The lemmatizer takes `premiered` for a form of `premier`."""
    lemma = str(verb.lemma_)
    if verb.text.lower() == f"{lemma}ed" and re.fullmatch(r"[^aeiou]*[aeiou][^aeiouwxy]", lemma):
        lemma += "e"  # `rated` is no form of `rat`, which doubles its last letter.
    return {"premier": "premiere"}.get(lemma, lemma)


def text_of(tokens: Iterable[Any], clause: Clause, is_first: bool = False) -> str:
    """Return tokens as text; the first word of the sentence gets the case that it has elsewhere."""
    pieces: list[str] = []
    end = None
    for token in tokens:
        word = clause.names.get(token.i)
        if word is None:
            word = token.text
            is_name = token.pos_ in ("PROPN", "X") or token.ent_type_ or not word[1:].islower()
            if token.is_sent_start and (token.tag_ in ("DT", "IN") or not is_name):
                word = word[:1].lower() + word[1:]
        if end is not None and token.i == end and pieces and not token.nbor(-1).whitespace_:
            pieces[-1] += word
        elif word:
            pieces.append(word)
        end = token.i + 1
    return " ".join(pieces)


def tidy(question: str) -> str:
    """Return a question with single spaces, its capital and its mark; `""` for an empty one."""
    question = " ".join(question.split()).replace(" the The ", " The ")
    question = _SPACE_BEFORE_POINT.sub("", question).rstrip(" ,.;:!—–-")
    question = re.sub(r",(?:\s*,)+", ",", question)
    return f"{question[:1].upper()}{question[1:]}?" if question else ""
