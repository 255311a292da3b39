"""State and run context of the search graph.

State holds plain data only (messages, strings, numbers, dictionaries), so any checkpointer can store it;
token ids stay with the recorder.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from langchain_core.messages import AIMessage, AnyMessage, BaseMessage
from langgraph.channels import EphemeralValue
from langgraph.graph.message import add_messages

# pydantic, which makes the schemas that a LangGraph server shows, refuses typing.TypedDict before Python 3.12.
from typing_extensions import TypedDict

from masksearch_agent.agent.protocol import PROTOCOL_VERSION
from masksearch_agent.errors import AgentError
from masksearch_agent.jsonl import load_record
from masksearch_agent.records import Passage, Sampling, StopReason, Trajectory, Turn, Usage, content_id
from masksearch_agent.retrieval.leak_guard import LeakGuard
from masksearch_agent.traces.recorder import Recorder

__all__ = (
    "OpeningState",
    "RunContext",
    "SearchInput",
    "SearchOutput",
    "SearchRound",
    "SearchState",
    "outcome_of",
)


class SearchRound(TypedDict):
    """One search step: its queries and the passages that were shown, as `Passage` dictionaries."""

    queries: list[str]
    passages: list[dict[str, Any]]


class SearchInput(TypedDict, total=False):
    """What a run starts from: a question, or messages whose last one asks it.

    On a thread that has run before, a question starts afresh, and messages go on with the conversation.
    """

    # Gone after the first step, so that a thread's next run cannot take them for its own.
    question: Annotated[str, EphemeralValue]
    kind: Annotated[Literal["qa", "ramp"], EphemeralValue]
    """`ramp` for a passage with masks to fill; default `qa`."""
    messages: Annotated[list[AnyMessage], add_messages]
    """With a question as well: what to open the run with instead of the question alone, word for word."""


class OpeningState(SearchInput, total=False):
    """What the first node reads."""

    started_at_s: float
    """Set where the thread has run before."""


class SearchOutput(TypedDict):
    """What the compiled graph returns."""

    messages: Annotated[list[AnyMessage], add_messages]
    searches: list[SearchRound]
    repairs: int
    """Malformed steps so far."""
    sampled_tokens: int
    answer: str
    reasoning: str
    stop_reason: StopReason | None
    """None while the run goes on, or where it was interrupted."""


class SearchState(SearchOutput):
    """Working state. The first node sets every key, so a new question on an old thread starts afresh."""

    is_forced: bool
    """Whether the agent was told to answer because its search budget is spent."""
    started_at_s: float
    """Wall clock at the start of the run."""
    asked: str
    """The question as the model reads it."""


@dataclass(frozen=True)
class RunContext:
    """Run-scoped dependencies, passed as `context=` when the graph is called. All of them are optional."""

    recorder: Recorder | None = None
    """Collects the trace of the run; needed for a `Trajectory`. The graph takes one recorder a run; `MaskSearchAgent`
    makes one for every run itself, and this one then holds the turns of all of them."""
    guard: LeakGuard | None = None
    """Withholds the source of a RAMP task from retrieval."""
    sampling: Sampling | None = None
    """Overrides the sampling settings of a recording model."""


def outcome_of(
    state: Mapping[str, Any],
    turns: tuple[Turn, ...],
    messages: Iterable[BaseMessage],
    started_s: float,
    task_id: str,
    producer: str,
    seed: int,
) -> tuple[Trajectory, Usage]:
    """Return the trajectory of a finished run, and what it cost.

    Args:
        state: What the graph returned, in this process or from a server.
        turns: The model calls of the run.
        messages: The run's own; a model that says how much it read says it in its replies.
        started_s: When it started, by `time.perf_counter`.
        task_id: The task that was run.
        producer: Version of the model that answered.
        seed: As for `MaskSearchAgent.run_task`.
    """
    trajectory = Trajectory(
        id=content_id(task_id, producer, seed, PROTOCOL_VERSION),
        task_id=task_id,
        turns=turns,
        answer=state["answer"],
        stop_reason=state["stop_reason"],
        retrieved=tuple(
            tuple(load_record(Passage, passage, AgentError) for passage in found["passages"])
            for found in state["searches"]
        ),
        queries=tuple(tuple(found["queries"]) for found in state["searches"]),
        format_errors=state["repairs"],
        producer=producer,
        seed=seed,
        protocol_version=PROTOCOL_VERSION,
    )
    replies = (m.usage_metadata for m in messages if isinstance(m, AIMessage) and m.usage_metadata)
    return trajectory, Usage(
        model_calls=len(turns),
        prompt_tokens=sum(usage["input_tokens"] for usage in replies),
        sampled_tokens=state["sampled_tokens"],
        searches=len(trajectory.queries),
        seconds=time.perf_counter() - started_s,
    )
