"""The frozen records that cross rooms.

Every room speaks in these types and in nothing else. They hold plain data (strings, numbers, tuples), so
they can be hashed, compared, pickled by a worker pool and stored as JSON lines without a schema of their own.
Identifiers are content hashes (`content_id`): the same input always gets the same id, so a repeated run
adds nothing twice.
"""

from __future__ import annotations

import operator
from collections.abc import Mapping
from dataclasses import astuple, dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from masksearch_agent.cited_text import cited_text
from masksearch_agent.errors import MaskSearchError
from masksearch_agent.record_base import FrozenDict, Record, content_id, keeps_its_type
from masksearch_agent.turns import Message, Sampling, TrainingRow, Turn

if TYPE_CHECKING:
    from langchain_core.messages import AIMessage

__all__ = (
    "CHECKPOINTED",
    "FALSE_PREMISE",
    "MASK",
    "Citation",
    "Evidence",
    "Hop",
    "Message",
    "Passage",
    "Sampling",
    "ScoredPassage",
    "SearchAnswer",
    "SearchTask",
    "StopReason",
    "TrainingRow",
    "Trajectory",
    "Turn",
    "Usage",
    "content_id",
)

MASK = "[mask]"
"""What stands in a passage where a span was taken out (MaskSearch, arXiv 2505.20285, section 3.1)."""

FALSE_PREMISE = "false-premise"
"""Category of questions that suppose what is not so; a right answer has to say it."""

StopReason = Literal[
    "answered", "forced", "repairs_exhausted", "token_limit", "time_limit", "refused", "gave_up"
]
"""Why a search run ended: it answered, it answered when told to (search budget spent), its steps stayed malformed, a
limit on tokens or wall time was reached, the model refused, or the generator's teacher gave the task up."""


@dataclass(frozen=True, slots=True)
class Passage(Record):
    """A piece of a document that can be retrieved and read in one go."""

    id: str
    title: str
    text: str
    document_id: str = ""
    position: int = 0
    """Index of the passage in its document, from 0."""
    source: str = ""
    """Where the document came from: a file name, a URL or a dataset id."""
    # Left out of JSON where there is none: files and hashes of passages without it stay what they are.
    metadata: Annotated[Mapping[str, Any], Field(exclude_if=operator.not_)] = field(
        default_factory=FrozenDict
    )
    """What else is known of the document, as its retriever or parser gave it (`page`, `url`, …), in JSON values."""

    def __post_init__(self) -> None:
        Record.__post_init__(self)
        if not isinstance(self.metadata, FrozenDict):
            object.__setattr__(self, "metadata", FrozenDict(self.metadata))


@dataclass(frozen=True, slots=True)
class ScoredPassage(Record):
    """A passage as a search returned it."""

    passage: Passage
    score: float
    """Higher is better; comparable only within one result list."""


@dataclass(frozen=True, slots=True)
class Citation(Record):
    """A sentence of a passage that an answer, or a claim in it, rests on."""

    number: int
    """Of the passage in its run, from 1: the `n` of the `[n]` by which models cite it."""
    passage: Passage
    """As it was read, with what is known of its document."""
    quote: str
    """The sentence; empty where none stands out, and the passage as a whole is meant."""
    start: int
    """Where the quote stands: `passage.text[start:end]`."""
    end: int
    claim: str
    """What rests on it: the answer, or a sentence or line of it."""
    claim_start: int
    """Where the claim stands: `answer[claim_start:claim_end]`."""
    claim_end: int
    is_claimed: bool = True
    """Whether the agent cited or quoted it; else it was found by the rule of `agent.citing`."""


@dataclass(frozen=True, slots=True)
class Hop(Record):
    """One fact that a task asks for, in the order in which it can be found out.

    The hindsight teacher walks the hops; an evaluation can check which of them a trajectory reached.
    """

    need: str
    """What is sought, in words: `the founder of Velling Works`."""
    query: str
    """A search query for it that does not contain the answer."""
    answer: str
    kind: str = ""
    """What kind of thing the answer is, as `year`, where a thought is to name it."""


@dataclass(frozen=True, slots=True)
class Evidence(Record):
    """What a passage says that an answer rests on."""

    title: str
    """Of the passage."""
    text: str = ""
    """Sentences of the passage, or the whole of it where nobody says which; empty for whatever it says."""


@dataclass(frozen=True, slots=True)
class SearchTask(Record):
    """A question to be answered by searching: a RAMP task or a question of a benchmark."""

    id: str
    kind: Literal["ramp", "qa"]
    question: str
    """For RAMP the masked passage as `title: text with [mask]`, else the question."""
    answers: tuple[tuple[str, ...], ...]
    """One entry per expected answer (RAMP: one per mask, in order; QA: one), each with its accepted aliases."""
    category: str = ""
    """What the task is drawn from: `ramp`, `bridge`, `comparison`, `intersection`, `counting`, `FALSE_PREMISE`, …"""
    hops: tuple[Hop, ...] = ()
    gold_passage_ids: tuple[str, ...] = ()
    """Passages known to support the answer; empty where unknown."""
    source_passage_id: str = ""
    """The passage a RAMP task was made from. The leak guard withholds it and its near copies."""
    split: Literal["train", "test"] = "train"
    gold_titles: tuple[str, ...] = ()
    """Titles of the pages known to support the answer, where the benchmark does not ship their passages."""
    answer_items: tuple[str, ...] = ()
    """The items of a list answer, each of which is to be named (FanoutQA); empty for an answer in one piece."""
    evidence: tuple[Evidence, ...] = ()
    """What the answer rests on, in the order in which it is read, where that is known: one entry a passage."""
    source_text: str = ""
    """The text of the source passage, where the question does not show it (`ramp.cloze`)."""
    conclusion: str = ""
    """What follows from the answers of the hops, in a sentence, where the last of them is not the answer."""
    is_open: bool = False
    """Whether the source passage may be found: a question of what the documents themselves tell."""

    def __post_init__(self) -> None:
        Record.__post_init__(self)
        if not self.answers or not all(self.answers):
            raise MaskSearchError(f"task {self.id!r} has an answer slot without an accepted answer")
        if self.kind == "ramp" and self.question.count(MASK) != len(self.answers):
            raise MaskSearchError(
                f"RAMP task {self.id!r} has {self.question.count(MASK)} masks but {len(self.answers)} answers"
            )

    @property
    def mask_count(self) -> int:
        """Number of masks (the curriculum's axis); 0 for a question."""
        return len(self.answers) if self.kind == "ramp" else 0

    @property
    def is_made_from_passage(self) -> bool:
        """Whether its answers are facts of a passage: masks, or one that a question asks for (`ramp.cloze`)."""
        return self.kind == "ramp" or bool(self.source_text)

    @property
    def hop_count(self) -> int:
        """Number of facts on the reasoning path; 0 where unknown."""
        return len(self.hops)


@dataclass(frozen=True, slots=True)
class Usage(Record):
    """What a run cost."""

    model_calls: int = 0
    prompt_tokens: int = 0
    """Tokens the model read, counted once per call."""
    sampled_tokens: int = 0
    searches: int = 0
    seconds: float = 0.0
    cost_usd: float = 0.0
    """What the calls cost, where the prices of the model are set."""

    def __add__(self, other: Usage) -> Usage:
        return Usage(*map(operator.add, astuple(self), astuple(other)))


@dataclass(frozen=True, slots=True)
class Trajectory(Record):
    """A finished run over one task: its trace tree and its outcome."""

    id: str
    task_id: str
    turns: tuple[Turn, ...]
    """In the order in which they finished; parents always before children."""
    answer: str
    stop_reason: StopReason
    retrieved: tuple[tuple[Passage, ...], ...] = ()
    """The passages shown to the policy, one tuple per search."""
    queries: tuple[tuple[str, ...], ...] = ()
    """The queries of each search."""
    format_errors: int = 0
    """Malformed policy steps, repaired or not."""
    producer: str = ""
    """Model version, or `hindsight` for the teacher that needs no model."""
    seed: int = 0
    protocol_version: int = 0
    accepted: bool | None = None
    """The judge's verdict; None where nobody judged."""
    verdict: str = ""
    """Why the judge accepted or rejected it."""
    usage: Usage | None = None
    """What the chat models that played the roles cost; None where none did."""
    citations: Annotated[tuple[Citation, ...], Field(exclude_if=operator.not_)] = ()
    """What the answer rests on, as far as that is known."""

    @property
    def fork_count(self) -> int:
        """Number of turns that could not continue the sequence they were to continue."""
        return sum(turn.forked_from is not None for turn in self.turns)


@keeps_its_type
@dataclass(frozen=True, slots=True)
class SearchAnswer(Record):
    """What `MaskSearchAgent` returns."""

    answer: str
    reasoning: str
    """The last `<think>` text."""
    sources: tuple[Passage, ...]
    """Distinct passages that are cited, in the order of `citations`."""
    searches: tuple[tuple[str, ...], ...]
    """The queries of each search."""
    stop_reason: StopReason
    usage: Usage = field(default_factory=Usage)
    trajectory: Trajectory | None = None
    citations: tuple[Citation, ...] = ()
    """What the answer rests on, in the order of what is claimed."""
    retrieved: tuple[Passage, ...] = ()
    """Distinct passages that the agent read, in the order of first appearance."""
    unknown_citations: int = 0
    """Numbers that the agent cited and that no passage has; the answer does not show them."""
    structured: Any = field(default=None, hash=False)
    """The answer in the form that `MaskSearchAgent(response_format=…)` asks for; None where there is none, as without
    an answer or where the time was over."""

    def __str__(self) -> str:
        return self.answer or f"No answer was found ({self.stop_reason})."

    @property
    def text(self) -> str:
        """The answer with its citations, as Markdown, or that there is none and why."""
        return cited_text(self.answer, self.citations) if self.answer else str(self)

    @property
    def messages(self) -> list[AIMessage]:
        """What a graph of messages is told of which the agent is a node: LangGraph reads a node's update off here."""
        from langchain_core.messages import AIMessage

        return [AIMessage(self.text)]


CHECKPOINTED = tuple(
    (record.__module__, record.__name__)
    for record in (SearchAnswer, Passage, Citation, Usage, Trajectory, Turn, Message, Sampling)
)
"""What a `SearchAnswer` is made of, as LangGraph's `JsonPlusSerializer(allowed_msgpack_modules=…)` takes it: a
checkpointer with that serializer gives an answer back as what it was, also with `LANGGRAPH_STRICT_MSGPACK`."""
