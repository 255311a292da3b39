"""Whether what is left of a sentence still says one thing, and whether its answer is the only one.

A question by rule fails in few ways: it holds half of a clause or of a list, it compares with nothing, or what it says
is true of much else. What may be so is not asked.
"""

from __future__ import annotations

import re
from typing import Any

from masksearch_agent.ramp.lexicon.glossary import general_words
from masksearch_agent.ramp.lexicon.rule_words import ARBITRARY, NAMED_KINDS
from masksearch_agent.ramp.questions.clauses import Clause, subtree
from masksearch_agent.ramp.questions.word_order import all_tokens

__all__ = (
    *(
        "fits_subject",
        "has_loose_ends",
        "has_rest",
        "identifies",
        "is_broken",
        "is_common",
        "is_cut",
        "is_definite",
        "is_listing",
        "is_placed",
        "singles_out",
    ),
)

_BROKEN = re.compile(
    r"[;:—#]|\b(?:of|by|at|for|from|with) (?:on|in|at|by|of|for|with|to)\b|"
    r"^What only|, (?:its|his|her|their) [\w ]+\?$|``|''|\?.|\. \d|with how many|"
    r"\b(?:nonetheless|in which case|either|neither|similar(?:ly)?|corresponding|respective|specified|"
    r"given|others?|another|homonymous|in some cases|in question|same|just|even|for example|such as|like|etc|too|"
    r"(?:any|some)(?:thing|one) else|reasoning|words|direction|first\?|various|certain|some)\b|"
    r", but\b|, (?:and|or) (?:is|are|was|were|has|had)\b"
)
"""What points out of a sentence, or is left of something that was cut from it."""
_LOOSE_ENDS = re.compile(
    r"\b(?:ever since|since then|to date|so far|as of yet|all (?:two|three|four|five|six)|current(?:ly)?|incumbent"
    r"|at the time|in (?:total|addition|return)|in (?:\d[\d,]*|\w+) (?:families|households)|it|them|themselves"
    r"|the disease|(?<!is )(?<!are )(?<!was )(?<!were )being)\b"
    r"|[a-z\d]\.[A-Z]| -\w"  # Of two sentences without a space between them; of a dash.
    r"|\b[Bb]y what\b|\bup\?$|^(?:Who|What)(?: or what)? (?:since|in|after|most commonly|also|best) "
)
"""Of a text that tells a story; a manual speaks of `the current transaction`."""
_UNFINISHED = re.compile(
    r"(?:,\s\w+|\b(?:is|are|was|were|be|been|has|that|and|or|the|a|an|which))\?$|\(\)|\bthat is\b"
)
_REFERENCE = re.compile(r"\b(?:table|section|figure|chapter|example|appendix) [\dA-Z]", re.IGNORECASE)
_TELLING = frozenset({"acl", "relcl"})
_YEAR = re.compile(r"(?:1\d|20)\d\d")
LISTING_VERBS = frozenset(
    ["include", "encompass", "comprise", "constitute", "contain", "feature", "involve", "cover", "star"]
)
"""What one of several stands behind."""
_MIN_CONTENT, _MIN_IN_CONTEXT = 6, 3


def is_broken(question: str) -> bool:
    """Whether a question points to another place, or ends in the middle of something."""
    is_whole = all(question.count(left) == question.count(right) for left, right in ("()", "“”"))
    return not is_whole or any(sign.search(question) for sign in (_REFERENCE, _BROKEN, _UNFINISHED))


def has_loose_ends(question: str) -> bool:
    """Whether a question leans on a time or a number that its text has told before."""
    return _LOOSE_ENDS.search(question) is not None


def singles_out(clause: Clause) -> bool:
    """Whether a definition is of one thing alone: `the capital of`, `the first …`, somebody who did something named.

    Of large paintings by Picasso there are many, and what are trees of a family is asked by nobody.
    """
    nouns = [child for child in clause.after if child.dep_ == "attr"]
    if clause.root.lemma_ != "be" or clause.auxiliaries:
        return True
    if not nouns:
        return clause.subject.tag_ not in ("NNS", "NNPS")  # "What are usually flammable?"
    is_plural = clause.subject.tag_ in ("NNS", "NNPS")
    if nouns[0].tag_ in ("NNS", "NNPS") or is_plural:
        return nouns[0].left_edge.lower_ == "the" and not is_plural
    tokens = [token for noun in nouns for token in subtree(noun, clause)]
    if any(
        token.lower_ == "one" and token.i + 1 < len(token.doc) and token.nbor(1).lower_ == "of"
        for token in tokens
    ):
        return False
    if tokens and (tokens[0].lower_ == "the" or tokens[0].tag_ in ("PRP$", "NNP", "CD")):
        return True
    if any(token.tag_ in ("JJS", "RBS") or token.lower_ in ("only", "first") for token in tokens):
        return True
    told = [token for token in tokens if any(_tells_of_past(part) for part in (token, *token.ancestors))]
    named = sum(token.pos_ == "PROPN" for token in told)
    return named > 1 or any(_YEAR.fullmatch(token.text) for token in told)


def _tells_of_past(token: Any) -> bool:
    """Whether a verb tells what somebody did: whoever plays for a club, others play there too."""
    return token.dep_ == "relcl" and any(part.tag_ == "VBD" for part in (token, *token.children))


def fits_subject(clause: Clause, answer: Any, kind: str) -> bool:
    """Whether the subject of a clause may be asked for: a name, or what the clause defines."""
    root = clause.root
    if root.lemma_ in ARBITRARY:
        return False
    if not kind and any(child.lower_ in ARBITRARY for child in clause.auxiliaries):
        return False
    if not is_common(answer):
        return True
    # A firewall is one of many things that block something; and "a nice feature is the …" defines no feature.
    has_article = any(child.lower_ in ("a", "an") for child in clause.subject.children)
    is_turned = any(
        (child.left_edge.lower_ == "the" and has_article) or child.dep_ == "xcomp" for child in clause.after
    )
    return root.lemma_ == "be" and not is_turned


def is_cut(clause: Clause, question: str) -> bool:
    """Whether a question compares with nothing, or holds half of another clause: "asks for X and the Y is …"."""
    tokens = all_tokens(clause)
    is_compared = any(token.tag_ in ("JJR", "RBR") and token.lower_ in question.split() for token in tokens)
    if is_compared and "than" not in question.split():
        return True
    if any(_is_absolute(token) for token in tokens):
        return True
    own = {clause.root, *clause.auxiliaries}
    return any(
        token.tag_ in ("VBZ", "VBP", "VBD", "MD")
        and token not in own
        and not _is_subordinate(token, clause.root)
        for token in tokens
    )


def _is_absolute(clause: Any) -> bool:
    """Whether a clause without a conjunction has a subject of its own: "the highest point being Mount Narodnaya"."""
    parts = {child.dep_ for child in clause.children}
    is_clause = clause.dep_ in ("advcl", "acl") and clause.tag_ in ("VBG", "VBN")
    return is_clause and "nsubj" in parts and "mark" not in parts


def _is_subordinate(token: Any, root: Any) -> bool:
    while token != root:
        if token.dep_ in ("relcl", "advcl", "ccomp", "acl", "pcomp", "csubj"):
            return True
        if token == token.head:
            return False
        token = token.head
    return False


def is_common(answer: Any) -> bool:
    """Whether an answer is a word or more of everyday English, whatever case a sentence gives its first."""
    if len(answer) == 1 and _is_bare_name(answer[0]):
        return False
    pairs = ((answer[0], answer[-1]), (answer[-1], answer[0])) if len(answer) == 2 else ()
    if any(noun.text in NAMED_KINDS and name.text not in general_words() for name, noun in pairs):
        return False  # "The sudo package"
    return all(
        token.pos_ not in ("PROPN", "NUM", "X") and token.text[1:].islower() and token.lower_.isalpha()
        and (token.text.islower() or token.is_sent_start)
        for token in answer
    )  # fmt: skip


def _is_bare_name(token: Any) -> bool:
    """Whether a word in small letters is a name: `dpkg` has no article, as a common noun in the singular has."""
    is_alone = token.tag_ == "NN" and not any(
        child.dep_ in ("det", "amod", "poss") for child in token.children
    )
    return bool(
        is_alone
        and token.dep_ in ("nsubj", "nsubjpass", "dobj", "pobj")
        and token.text.islower()
        and token.text not in general_words()
        and not token.text.endswith(("ion", "ing", "ment", "ity", "ness"))
    )


def is_listing(clause: Clause) -> bool:
    """Whether a clause lists things; what is left of a list without one of them says something else."""
    tokens = all_tokens(clause)
    commas = sum(token.text == "," for token in tokens)
    return commas > 2 or (commas > 1 and any(token.dep_ == "cc" for token in tokens))


def is_placed(clause: Clause, head: Any) -> bool:
    """Whether a clause tells another place, so that `where` asks for one of two."""
    return any(
        part != head
        and part.lower_ in ("in", "at", "near", "on", "from", "to")
        and token.dep_ == "pobj"
        and not (token.ent_type_ in ("DATE", "TIME") or re.search(r"\d", token.text))
        and (token.pos_ == "PROPN" or part.lower_ != "on")
        for part in (*clause.after, *clause.before)
        for token in part.children
    )


def has_rest(clause: Clause, left_out: Any) -> bool:
    """Whether a clause says more than who did something and what to: "What has X won?" has many answers."""
    return any(
        part != left_out and part.dep_ not in ("advmod", "prt") for part in (*clause.after, *clause.before)
    )


def identifies(clause: Clause, in_context: bool = False) -> bool:
    """Whether a copula says enough for only one thing to be meant: "the capital of X", or many words of it; some words
    where the context is told first."""
    attributes = [child for child in clause.after if child.dep_ == "attr"]
    if not attributes:
        return bool(clause.after)
    tokens = [token for head in clause.after for token in subtree(head, clause)]
    article = attributes[0].left_edge.lower_
    content = sum(not token.is_stop and not token.is_punct for token in tokens)
    if any(noun.lower_ in ("one", "part") for noun in attributes):
        return False
    if article == "the":
        return content >= 2
    if in_context:
        return content >= _MIN_IN_CONTEXT and len(tokens) > _MIN_IN_CONTEXT + 1
    # "A village in …" says itself that there are others; a year, or what somebody did, may tell it from them.
    told = [token for token in tokens if any(part.dep_ in _TELLING for part in (token, *token.ancestors))]
    is_dated = any(_YEAR.fullmatch(token.text) for token in tokens)
    return content >= _MIN_CONTENT and (is_dated or any(token.pos_ == "PROPN" for token in told))


def is_definite(clause: Clause) -> bool:
    """Whether the subject is somebody or something in particular."""
    first = subtree(clause.subject, clause)
    return bool(first) and not (
        first[0].lower_
        in (
            "a",
            "an",
            "numerous",
            "various",
            "some",
            "many",
            "several",
            "most",
            "all",
            "any",
            "each",
            "no",
            "every",
            "few",
            "both",
        )
        or first[0].pos_ == "NUM"
        or clause.subject.tag_ in ("CD", "DT", "WDT", "WP")
    )
