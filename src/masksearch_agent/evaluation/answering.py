"""Who answers an evaluation's questions: an agent in this process, the retrieve-once baseline, or a deployed agent."""

from __future__ import annotations

import asyncio
import dataclasses
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Literal, Protocol, TypeAlias

from langchain_core.messages import AIMessage, BaseMessage, HumanMessage
from langchain_core.messages.utils import convert_to_messages

from masksearch_agent.agent.escaping import neutralise
from masksearch_agent.agent.protocol import PROTOCOL_VERSION, render_information
from masksearch_agent.agent.runnable import MaskSearchAgent
from masksearch_agent.agent.state import outcome_of
from masksearch_agent.errors import EvaluationError
from masksearch_agent.evaluation.three_shot import ThreeShotAnswerer
from masksearch_agent.records import SearchTask, Trajectory, Turn, Usage, content_id
from masksearch_agent.retrieval.leak_guard import LeakGuard
from masksearch_agent.retrieval.search import cut_to_words, interleave
from masksearch_agent.traces.messages import to_messages
from masksearch_agent.traces.rows import POLICY_ROLE

__all__ = (
    *("Answered", "Answerer", "AnyAgent", "BatchAgent", "FailedAnswer", "Mode", "RagAnswerer", "RemoteAgent"),
    *("answerer_of", "conditions_of"),
)

Mode = Literal["agentic", "rag", "rag-3shot"]
"""`agentic` runs the search graph; `rag` retrieves once with the question and has the same model answer in the
protocol's tags; `rag-3shot` retrieves once and has it go on with three solved examples, as plain text."""


@dataclass(frozen=True, slots=True)
class FailedAnswer:
    """What stands in the place of an answer, where a question failed elsewhere."""

    reason: str
    is_outage: bool
    """Whether a service was down."""


Answered: TypeAlias = tuple[Trajectory, Usage] | FailedAnswer


class Answerer(Protocol):
    """Who answers the questions of an evaluation; a `MaskSearchAgent` is one."""

    @property
    def model_version(self) -> str:
        """The producer of its trajectories."""
        ...

    async def answer_task(self, task: SearchTask, seed: int) -> tuple[Trajectory, Usage]:
        """Answer one task.

        Args:
            task: What to answer; a RAMP task is run under its leak guard.
            seed: Of a recording model's sampling, and part of the trajectory's id.

        Returns:
            The run and what it cost.
        """
        ...


class BatchAgent(ABC):
    """An agent that answers many tasks at once elsewhere, such as on a cluster. Its mode and seed are its own."""

    model_version: str
    conditions: Mapping[str, Any] = MappingProxyType({})
    """What `conditions_of` says of it where it answers; empty where that is not known."""

    @abstractmethod
    def answer_tasks(self, tasks: Sequence[SearchTask]) -> Iterator[tuple[SearchTask, Answered]]:
        """Yield each task with what `answer_task` returns for it, or why it failed, as they are finished."""

    async def answer_task(self, task: SearchTask, seed: int) -> tuple[Trajectory, Usage]:
        """Answer one task.

        Raises:
            EvaluationError: It failed.
        """
        [(_, answered)] = self.answer_tasks([task])
        if isinstance(answered, FailedAnswer):
            raise EvaluationError(answered.reason)
        return answered


class RagAnswerer:
    """The baseline that retrieves once with the question, shows the passages with it, and has the model answer.

    Args:
        agent: Its model, prompts, limits and search are used, and its graph without searches.
    """

    def __init__(self, agent: MaskSearchAgent) -> None:
        self.model_version = agent.model_version
        self._prompts = agent.prompts
        # Worked examples that search would be no examples of what is asked here.
        plain = agent.prompts.model_copy(update={"question_examples": (), "mask_examples": ()})
        settings = agent.settings.model_copy(update={"max_searches": 0, "search_first": False})
        self._agent = agent.replace(settings=settings, prompts=plain)

    async def answer_task(self, task: SearchTask, seed: int) -> tuple[Trajectory, Usage]:
        """Answer one task; see `Answerer`."""
        agent = self._agent
        limit = agent.settings.passages_per_search
        found = await agent.search.asearch([task.question], limit, LeakGuard.for_task(task))
        longest = agent.settings.max_passage_words
        passages = tuple(cut_to_words(hit.passage, longest) for hit in interleave(found, limit))
        request = agent.prompts.force_answer
        examples = [m for e in self._prompts.examples_for(task.kind) for m in e.messages_at_once(request)]
        parts = (neutralise(task.question), render_information(passages), request)
        messages = [*examples, HumanMessage("\n".join(parts))]
        trajectory, usage = await agent.answer_task(task, seed, messages=messages)
        # Another run than the graph's, of the same model and seed.
        identity = content_id(task.id, agent.model_version, seed, PROTOCOL_VERSION, "rag")
        retrieved = (passages, *trajectory.retrieved) if passages else trajectory.retrieved
        return dataclasses.replace(trajectory, id=identity, retrieved=retrieved), usage


class RemoteAgent:
    """An agent that a LangGraph server serves (`langgraph.json`); it searches what it was deployed with.

    Its trajectories hold text and passages, no tokens.

    Args:
        url: Of the server, such as `http://127.0.0.1:2024`.
        graph: Name of the graph there.
        client: What talks to the server, instead of LangGraph's own `RemoteGraph`.
    """

    def __init__(self, url: str, graph: str = "search_agent", client: Any = None) -> None:
        self.url = url
        self.graph = graph
        self.model_version = f"{graph}@{url}"
        self._client = client
        self._of_loop: tuple[asyncio.AbstractEventLoop, Any] | None = None

    async def answer_task(self, task: SearchTask, seed: int) -> tuple[Trajectory, Usage]:
        """Answer one task; see `Answerer`.

        Raises:
            EvaluationError: The task needs a leak guard, or the server returned no finished run.
        """
        if task.source_passage_id and not task.is_open:
            raise EvaluationError(
                f"task {task.id!r} was made from a passage that has to be withheld, which a deployed agent cannot do; "
                f"evaluate its bundle instead"
            )
        started_s = time.perf_counter()
        state = await self._connect().ainvoke({"question": task.question, "kind": task.kind})
        if not isinstance(state, Mapping) or not state.get("stop_reason"):
            raise EvaluationError(
                f"{self.model_version} returned no finished run of {task.id!r} ({str(state)[:200]}); expected the "
                f"output of the search graph"
            )
        messages = convert_to_messages(state["transcript"])
        turns = _turns_of(messages, self.model_version)
        return outcome_of(state, turns, messages, started_s, task.id, self.model_version, seed)

    def _connect(self) -> Any:
        """Return a client of the running event loop; connections do not outlive theirs."""
        if self._client is not None:
            return self._client
        from langgraph.pregel.remote import RemoteGraph

        loop = asyncio.get_running_loop()
        if self._of_loop is None or self._of_loop[0] is not loop:
            self._of_loop = loop, RemoteGraph(self.graph, url=self.url)
        return self._of_loop[1]


AnyAgent = MaskSearchAgent | RemoteAgent | BatchAgent
"""Whatever can be evaluated."""


def answerer_of(agent: AnyAgent, mode: Mode) -> Answerer:
    """Return who answers for an agent; made once an evaluation. A `BatchAgent` answers in a mode of its own.

    Raises:
        EvaluationError: A deployed agent is to be the baseline, or the model cannot go on with a plain text.
    """
    if mode == "agentic" or isinstance(agent, BatchAgent):
        return agent
    if isinstance(agent, RemoteAgent):
        raise EvaluationError(
            "the retrieve-once baseline needs an agent bundle; a deployed agent searches itself"
        )
    return RagAnswerer(agent) if mode == "rag" else ThreeShotAnswerer(agent)


def conditions_of(agent: AnyAgent, mode: Mode) -> dict[str, Any]:
    """Return what answers depend on besides the question, the model's version and the seed, by name.

    That is the mode, what is searched, the prompts (as a hash) and each of the agent's settings; what a server calls
    its model, where that is not the bundle's name for it. Of a deployed agent none of it is known.
    """
    if isinstance(agent, RemoteAgent):
        return {}
    if isinstance(agent, BatchAgent):
        return dict(agent.conditions)
    served = str(getattr(agent.model, "served_name", ""))
    return {
        "mode": mode,
        "index": agent.search.identity,
        "prompts": content_id(agent.prompts.model_dump(mode="json", exclude_defaults=True)),
        "served model": served if served != agent.model_version else "",
        **{f"agent.{name}": value for name, value in agent.settings.model_dump(mode="json").items()},
    }


def _turns_of(messages: list[BaseMessage], model_version: str) -> tuple[Turn, ...]:
    """Return the model calls behind a conversation."""
    turns: list[Turn] = []
    context: list[BaseMessage] = []
    for message in messages:
        if not isinstance(message, AIMessage):
            context.append(message)
            continue
        turns.append(
            Turn(
                id=f"remote-{len(turns)}",
                parent_id=turns[-1].id if turns else None,
                role=POLICY_ROLE,
                context=tuple(to_messages(context)),
                text=to_messages([message])[0].content,
                model_version=model_version,
            )
        )
        context = []
    return tuple(turns)
