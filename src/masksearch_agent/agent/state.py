"""State and run context of the search graph.

`messages` is the conversation of the application, to which a run adds one closing reply; what the model reads and says
is in `transcript`, which nobody else has to see. State holds plain data only (messages, strings, numbers,
dictionaries), so any checkpointer can store it; token ids stay with the recorder.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Literal

from langchain_core.messages import AIMessage, AnyMessage, BaseMessage
from langgraph.channels import EphemeralValue
from langgraph.graph.message import add_messages

# pydantic, which makes the schemas that a LangGraph server shows, refuses typing.TypedDict before Python 3.12.
from typing_extensions import TypedDict

from masksearch_agent.agent.protocol import PROTOCOL_VERSION
from masksearch_agent.errors import AgentError
from masksearch_agent.jsonl import load_record
from masksearch_agent.records import Citation, Passage, StopReason, Trajectory, Turn, Usage, content_id

__all__ = (
    "OpeningState",
    "SearchInput",
    "SearchOutput",
    "SearchRound",
    "SearchState",
    "StructuredResponse",
    "outcome_of",
)


class SearchRound(TypedDict):
    """One search step: its queries and the passages that were shown, as `Passage` dictionaries."""

    queries: list[str]
    passages: list[dict[str, Any]]


class SearchInput(TypedDict, total=False):
    """What a run starts from: a question, or messages that hold one.

    On a thread that has run before, a question starts afresh, and messages go on with the conversation.
    """

    # Gone after the first step, so that a thread's next run cannot take them for its own.
    question: Annotated[str, EphemeralValue]
    kind: Annotated[Literal["qa", "ramp"], EphemeralValue]
    """`ramp` for a passage with masks to fill; default `qa`."""
    messages: Annotated[list[AnyMessage], add_messages]
    """The conversation of the application. Its last message of a human is the question, unless an agent that spoke
    after it hands over another task."""


class OpeningState(SearchInput, total=False):
    """What the first node reads; all but the input is of the thread's last run."""

    stop_reason: StopReason | None
    asked: str
    closing_id: str
    searches: list[SearchRound]
    earlier: list[SearchRound]
    transcript: Annotated[list[AnyMessage], add_messages]


class StructuredResponse(TypedDict):
    """What a run found out, for a parent that reads no text; deepagents hands it on as it is."""

    answer: str
    sources: list[str]
    """Titles of what is cited."""
    stop_reason: StopReason
    citations: list[dict[str, Any]]
    """Of each its `number`, `title`, `source` and `metadata`, the `quote`, and the `claim` that rests on it."""


class SearchOutput(TypedDict):
    """What the compiled graph returns."""

    messages: Annotated[list[AnyMessage], add_messages]
    structured_response: StructuredResponse | dict[str, Any] | None
    """The answer as data; in the form of the application, where it gave one (`response_format`)."""
    form_usage: dict[str, int]
    """What filling that form in took besides sampled tokens: `model_calls` and `prompt_tokens`; empty where nothing."""
    transcript: Annotated[list[AnyMessage], add_messages]
    """What the model read and said, in the dialect's own form."""
    searches: list[SearchRound]
    repairs: int
    """Malformed steps so far."""
    sampled_tokens: int
    answer: str
    citations: list[dict[str, Any]]
    """As `Citation` dictionaries."""
    unknown_citations: int
    reasoning: str
    stop_reason: StopReason | None
    """None while the run goes on, or where it was interrupted."""


class SearchState(SearchOutput):
    """Working state. The first node sets every key but `closing_id`, so that a new question starts afresh."""

    is_forced: bool
    """Whether the agent was told to answer because its search budget is spent."""
    worked_s: float
    """Seconds that the run's nodes have worked so far."""
    asked: str
    """The question as the model reads it."""
    chosen: dict[str, Any]
    """What the caller chose for this run (`AgentContext`)."""
    closing_id: str
    """Of the message that closed the thread's last run."""
    earlier: list[SearchRound]
    """The searches of earlier runs whose results the transcript still shows."""


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
        # A server of an earlier version says nothing of them.
        citations=tuple(load_record(Citation, each, AgentError) for each in state.get("citations", ())),
    )
    replies = (m.usage_metadata for m in messages if isinstance(m, AIMessage) and m.usage_metadata)
    form: Mapping[str, int] = state.get("form_usage") or {}
    return trajectory, Usage(
        model_calls=len(turns) + form.get("model_calls", 0),
        prompt_tokens=sum(usage.get("input_tokens", 0) for usage in replies) + form.get("prompt_tokens", 0),
        sampled_tokens=state["sampled_tokens"],
        searches=len(trajectory.queries),
        seconds=time.perf_counter() - started_s,
    )
