"""What an answer rests on: the sentences of the passages that were read, each with its place in its passage.

Three rules, of which the first that finds something for a claim holds:

1. The agent cites. `[n]` behind a sentence of the answer names the passage with that number in the run; quoted is the
   sentence of it that shares most words with the claim. A number that no passage has is counted and not shown.
2. The agent quotes. A sentence of a passage that its thoughts repeat, whole or eight words of it in a row, is what the
   answer rests on.
3. Neither. Of the sentences that hold the answer (those under a title that holds it, where no sentence does), the one
   that shares most words with the question, title included; the first of equal ones. It was found, not claimed. Where
   it shares none, or the answer is yes or no, nothing is.

Rule 1 needs numbers that mean one thing in a run (`AgentSettings.passage_numbers`).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain
from typing import Any

from masksearch_agent.agent.escaping import neutralise, restore
from masksearch_agent.agent.marks import read_marks
from masksearch_agent.agent.parts import Parts
from masksearch_agent.errors import AgentError
from masksearch_agent.jsonl import dump_record, load_record
from masksearch_agent.records import MASK, Citation, Passage
from masksearch_agent.text.matching import contains_phrase, normalize_answer, tokenize_answer
from masksearch_agent.text.sentences import sentence_spans
from masksearch_agent.text.words import words_of

__all__ = ("NOTHING_CITED", "Cited", "cite", "numbers_of", "with_citations")

_QUOTED_WORDS = 8
_MIN_QUOTED_WORDS = 3
_VERDICTS = ("yes", "no")


NOTHING_CITED: dict[str, Any] = {"citations": [], "unknown_citations": 0}
"""What the state of a run says of its citations before it ended."""


@dataclass(frozen=True, slots=True)
class Cited:
    """An answer as it is shown, and what it rests on."""

    answer: str
    """Without the numbers that it cited."""
    citations: tuple[Citation, ...] = ()
    unknown: int = 0
    """Cited numbers that no passage has."""


def cite(
    answer: str, question: str, thoughts: Iterable[str], read: Sequence[Passage], reads_marks: bool
) -> Cited:
    """Return what an answer rests on.

    Args:
        answer: As the agent gave it, as its author wrote it (`escaping.restore`), like the question and the thoughts.
        question: With what was searched for, where that says more.
        thoughts: Of the run.
        read: The passages of the run; the first one's number is 1.
        reads_marks: Whether `[n]` in the answer cites. Never where masks are filled in: `[3]` may be of the passage.
    """
    plain, marked, unknown = read_marks(answer, len(read)) if reads_marks else (answer, [], 0)
    found = [_cited(read, number, plain, claim) for number, claim in marked]
    if not found and plain:
        found = [*_quoted(read, plain, " ".join(thoughts))]
        if not any(contains_phrase(each.quote, plain) for each in found):
            for claim in _claims(plain, question):
                found += _found(read, plain, claim, question)
    return Cited(plain, tuple(dict.fromkeys(found)), unknown)


def with_citations(end: dict[str, Any], state: Mapping[str, Any], parts: Parts) -> dict[str, Any]:
    """Return what a run ended with, and what its answer rests on."""
    asked, answer = state["asked"], end["answer"]
    queries = [query for found in state["searches"] for query in found["queries"]]
    cited = cite(
        restore(answer),
        restore("\n".join([asked, *queries])),
        _thoughts(state, parts),
        _passages_read(state),
        reads_marks=parts.numbers_go_on and MASK not in asked,
    )
    return {
        **end,
        "answer": answer if cited.answer == restore(answer) else neutralise(cited.answer),
        "citations": [dump_record(each) for each in cited.citations],
        "unknown_citations": cited.unknown,
    }


def numbers_of(shown: Sequence[Passage], state: Mapping[str, Any], parts: Parts) -> list[int] | None:
    """Return the numbers of passages that are shown next, a known one's own; None where each search counts afresh."""
    numbers: dict[str, int] = {}
    for passage_id in chain(_shown(state), (passage.id for passage in shown)):
        numbers.setdefault(passage_id, len(numbers) + 1)
    return [numbers[passage.id] for passage in shown] if parts.numbers_go_on else None


def _shown(state: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """Return the distinct passages that the transcript shows, by their ids and in the order of their numbers."""
    distinct: dict[str, Mapping[str, Any]] = {}
    for found in chain(state.get("earlier", ()), state["searches"]):
        for passage in found["passages"]:
            distinct.setdefault(passage["id"], passage)
    return distinct


def _passages_read(state: Mapping[str, Any]) -> list[Passage]:
    return [load_record(Passage, dict(passage), AgentError) for passage in _shown(state).values()]


def _thoughts(state: Mapping[str, Any], parts: Parts) -> list[str]:
    """Return what the agent thought since it was asked."""
    thoughts: list[str] = []
    for message in reversed(state["transcript"]):
        if message.type == "human" and str(message.text).startswith(state["asked"]):
            break
        if message.type == "ai":
            thoughts.append(restore(getattr(parts.dialect.read(message), "think", "")))
    return thoughts[::-1]


def _cited(read: Sequence[Passage], number: int, answer: str, claim: tuple[int, int]) -> Citation:
    words = set(tokenize_answer(answer[slice(*claim)]))
    text = read[number - 1].text

    def shared(span: tuple[int, int]) -> int:
        return len(words & set(tokenize_answer(text[slice(*span)])))

    best = max(sentence_spans(text), key=shared, default=(0, 0))
    return _citation(read, number, best if shared(best) else (0, 0), answer, claim)


def _quoted(read: Sequence[Passage], answer: str, thoughts: str) -> Iterator[Citation]:
    said = [word.lower() for word in words_of(thoughts)]
    said_stretches = {
        length: _stretches(said, length) for length in range(_MIN_QUOTED_WORDS, _QUOTED_WORDS + 1)
    }
    for number, passage in enumerate(read if said else (), start=1):
        for span, length, stretches in _sentences(passage.text):
            if length >= _MIN_QUOTED_WORDS and not said_stretches[length].isdisjoint(stretches):
                yield _citation(read, number, span, answer, (0, len(answer)))


@lru_cache(maxsize=1024)
def _sentences(text: str) -> list[tuple[tuple[int, int], int, frozenset[int]]]:
    """Return where each sentence stands, and of which stretches of words, of what length, one quotes it.

    Remembered, because the rollouts of one question read the same passages.
    """
    found = []
    for span in sentence_spans(text):
        words = [word.lower() for word in words_of(text[slice(*span)])]
        length = min(len(words), _QUOTED_WORDS)
        found.append((span, length, _stretches(words, length)))
    return found


def _stretches(words: Sequence[str], length: int) -> frozenset[int]:
    """Return the hashes of all stretches of so many words."""
    return frozenset(hash(tuple(words[start : start + length])) for start in range(len(words) - length + 1))


def _claims(answer: str, question: str) -> list[tuple[int, int]]:
    """Return the parts of an answer that stand on their own: the lines of filled masks, else the whole."""
    if MASK not in question:
        return [(0, len(answer))]
    lines = re.finditer(r"^(?:\d+\.\s)?[^\S\n]*(.*\S)", answer, re.MULTILINE)
    return [line.span(1) for line in lines]


def _found(read: Sequence[Passage], answer: str, claim: tuple[int, int], question: str) -> Iterator[Citation]:
    sought = answer[slice(*claim)]
    if normalize_answer(sought) in _VERDICTS:
        return
    asked = set(tokenize_answer(question)) - set(tokenize_answer(sought))
    best: tuple[tuple[bool, int], int, tuple[int, int]] | None = None
    for number, passage in enumerate(read, start=1):
        is_title = contains_phrase(passage.title, sought)
        if not is_title and not contains_phrase(passage.text, sought):
            continue
        for span in sentence_spans(passage.text):
            sentence = passage.text[slice(*span)]
            holds = contains_phrase(sentence, sought)
            worth = (holds, len(asked & set(tokenize_answer(f"{passage.title} {sentence}"))))
            if (holds or is_title) and worth[1] and (best is None or worth > best[0]):
                best = (worth, number, span)
    if best is not None:
        yield _citation(read, best[1], best[2], answer, claim, is_claimed=False)


def _citation(
    read: Sequence[Passage],
    number: int,
    span: tuple[int, int],
    answer: str,
    claim: tuple[int, int],
    is_claimed: bool = True,
) -> Citation:
    passage = read[number - 1]
    return Citation(
        number,
        passage,
        passage.text[slice(*span)],
        *span,
        answer[slice(*claim)],
        *claim,
        is_claimed=is_claimed,
    )
