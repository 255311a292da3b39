"""One run of the search graph: what goes in, and the trajectory, its cost and the answer that come out."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias, cast

from langchain_core.messages import AnyMessage, BaseMessage

from masksearch_agent.agent.state import RunContext, SearchInput, outcome_of
from masksearch_agent.errors import AgentError
from masksearch_agent.records import SearchAnswer, Trajectory, Usage, content_id
from masksearch_agent.traces.recorder import Recorder

__all__ = ("AgentInput", "AgentRun", "graph_input")

AgentInput: TypeAlias = str | Mapping[str, Any] | Sequence[BaseMessage]
"""A question, `{"question": …}` (with `"kind": "ramp"` for a masked passage), or messages that end with one."""


class AgentRun:
    """One run of the graph: its context, and what is made of its final state."""

    def __init__(self, given: RunContext | None = None) -> None:
        given = given or RunContext()
        # One recorder a run: a batch passes one context to all of its runs, and their turns must not mix.
        self.recorder = Recorder(overview=given.recorder)
        self.context = RunContext(self.recorder, given.guard, given.sampling)
        self.started_s = time.perf_counter()

    def outcome(
        self, state: Mapping[str, Any], producer: str, task_id: str | None = None, seed: int = 0
    ) -> tuple[Trajectory, Usage]:
        """Return the trajectory of a model version and what it cost; without a task, it is named by what was asked.

        Raises:
            AgentError: The run was interrupted.
        """
        if not state.get("stop_reason"):
            raise AgentError(
                "the run was interrupted before it ended; resume it on its thread with `agent.graph.invoke(None, "
                "config)`, or `Command(resume=…)` in place of None"
            )
        turns = self.recorder.turns
        if task_id is None:
            # What the first call read, but for our system prompt; the thread may hold earlier runs too.
            task_id = content_id(*(m.content for m in turns[0].context if m.role != "system"))
        own = [m for m in state["messages"] if m.response_metadata.get("turn_id") in self.recorder]
        return outcome_of(state, turns, own, self.started_s, task_id, producer, seed)

    def answer(self, state: Mapping[str, Any], producer: str) -> SearchAnswer:
        """Make the answer; see `outcome`."""
        trajectory, usage = self.outcome(state, producer)
        return SearchAnswer(
            answer=trajectory.answer,
            reasoning=state["reasoning"],
            sources=tuple({p.id: p for shown in trajectory.retrieved for p in shown}.values()),
            searches=trajectory.queries,
            stop_reason=trajectory.stop_reason,
            usage=usage,
            trajectory=trajectory,
        )


def graph_input(input: AgentInput) -> SearchInput:
    """Return what the graph takes.

    Raises:
        AgentError: It is nothing that asks a question.
    """
    if isinstance(input, str):
        return {"question": input}
    if isinstance(input, Mapping):
        unknown = set(input) - {"question", "kind", "messages"}
        if unknown or not input:
            raise AgentError(
                f"the input has the keys {sorted(input)}; expected `question` (and `kind`) or `messages`"
            )
        return cast(SearchInput, dict(input))
    if isinstance(input, Sequence) and all(isinstance(message, BaseMessage) for message in input):
        return {"messages": cast(list[AnyMessage], list(input))}
    raise AgentError(
        f"cannot use an input of type {type(input).__name__}; pass a question, "
        '{"question": …} or a list of messages'
    )
