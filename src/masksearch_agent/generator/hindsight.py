"""The hindsight teacher: trajectories without a language model.

It knows the task's hops (what to look for, in which order, and what the answer is), searches for them with
queries that do not contain the answer, and writes down only what a retrieved passage says. A hop that no
passage supports is searched for in other words and then given up, so every accepted trajectory is grounded and
some of them show how to go on after a search that found nothing.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from masksearch_agent.agent.protocol import clean_text
from masksearch_agent.config.agent import AnswerForm
from masksearch_agent.config.generator import GeneratorSettings
from masksearch_agent.generator.evidence import EvidenceTeacher, clip_quote, split_sentences
from masksearch_agent.generator.roles import Findings, Observation, Plan, render_answer
from masksearch_agent.records import Hop, Passage, SearchTask
from masksearch_agent.text.matching import contains_phrase, tokenize_answer

__all__ = ("HindsightTeacher", "find_support", "quote_support")

_MIN_QUERY_OVERLAP = 0.5


@dataclass
class HindsightTeacher:
    """Plays planner, rewriter and observer for tasks whose hops are known."""

    settings: GeneratorSettings = field(default_factory=GeneratorSettings)
    answer_form: AnswerForm = "fills"
    name = "hindsight"

    def __post_init__(self) -> None:
        """Say who teaches the tasks whose evidence is known."""
        self.evidence = EvidenceTeacher(quotes=self.settings.quote_support)

    async def plan(self, findings: Findings) -> Plan:
        """Take the next hops that are not supported yet; give up after too many attempts at one.

        The first thought lists all hops, so that a student reads the task once and then follows its own list.
        """
        if findings.task.evidence:
            return await self.evidence.plan(findings)
        pending = self._pending(findings)
        if any(self._attempts(findings, hop) >= self.settings.attempts_per_need for hop in pending):
            return Plan("", ())
        needs = tuple(hop.need for hop in pending)
        if not findings.queries:
            return Plan(f"I need {', then '.join(_whole_plan(findings.task))}.", needs)
        return Plan(f"I need {' and '.join(needs)}." if needs else "", needs)

    async def rewrite(self, findings: Findings, plan: Plan) -> tuple[str, ...]:
        """Use the hop's own query first, and its need in words after that."""
        if findings.task.evidence:
            return await self.evidence.rewrite(findings, plan)
        pending = [hop for hop in findings.task.hops if hop.need in plan.needs]
        queries = [hop.need if self._attempts(findings, hop) else hop.query for hop in pending]
        return tuple(dict.fromkeys(queries))

    async def observe(self, findings: Findings) -> Observation:
        """State what the last round's passages support, with the number of the passage."""
        if findings.task.evidence:
            return await self.evidence.observe(findings)
        sentences = []
        for hop in self._sought_in_last_round(findings):
            support = self._support(hop, findings.passages[-1])
            if support is None:
                sentences.append(f"No passage says {hop.need}.")
            elif self.settings.quote_support:
                passage = findings.passages[-1][support - 1]
                # By its title, which looks like what was asked; a number would have to be guessed before reading.
                source = f'"{passage.title}"' if passage.title else f"Passage {support}"
                sentences.append(f"{source} says: {quote_support(hop, passage)}")
                if hop.kind:
                    sentences.append(f"So the {hop.kind} is {hop.answer}.")
            else:
                sentences.append(f"{hop.need[:1].upper()}{hop.need[1:]} is {hop.answer} [{support}].")
        task, answer = findings.task, None
        if task.hops and all(self._is_known(hop, findings) for hop in task.hops):
            answer = render_answer(task, [slot[0] for slot in task.answers], self.answer_form)
            sentences.append(task.conclusion)
        return Observation(" ".join(filter(None, sentences)), answer)

    def _pending(self, findings: Findings) -> list[Hop]:
        """Return the hops to look for now: one of a chain, several of a passage's independent masks."""
        limit = self.settings.needs_per_round if findings.task.kind == "ramp" else 1
        return [hop for hop in findings.task.hops if not self._is_known(hop, findings)][:limit]

    def _attempts(self, findings: Findings, hop: Hop) -> int:
        return sum(_is_asked(hop, asked) for asked in findings.queries)

    def _sought_in_last_round(self, findings: Findings) -> list[Hop]:
        """Return the hops whose query was asked last, and those found by the way."""
        asked, is_ramp = findings.queries[-1], findings.task.kind == "ramp"
        earlier = Findings(findings.task, findings.queries[:-1], findings.passages[:-1])
        return [
            hop
            for hop in findings.task.hops
            if not self._is_known(hop, earlier)
            # A chain's later hop must not be known before its subject is.
            and (
                self._is_sought(hop, findings, asked)
                or (is_ramp and self._support(hop, findings.passages[-1]))
            )
        ]

    def _is_known(self, hop: Hop, findings: Findings) -> bool:
        """Whether a round that asked for the hop, or for another mask of the same passage, showed its answer."""
        return any(
            (findings.task.kind == "ramp" or self._is_sought(hop, findings, asked))
            and self._support(hop, passages)
            for asked, passages in zip(findings.queries, findings.passages, strict=True)
        )

    def _is_sought(self, hop: Hop, findings: Findings, asked: tuple[str, ...]) -> bool:
        """Whether a round asked for a hop, or asked a question that seeks nothing else."""
        is_all = len(findings.task.hops) == 1 and clean_text(findings.task.question) in asked
        return is_all or _is_asked(hop, asked)

    def _support(self, hop: Hop, passages: tuple[Passage, ...]) -> int | None:
        return find_support(hop, passages, in_quote=self.settings.quote_support)


def _whole_plan(task: SearchTask) -> list[str]:
    """Return what all hops of a task need; what an earlier hop will find out is written `#1`, as MuSiQue does."""
    needs = []
    for position, hop in enumerate(task.hops):
        need = hop.need
        for number, earlier in enumerate(task.hops[:position], start=1):
            need = re.sub(rf"(?<!\w){re.escape(earlier.answer)}(?!\w)", f"#{number}", need)
        needs.append(need)
    return needs


def find_support(hop: Hop, passages: tuple[Passage, ...], in_quote: bool = False) -> int | None:
    """Return the number (from 1) of the passage that best gives a hop's answer in the context of its query.

    Args:
        in_quote: Whether the sentence that would be quoted, under its title, has to hold the context; otherwise the
            passage has to.
    """
    words = set(tokenize_answer(hop.query))
    best, best_overlap = None, 0.0
    for number, passage in enumerate(passages, start=1):
        text = f"{passage.title}: {passage.text}"
        if not words or not contains_phrase(text, hop.answer):
            continue
        context = f"{passage.title}: {quote_support(hop, passage)}" if in_quote else text
        overlap = len(words & set(tokenize_answer(context))) / len(words)
        if overlap >= _MIN_QUERY_OVERLAP and overlap > best_overlap:
            best, best_overlap = number, overlap
    return best


def quote_support(hop: Hop, passage: Passage) -> str:
    """Return the sentence of a passage that gives a hop's answer; of a long one, as many words as are read at once."""
    words = set(tokenize_answer(hop.query))
    whole = f"{passage.title}: {passage.text}"
    holding = [text for text in split_sentences(passage.text) if contains_phrase(text, hop.answer)]
    sentence = max(holding, key=lambda text: len(words & set(tokenize_answer(text))), default=whole)
    return clip_quote(sentence, [hop.answer])


def _is_asked(hop: Hop, asked: tuple[str, ...]) -> bool:
    """Whether a round asked for a hop; the graph cleans a query before it asks it."""
    return clean_text(hop.query) in asked or clean_text(hop.need) in asked
