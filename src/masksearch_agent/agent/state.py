"""State and run context of the search graph.

State holds plain data only (messages, strings, numbers, dictionaries), so any checkpointer can store it;
token ids stay with the recorder.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal, TypedDict

from langchain_core.messages import AnyMessage
from langgraph.graph.message import add_messages

from masksearch_agent.errors import AgentError
from masksearch_agent.records import Passage, Sampling, StopReason, load_record
from masksearch_agent.retrieval.leak_guard import LeakGuard
from masksearch_agent.traces.recorder import Recorder

__all__ = ("RunContext", "SearchInput", "SearchOutput", "SearchRound", "SearchState", "passages_of")


class SearchRound(TypedDict):
    """One search step: its queries and the passages that were shown, as `Passage` dictionaries."""

    queries: list[str]
    passages: list[dict[str, Any]]


class SearchInput(TypedDict, total=False):
    """What a run starts from: a question, or messages whose last one asks it."""

    question: str
    kind: Literal["qa", "ramp"]
    """`ramp` for a passage with masks to fill; default `qa`."""
    messages: list[AnyMessage]


class SearchOutput(TypedDict):
    """What the compiled graph returns."""

    answer: str
    reasoning: str
    stop_reason: StopReason
    searches: list[SearchRound]
    repairs: int
    sampled_tokens: int
    messages: list[AnyMessage]


class SearchState(TypedDict):
    """Working state. The first node sets every key, so a new question on an old thread starts afresh."""

    question: str
    kind: Literal["qa", "ramp"]
    messages: Annotated[list[AnyMessage], add_messages]
    searches: list[SearchRound]
    repairs: int
    """Malformed steps so far."""
    is_forced: bool
    """Whether the agent was told to answer because its search budget is spent."""
    sampled_tokens: int
    started_at_s: float
    """Wall clock at the start of the run."""
    answer: str
    reasoning: str
    stop_reason: StopReason


@dataclass(frozen=True)
class RunContext:
    """Run-scoped dependencies, passed as `context=` when the graph is called. All of them are optional."""

    recorder: Recorder | None = None
    """Collects the trace of the run; needed for a `Trajectory`."""
    guard: LeakGuard | None = None
    """Withholds the source of a RAMP task from retrieval."""
    sampling: Sampling | None = None
    """Overrides the sampling settings of a recording model."""


def passages_of(rounds: list[SearchRound]) -> tuple[tuple[Passage, ...], ...]:
    """Return the passages of each search round as records."""
    return tuple(
        tuple(load_record(Passage, passage, AgentError) for passage in found["passages"]) for found in rounds
    )
