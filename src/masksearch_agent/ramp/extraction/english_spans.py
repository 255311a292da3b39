"""What a parsed English passage could be asked for: entities, terms and identifiers, with a question where one is made.

News has people, places and dates; a manual has commands, settings and terms, which no entity recogniser was taught.
So noun phrases and words that look like code are candidates too; which of them are worth asking for is told by their
statistics in the corpus (`ramp.lexicon.glossary`), not here.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from masksearch_agent.ramp.extraction.expansions import expansions
from masksearch_agent.ramp.extraction.whole_spans import is_part
from masksearch_agent.ramp.lexicon.answer_kinds import KIND
from masksearch_agent.ramp.lexicon.glossary import general_words
from masksearch_agent.ramp.lexicon.manual_entries import entry_of, find_entries
from masksearch_agent.ramp.lexicon.rule_words import EMPTY_ADJECTIVES, KIND_NOUNS, NAMED_KINDS
from masksearch_agent.ramp.lexicon.titles import NUMBERING, is_manual
from masksearch_agent.ramp.questions.clauses import Clause, Topic, find_clause, is_of_topic, topic_of
from masksearch_agent.ramp.questions.from_manuals import described, purpose
from masksearch_agent.ramp.questions.from_sentences import ask
from masksearch_agent.ramp.questions.standalone import standing
from masksearch_agent.ramp.spans import IDENTIFIER, TERM, Span, trimmed_spans
from masksearch_agent.text.matching import contains_phrase
from masksearch_agent.text.words import words_of

__all__ = ("read_spans",)

_CODE = re.compile(
    r"(?<![\w./\\-])(?:--?[a-zA-Z][\w-]+|\w[\w.-]*(?:/[\w.-]+){2,}|(?:~|\.{0,2})/[\w.+-]+(?:/[\w.+-]+)*/?|\\[a-z]\w*\+?"
    r"|[a-zA-Z_][\w.-]*\(\)|[A-Za-z]\w*(?:[._:]+\w+)*_\w+(?:[._]\w+)*"
    r"|[a-z]\w*(?:\.[a-z]\w*)+|[A-Z]{3,}(?:[ -][A-Z]{2,})*"
    r"|[A-Z]?[a-z0-9]+(?:[A-Z][a-z0-9]+)+|[A-Z]+[a-z]+[A-Z]\w*)(?![\w/(-])"
)
"""`--flag`, `/etc/file`, `\\command`, `call()`, `snake_case`, `file.ext`, `VACUUM`, `CamelCase`, `PostgreSQL`."""
_QUANTITY = re.compile(
    r"(?<![\w.,-])\d[\d.,]*\s?-?(?:[kKMGT]i?B|bytes?|bits?|[kMG]?bit/s|ms|milliseconds?|seconds?|minutes?|hours?|days?|weeks?|months?"
    r"|k?m|km2|kilomet(?:re|er)s?|miles?|feet|met(?:re|er)s?|kg|°C|%|percent)(?!\w)"
)
"""A number with its unit."""
_REFERENCE = re.compile(r"(?:Section|Chapter|Table|Figure|Example|Appendix|Part|Note)\b")
_RELATIVE = frozenset(["same", "such", "other", "another", "only", "former", "latter", "else"])
_EXAMPLES = frozenset({"example", "examples", "e.g."})
_POINTING = frozenset(
    {"this", "these", "that", "those", "both", "such", "above", "below", "following", "we", "you"}
)
_NOT_OF_TERM = frozenset({"DET", "PRON", "NUM", "PUNCT", "SPACE", "SYM", "CCONJ"})
_LABELS = {
    "PLACE": "GPE",
    "NUMBER": "CARDINAL",
    "person": "PERSON",
    "place": "GPE",
    "date": "DATE",
    "number": "CARDINAL",
}
"""Of other extractors, in the words of spaCy."""
_ENTITY_LABELS = frozenset(
    {"PERSON", "GPE", "LOC", "FAC", "DATE", "CARDINAL", "QUANTITY", "MONEY", "PERCENT", "TIME", "ORG"}
)
_FULL_NAME = re.compile(r"[A-Z][\w.'’-]*(?:\s(?:[a-z]{1,3}\s)*[A-Z][\w.'’-]*)+")
_COMMENT_SIGNS = ("#", "%", "/", "-", "$", ">")
"""A line of code that talks."""
_MIN_WORDS = 4
_FUNCTION_SHARE = 0.15
_STEM = 5
"""Letters in which two forms of a word agree."""


@dataclass(frozen=True, slots=True)
class _Candidate:
    span: Span
    covered: Any
    """The spaCy span that a question takes out: `the file postgresql.conf` where `postgresql.conf` is the answer."""
    label: str
    kind: str = ""
    """What the sentence calls it."""


def read_spans(
    document: Any,
    title: str,
    has_terms: bool = False,
    has_entities: bool = False,
    asks: bool = False,
    given: Sequence[Span] | None = None,
) -> tuple[Span, ...]:
    """Return the spans of a parsed passage, in order; those of sentences that are no prose say so in their `flaw`.

    Args:
        document: spaCy's, with parse and entities.
        title: Of the passage.
        has_terms: Take noun phrases and identifiers.
        has_entities: Take named entities, dates and numbers.
        asks: Make questions where a rule does.
        given: Take these spans, of another extractor; none of them is taken out.
    """
    sentences = list(document.sents)
    topic = topic_of(title, [sentence for sentence in sentences if sentence.text.strip()])
    people = " ".join(
        entity.text for entity in document.ents if entity.label_ == "PERSON" and " " in entity.text
    )
    entries: list[Span] = []
    spans: list[Span] = []
    if asks and given is None:
        # Nobody looks the letters of a federation up on the page of a boxer.
        spans += [] if topic.is_person else expansions(document.text, title)
        entries = list(find_entries(document.text)) if has_terms else []
        told = [described(document.text, entry, title) for entry in entries]
        spans += [found for found in (*told, purpose(document.text, title)) if found and has_terms]
    is_about = True
    for sentence in sentences:
        flaw = _sentence_flaw(sentence)
        entry = entry_of(document.text, sentence.start_char) if entries else ""
        # `It` may be what the sentences before have turned to.
        name = topic.name if is_about or topic.is_person else ""
        about = dataclasses.replace(topic, entry=entry, name=name)
        is_about = is_about and is_of_topic(sentence, topic)
        clause = find_clause(sentence, about) if asks and not flaw else ""
        taken: set[int] = set()
        if given is None:
            candidates = _candidates(document, sentence, has_terms, has_entities, people)
        else:
            candidates = _given(document, sentence, given)
            flaw = ""
        mask_flaw = "" if flaw or given is not None else _mask_flaw(sentence)
        for candidate in candidates:
            if given is None and candidate.span.start in taken:
                continue
            taken.add(candidate.span.start)
            own_flaw = mask_flaw or (given is None and _is_in_compound(candidate) and "in_compound") or ""
            if not flaw and given is None and is_part(document.text, candidate.span):
                spans.append(_with(candidate.span, flaw="part_of_name"))
            elif flaw or isinstance(clause, str):
                spans.append(_with(candidate.span, flaw=flaw or own_flaw))
            else:
                spans.append(_asked(candidate, clause, about, sentence, own_flaw))
    return tuple(sorted(spans, key=lambda span: (span.start, -span.end)))


def _with(span: Span, question: str = "", kind_question: str = "", flaw: str = "") -> Span:
    if span.question:
        question, kind_question = (
            span.question,
            "",
        )  # An extractor that knows how to ask, as the closed world's.
    return dataclasses.replace(span, question=question, kind_question=kind_question, flaw=flaw)


def _asked(candidate: _Candidate, clause: Clause, topic: Topic, sentence: Any, flaw: str = "") -> Span:
    answer = candidate.span.text
    label = "" if candidate.label in (TERM, IDENTIFIER) else candidate.label
    if label == "PERSON" and NUMBERING.match(topic.title):
        label = label if _FULL_NAME.fullmatch(answer) else ""  # Many a program is taken for a person.
    is_half = any(clause.names.get(token.i, token.text) != token.text for token in candidate.covered)
    if is_half or answer.count("(") != answer.count(")") or answer.endswith(" No"):
        return _with(candidate.span, flaw=flaw)  # Half of a name, or no name at all.
    is_title = answer.lower() == topic.name.lower()
    found = []
    # Turned round, a manual's sentence about a common thing asks what nobody would: "What is complete when …?"
    is_common = candidate.label == TERM and not candidate.kind and is_manual(topic.title)
    for kind in (KIND if is_common else candidate.kind, candidate.kind or KIND):
        question = ask(clause, candidate.covered, label, kind)
        # "The earthquake caused …": the answer is not the word for what the passage is about, but which one it is.
        is_generic = answer.islower() and contains_phrase(topic.name, answer)
        is_fair = not _is_told(question, answer) and (is_title or not is_generic)
        found.append(standing(question, answer, clause, topic, sentence) if is_fair else "")
    if topic.is_person and is_title:
        found[0] = re.sub("^What ", "Who ", found[0])
    found[0] = "" if KIND in found[0] else found[0]
    return _with(candidate.span, found[0], found[1] if KIND in found[1] else "", flaw)


def _is_told(question: str, answer: str) -> bool:
    """Whether a question holds its answer, or all words of a common noun in another form."""
    if contains_phrase(question, answer):
        return True
    held = {word.lower()[:_STEM] for word in words_of(question)}
    names = [word for word in words_of(answer) if word.istitle() and len(word) >= _STEM - 1]
    if any(name.lower() not in general_words() and name.lower()[:_STEM] in held for name in names):
        return True  # "A school of which university is Harvard …?"
    if len(names) > 1 and contains_phrase(question, " ".join(names[:2])):
        return True  # "The Grand Valley State Lakers are of which university?"
    if not answer[1:].islower() or not answer.replace(" ", "").isalpha():
        return False
    return any(word.lower()[:_STEM] in held for word in words_of(answer) if len(word) >= _STEM - 1)


def _sentence_flaw(sentence: Any) -> str:
    """Return why a sentence is no prose: navigation, headings, keyword lists, code."""
    words = [token for token in sentence if token.is_alpha]
    text = sentence.text.strip()
    is_sentence = re.search(r"[.!?:;][\"”’)\]]*$", text) and not text.startswith(_COMMENT_SIGNS)
    if len(words) < _MIN_WORDS or not is_sentence:
        return "no_sentence"
    if not any(token.tag_ in ("VBZ", "VBP", "VBD", "MD") for token in words):
        return "no_finite_verb"
    if sum(token.is_stop for token in words) < _FUNCTION_SHARE * len(words):
        return "few_function_words"
    return ""


def _is_in_compound(candidate: _Candidate) -> bool:
    """Whether a term is a part of a longer one: `cluster` of "database cluster" can't be told from what else fits."""
    if candidate.label not in (TERM, IDENTIFIER):
        return False
    head = candidate.covered.root
    first = candidate.covered[0]
    is_behind = first.i > 0 and first.nbor(-1).pos_ in ("NOUN", "PROPN") and first.nbor(-1).dep_ == "compound"
    is_ahead = head.dep_ in ("compound", "nmod", "amod") and head.head.i >= candidate.covered.end
    return is_behind or (is_ahead and head.head.lower_ not in KIND_NOUNS)


def _mask_flaw(sentence: Any) -> str:
    """Return why nothing of a sentence may be masked: no other passage can be told to say the same of its subject."""
    words = {token.lower_ for token in sentence}
    if words & _EXAMPLES:
        return "example"
    subjects = [child for child in sentence.root.lefts if child.dep_ in ("nsubj", "nsubjpass")]
    pointed = {token.lower_ for subject in subjects for token in subject.subtree}
    return "points_elsewhere" if pointed & _POINTING else ""


def _candidates(
    document: Any, sentence: Any, has_terms: bool, has_entities: bool, people: str
) -> Iterator[_Candidate]:
    if has_terms:
        yield from _identifiers(document, sentence)
    if has_entities:
        for entity in sentence.ents:
            for span in trimmed_spans([(entity.start_char, entity.text, entity.label_)]):
                covered = document.char_span(
                    span.start, span.end, label=entity.label_, alignment_mode="expand"
                )
                if has_terms and _is_no_entity(document.text, span):
                    continue
                yield _Candidate(span, covered, _checked(entity.label_, span.text, people))
    if has_terms:
        for chunk in sentence.noun_chunks:
            yield from _term(document, chunk, people)


def _given(document: Any, sentence: Any, spans: Sequence[Span]) -> Iterator[_Candidate]:
    for span in spans:
        if sentence.start_char <= span.start < sentence.end_char:
            label = _LABELS.get(span.label, span.label)
            covered = document.char_span(span.start, span.end, label=label, alignment_mode="expand")
            yield _Candidate(span, covered, label if label in _ENTITY_LABELS else covered.root.ent_type_)


def _identifiers(document: Any, sentence: Any) -> Iterator[_Candidate]:
    for found in _CODE.finditer(sentence.text):
        start = sentence.start_char + found.start()
        text = found[0].rstrip(".")
        covered = document.char_span(start, start + len(text), label=IDENTIFIER, alignment_mode="expand")
        if covered is None or covered.end_char != start + len(text):
            continue
        kind = ""
        if covered.end < len(document) and document[covered.end].lower_ in KIND_NOUNS:
            kind = document[covered.end].lower_
            covered = document[covered.start : covered.end + 1]
        elif covered.start > 0 and document[covered.start - 1].lower_ in KIND_NOUNS:
            kind = document[covered.start - 1].lower_
            covered = document[covered.start - 1 : covered.end]
        yield _Candidate(Span(start, start + len(text), text, IDENTIFIER), covered, IDENTIFIER, kind)
    for found in _QUANTITY.finditer(sentence.text):
        start = sentence.start_char + found.start()
        covered = document.char_span(start, start + len(found[0]), label="QUANTITY", alignment_mode="expand")
        yield _Candidate(Span(start, start + len(found[0]), found[0], "QUANTITY"), covered, "QUANTITY")


def _term(document: Any, chunk: Any, people: str) -> Iterator[_Candidate]:
    start = chunk.start
    while start < chunk.end and (
        document[start].pos_ in _NOT_OF_TERM or document[start].lower_ in EMPTY_ADJECTIVES
    ):
        start += 1
    kept = document[start : chunk.end]
    if any(
        token.pos_ == "CCONJ"
        or token.tag_ in ("JJR", "RBR")
        or token.tag_ == "POS"
        or token.lower_ in _RELATIVE
        for token in kept
    ) or _is_cut(document.text, kept.start_char, kept.end_char):
        return
    if any(token.text.isupper() for token in kept[1:]) and kept.text[:1].islower():
        return  # Two phrases that a missing comma joins.
    is_open = kept.text.count("(") != kept.text.count(")") or any(mark in kept.text for mark in '“”"*`|')
    if is_open or _REFERENCE.match(kept.text):
        return
    if not len(kept) or kept.root.pos_ not in ("NOUN", "PROPN") or "\n" in kept.text:
        return
    if not kept.text[:1].isalnum():
        return  # `-length`
    if named := _named_kind(kept):
        yield named
        return
    entity = kept.root.ent_type_
    label = _checked(entity, kept.text, people) if entity in ("PERSON", "GPE", "LOC", "FAC") else TERM
    yield _Candidate(Span(kept.start_char, kept.end_char, kept.text, label or TERM), kept, label)


def _named_kind(chunk: Any) -> _Candidate | None:
    """Return `lxc` of "the lxc package", or `frr` of "the package frr"."""
    if len(chunk) < 2 or (chunk.start and chunk[0].nbor(-1).lower_ in ("a", "an")):
        return None
    for name, noun in ((chunk[:-1], chunk[-1]), (chunk[1:], chunk[0])):
        text = name.text
        is_name = text.islower() and text.isascii() and " " not in text and text not in general_words()
        if is_name and noun.lower_ in NAMED_KINDS:
            span = Span(name.start_char, name.end_char, text, IDENTIFIER)
            return _Candidate(span, chunk, IDENTIFIER, noun.lower_)
    return None


def _is_no_entity(text: str, span: Span) -> bool:
    """Whether an entity is a part of a word, a reference to another place of the text, or a number of nothing."""
    return _is_cut(text, span.start, span.end) or _REFERENCE.match(span.text) is not None


def _is_cut(text: str, start: int, end: int) -> bool:
    return text[start - 1 : start] in ("/", "\\", "-", "_", "–") or text[end : end + 1] in (
        "/",
        "\\",
        "_",
        "-",
    )


def _checked(label: str, text: str, people: str) -> str:
    """A person has a full name somewhere in the passage; in manuals much else is taken for a person."""
    if label != "PERSON":
        return label
    return label if _FULL_NAME.fullmatch(text) or text in people else ""
