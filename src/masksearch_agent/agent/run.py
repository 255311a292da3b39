"""One run of the search graph: what goes in, and the trajectory, its cost and the answer that come out."""

from __future__ import annotations

import dataclasses
import time
import uuid
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias, cast

from langchain_core.messages import AnyMessage, BaseMessage, MessageLikeRepresentation
from langchain_core.messages.utils import convert_to_messages
from langchain_core.prompt_values import PromptValue
from langgraph.types import Command
from pydantic import BaseModel

from masksearch_agent.agent.context import RunContext, context_around
from masksearch_agent.agent.escaping import restore
from masksearch_agent.agent.state import SearchInput, outcome_of
from masksearch_agent.errors import AgentError
from masksearch_agent.records import SearchAnswer, Trajectory, Usage, content_id
from masksearch_agent.traces.recorder import Recorder

__all__ = ("AgentInput", "AgentRun", "graph_input", "without_tokens")

AgentInput: TypeAlias = (
    str
    | PromptValue
    | BaseMessage
    | Sequence[MessageLikeRepresentation]
    | Mapping[str, Any]
    | Command[Any]
    | None
)
"""What chat models take, of which the last message of a human is the question; `{"question": …}` (with `"kind": "ramp"`
for a masked passage) or `{"messages": …}`, whose other keys are left alone, or a dataclass or pydantic model of these,
as a parent's state may be; or what goes on with a thread that was interrupted: None or `Command(resume=…)`. On a thread
that has run before, `question` starts afresh, and all else goes on with the conversation."""


_KEYS = ("question", "kind", "messages")
_SHAPING = ("stream_mode", "output_keys", "version", "subgraphs")
"""Options of a graph that change the form of what it returns, which an answer is made of here."""


class AgentRun:
    """One run of the graph: its context, and what is made of its final state.

    Args:
        given: The caller's context: a `RunContext`, an `AgentContext`, or any other; None for that of the graph whose
            node calls, if one does.
    """

    def __init__(self, given: object = None) -> None:
        is_given = given is not None
        context = given if isinstance(given, RunContext) else RunContext(caller=given, is_for_agent=is_given)
        if context.caller is None:
            context = dataclasses.replace(context, caller=context_around())
        # One recorder a run: a batch passes one context to all of its runs, and their turns must not mix.
        self.recorder = Recorder(overview=context.recorder)
        self.context: Any = dataclasses.replace(context, recorder=self.recorder)
        self.started_s = time.perf_counter()

    @classmethod
    def of_call(cls, options: dict[str, Any]) -> AgentRun:
        """Return the run of a call; its context is taken out of the options, and the rest is the graph's.

        Raises:
            AgentError: An option asks for something else than an answer.
        """
        if shaping := [name for name in _SHAPING if name in options]:
            raise AgentError(
                f"the agent gives a `SearchAnswer` and takes no {' or '.join(f'`{name}`' for name in shaping)}; stream "
                f"its steps with `stream_answer`, or pass that to `agent.graph.stream` or `agent.graph.invoke`"
            )
        return cls(options.pop("context", None))

    def outcome(
        self, state: Mapping[str, Any] | None, producer: str, task_id: str | None = None, seed: int = 0
    ) -> tuple[Trajectory, Usage]:
        """Return the trajectory of a model version and what it cost; without a task, it is named by what was asked.

        The turns of a run that was interrupted are those since it went on.

        Raises:
            AgentError: The run was interrupted.
        """
        if not state or not state.get("stop_reason"):
            raise AgentError(
                "the run was interrupted before it ended; go on with it on its thread with `agent.invoke(None, "
                "config)`, or `Command(resume=…)` in place of None"
            )
        turns = self.recorder.turns
        if task_id is None:
            # What the first call read, but for our system prompt; the thread may hold earlier runs too.
            read = (
                [message.content for message in turns[0].context if message.role != "system"] if turns else []
            )
            task_id = content_id(*(read or [str(message.text) for message in state["transcript"]]))
        own = [m for m in state["transcript"] if m.response_metadata.get("turn_id") in self.recorder]
        return outcome_of(state, turns, own, self.started_s, task_id, producer, seed)

    def answer(
        self,
        state: Mapping[str, Any] | None,
        producer: str,
        response_format: type[BaseModel] | None = None,
    ) -> SearchAnswer:
        """Make the answer, with what is in the form of the application, where it gave one; see `outcome`."""
        trajectory, usage = self.outcome(state, producer)
        filled = state["structured_response"] if state and response_format is not None else None
        return SearchAnswer(
            answer=restore(trajectory.answer),
            reasoning=restore(state["reasoning"]) if state else "",
            sources=tuple({each.passage.id: each.passage for each in trajectory.citations}.values()),
            searches=trajectory.queries,
            stop_reason=trajectory.stop_reason,
            usage=usage,
            trajectory=trajectory,
            citations=trajectory.citations,
            retrieved=tuple({p.id: p for shown in trajectory.retrieved for p in shown}.values()),
            unknown_citations=state["unknown_citations"] if state else 0,
            structured=response_format.model_validate(filled) if response_format and filled else None,
        )


def without_tokens(answer: SearchAnswer) -> SearchAnswer:
    """Return an answer as traces are to show it: of its trajectory the texts, and not thousands of ids."""
    trajectory = answer.trajectory
    if trajectory is None or not any(turn.is_tokenised for turn in trajectory.turns):
        return answer
    turns = tuple(
        dataclasses.replace(turn, context_ids=(), sampled_ids=(), logprobs=()) for turn in trajectory.turns
    )
    return dataclasses.replace(answer, trajectory=dataclasses.replace(trajectory, turns=turns))


def graph_input(input: AgentInput) -> SearchInput | Command[Any] | None:
    """Return what the graph takes.

    Raises:
        AgentError: It is nothing that asks a question.
    """
    if input is None or isinstance(input, Command):
        return input
    if isinstance(input, str):
        return {"messages": _messages(input)}
    if dataclasses.is_dataclass(input) or _is_state(input):
        input = {key: getattr(input, key) for key in _KEYS if hasattr(input, key)}
    if isinstance(input, Mapping):
        asked = {key: input[key] for key in _KEYS if input.get(key) is not None}
        if not asked.keys() & {"question", "messages"}:
            raise AgentError(
                f"the input has the keys {sorted(input)}; expected `question` (and `kind`) or `messages`"
            )
        if "messages" in asked:
            asked["messages"] = _messages(asked["messages"])
        return cast(SearchInput, asked)
    return {"messages": _messages(input)}


def _is_state(input: object) -> bool:
    """Whether an input is a state whose schema is a pydantic model; messages and prompts are models too."""
    return isinstance(input, BaseModel) and not isinstance(input, BaseMessage | PromptValue)


def _messages(given: Any) -> list[AnyMessage]:
    # What LangGraph's own states take as one message: its text, or its role and its text too.
    is_one = isinstance(given, str | BaseMessage | Mapping) or (
        isinstance(given, tuple) and len(given) == 2 and all(isinstance(part, str) for part in given)
    )
    try:
        messages = convert_to_messages([given] if is_one else given)
    except (TypeError, ValueError, NotImplementedError) as failure:
        raise AgentError(
            f"cannot use an input of type {type(given).__name__}; pass a question, "
            f'{{"question": …}}, or what chat models take ({str(failure)[:200]})'
        ) from failure
    # Without an id of its own, a message of the caller's would be given one in place.
    named = (m if m.id else m.model_copy(update={"id": str(uuid.uuid4())}) for m in messages)
    return cast(list[AnyMessage], list(named))
