"""Hindsight where the evidence is known: trajectories for questions whose supporting passages are given.

Benchmarks name the passages, often the sentences, that an answer rests on, and a question made from a passage by rule
knows its own. The teacher reads what a search returned, quotes what of the evidence is there, searches for the title of
what is missing, and answers when it has read the answer. Nothing is written that the student could not have read: a
title that neither the question nor a passage names is not searched for, and the task is given up.

A question over several passages takes two searches at least, also where the first found everything: a student cannot
tell, and searching always beats deciding whether to (arXiv 2604.04651). Quoting before answering helps large models
(arXiv 2504.18225); a model of 135M parameters that learned it from few examples lost by it (`docs/LOG.md`).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain

from masksearch_agent.agent.protocol import clean_text
from masksearch_agent.generator.roles import Findings, Observation, Plan
from masksearch_agent.ramp.lexicon.titles import plain_name
from masksearch_agent.records import Evidence, Passage, SearchTask
from masksearch_agent.text.matching import contains_phrase, tokenize_answer

__all__ = (
    *("MAX_QUOTE_WORDS", "EvidenceTeacher", "as_query", "clip_quote", "holds_evidence"),
    "split_sentences",
)

MAX_QUOTE_WORDS = 30
_MAX_QUOTES = 2
"""Passages quoted in one thought."""
_YES_NO = frozenset({"yes", "no"})
_SENTENCE_END = re.compile(r"(?<=[.!?])\s+|(?<=[。！？])\s*")


@dataclass(frozen=True)
class EvidenceTeacher:
    """Plays planner, rewriter and observer for tasks with evidence."""

    quotes: bool = True
    """Whether thoughts quote the evidence; otherwise they are empty."""

    async def plan(self, findings: Findings) -> Plan:
        """Ask the question itself first, then for the evidence to be read next; give up where nothing names it."""
        if not findings.queries:
            return Plan("", (findings.task.question,))
        target = _next_target(findings)
        return Plan("", (target,) if target is not None and _is_named(target, findings) else ())

    async def rewrite(self, findings: Findings, plan: Plan) -> tuple[str, ...]:
        """Search for a title, without what sets it apart in parentheses."""
        return tuple(map(as_query, plan.needs))

    async def observe(self, findings: Findings) -> Observation:
        """Quote what was sought; answer once the passages hold the answer."""
        task, shown = findings.task, list(chain.from_iterable(findings.passages))
        read = [each for each in task.evidence if _sentences_in(each, shown)]
        if not _is_enough(read, task, len(findings.passages), shown):
            target = _next_target(findings)
            new = [each for each in read if not _sentences_in(each, _earlier(findings))]
            quoted = [each for each in new if each.title != target] or new
            sought = [as_query(target)] if target else []
            return Observation(self._quote(quoted[-_MAX_QUOTES:], shown, sought, task), None)
        asked = set(chain.from_iterable(findings.queries))
        # What gives the answer, best of all where it was searched for; of a comparison, what was read last.
        told = max(read, key=lambda each: (_holds_answer(each, task), as_query(each.title) in asked))
        text = f"{self._quote([told], shown, task.answers[0], task)} {task.conclusion if self.quotes else ''}"
        return Observation(text.strip(), task.answers[0][0])

    def _quote(
        self, evidence: Sequence[Evidence], shown: Sequence[Passage], sought: Sequence[str], task: SearchTask
    ) -> str:
        if not self.quotes:
            return ""
        asked = set(tokenize_answer(task.question))

        def worth(sentence: str) -> tuple[bool, int]:
            is_sought = any(contains_phrase(sentence, phrase) for phrase in sought)
            return is_sought, len(asked & set(tokenize_answer(sentence)))

        chosen = ((each.title, max(_sentences_in(each, shown), key=worth)) for each in evidence)
        return " ".join(f'"{title}" says: {clip_quote(sentence, sought)}' for title, sentence in chosen)


def holds_evidence(task: SearchTask, passages: Sequence[Passage]) -> bool:
    """Return whether passages hold something of all the evidence of a task, and the facts that it tells.

    A passage may be shown without its end, and another one may have the title: then the fact is missing.
    """
    return all(_sentences_in(each, passages) for each in task.evidence) and _tell_facts(task, passages)


def as_query(title: str) -> str:
    """Return what a title is searched by."""
    return clean_text(plain_name(title)) or clean_text(title)


def clip_quote(sentence: str, phrases: Iterable[str] = ()) -> str:
    """Return as many words of a sentence as are quoted at once: its first ones, or the first with a phrase in them."""
    words = sentence.split()
    stretches = (words[end - MAX_QUOTE_WORDS : end] for end in range(MAX_QUOTE_WORDS, len(words)))
    quotes = (" ".join(stretch) for stretch in stretches)
    sought = [phrase for phrase in phrases if contains_phrase(sentence, phrase)]
    if not sought:
        return " ".join(words[:MAX_QUOTE_WORDS])
    return next(
        (quote for quote in quotes if contains_phrase(quote, sought[0])), " ".join(words[-MAX_QUOTE_WORDS:])
    )


def split_sentences(text: str) -> list[str]:
    """Return the sentences of a text."""
    return [sentence for sentence in _SENTENCE_END.split(text) if sentence.strip()]


def _tell_facts(task: SearchTask, passages: Sequence[Passage]) -> bool:
    """Return whether the passages of the evidence say what the answer rests on, as far as the evidence says it itself.

    That is the answers of the hops, where they are known, else the answer. What the evidence puts in other words, or
    what only follows from it, cannot be looked for.
    """
    titles = {each.title for each in task.evidence}
    shown = [f"{each.title}: {each.text}" for each in passages if each.title in titles]
    told = [f"{each.title}: {each.text}" for each in task.evidence]
    facts: list[tuple[str, ...]] = [(hop.answer,) for hop in task.hops] or list(task.answers)
    # Of a chain by rule the evidence is a title alone, and a hop asks for what the passage says.
    are_all_told = bool(task.hops) and not all(each.text for each in task.evidence)
    return all(
        _hold(shown, fact)
        for fact in facts
        if _YES_NO.isdisjoint(map(str.casefold, fact)) and (are_all_told or _hold(told, fact))
    )


def _hold(texts: Iterable[str], aliases: Sequence[str]) -> bool:
    return any(contains_phrase(text, alias) for text in texts for alias in aliases)


def _next_target(findings: Findings) -> str | None:
    """Return the title to search for next: of what was not read yet, else of what holds the answer, else the last.

    Titles that the question names are not chosen by the answer. A student can only guess which of two things that it
    compares will be the answer, and would learn to search for its guess and to answer with what it searched for.
    """
    asked = set(chain.from_iterable(findings.queries))
    unasked = [each for each in findings.task.evidence if as_query(each.title) not in asked]
    shown = list(chain.from_iterable(findings.passages))
    missing = [each.title for each in unasked if not _sentences_in(each, shown)]
    found = [each for each in unasked if not contains_phrase(findings.task.question, as_query(each.title))]
    holding = [each.title for each in found if _holds_answer(each, findings.task)]
    return next(iter([*missing, *holding[-1:], *(each.title for each in unasked[-1:])]), None)


def _is_enough(read: Sequence[Evidence], task: SearchTask, searches: int, shown: Sequence[Passage]) -> bool:
    """Whether all evidence was read after as many searches as the question takes; of a long chain, what answers it.

    Of two passages the first often holds the answer by chance (`American`), and does not say that it is one; what a
    comparison names as its answer, the first passage always holds.
    """
    is_chain = len(task.evidence) > 2 and not _is_compared(task)
    titles = {each.title for each in read if _holds_answer(each, task)}
    answering = [f"{each.title}: {each.text}" for each in shown if each.title in titles]
    is_answered = is_chain and _hold(answering, task.answers[0])
    return searches >= min(2, len(task.evidence)) and (is_answered or holds_evidence(task, shown))


def _is_compared(task: SearchTask) -> bool:
    """Whether the answer follows from the facts of the hops without being one of them."""
    return bool(task.hops) and not any(hop.answer in task.answers[0] for hop in task.hops)


def _is_named(title: str, findings: Findings) -> bool:
    query = as_query(title)
    texts = (f"{passage.title}: {passage.text}" for passage in chain.from_iterable(findings.passages))
    return any(contains_phrase(text, query) for text in chain([findings.task.question], texts))


def _sentences_in(evidence: Evidence, shown: Iterable[Passage]) -> list[str]:
    """Return what of the evidence stands in the passages; nothing where its passage is not among them."""
    texts = [" ".join(passage.text.split()) for passage in shown if passage.title == evidence.title]
    if not evidence.text:
        return [sentence for text in texts for sentence in split_sentences(text)]
    sentences = (" ".join(sentence.split()) for sentence in split_sentences(evidence.text))
    return [sentence for sentence in sentences if any(sentence in text for text in texts)]


def _holds_answer(evidence: Evidence, task: SearchTask) -> bool:
    return _hold([f"{evidence.title}: {evidence.text}"], task.answers[0])


def _earlier(findings: Findings) -> list[Passage]:
    return list(chain.from_iterable(findings.passages[:-1]))
