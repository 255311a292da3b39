"""Who answers an evaluation's questions: an agent in this process, the retrieve-once baseline, or a deployed agent."""

from __future__ import annotations

import asyncio
import dataclasses
import random
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal, Protocol, runtime_checkable

from langchain_core.messages import AIMessage, BaseMessage, HumanMessage
from langchain_core.messages.utils import convert_to_messages

from masksearch_agent.agent.escaping import neutralise
from masksearch_agent.agent.protocol import PROTOCOL_VERSION, render_information
from masksearch_agent.agent.runnable import MaskSearchAgent
from masksearch_agent.agent.state import RunContext, trajectory_of
from masksearch_agent.errors import EvaluationError
from masksearch_agent.records import (
    Sampling,
    SearchAnswer,
    SearchTask,
    Trajectory,
    Turn,
    Usage,
    content_id,
)
from masksearch_agent.retrieval.leak_guard import LeakGuard
from masksearch_agent.retrieval.search import interleave
from masksearch_agent.traces.messages import to_messages
from masksearch_agent.traces.recorder import RecordingModel
from masksearch_agent.traces.rows import POLICY_ROLE

__all__ = ("AnyAgent", "BatchAgent", "Mode", "RemoteAgent", "answer_task")

Mode = Literal["agentic", "rag"]
"""`agentic` runs the search graph; `rag` retrieves once with the question and has the same model answer."""


@runtime_checkable
class BatchAgent(Protocol):
    """An agent that answers many tasks at once elsewhere, such as on a cluster. Its mode and seed are its own."""

    model_version: str

    def answer_tasks(self, tasks: Sequence[SearchTask]) -> Iterator[tuple[SearchTask, Trajectory, Usage]]:
        """Yield each task with what `answer_task` returns for it, as they are finished."""
        ...


async def answer_task(agent: AnyAgent, task: SearchTask, mode: Mode, seed: int) -> tuple[Trajectory, Usage]:
    """Answer one task.

    Args:
        agent: Who answers; its model decodes as it is set up (greedy by default).
        task: What to answer; a RAMP task is run under its leak guard.
        mode: How to answer.
        seed: Of a recording model's sampling, and part of the trajectory's id.

    Returns:
        The run and what it cost.

    Raises:
        EvaluationError: A deployed agent is asked for what only an agent in this process can do.
    """
    if isinstance(agent, BatchAgent):
        [(_, trajectory, usage)] = agent.answer_tasks([task])
        return trajectory, usage
    if isinstance(agent, RemoteAgent):
        if mode == "rag":
            raise EvaluationError(
                "the retrieve-once baseline needs an agent bundle; a deployed agent searches itself"
            )
        return await agent.answer_task(task, seed)
    answer = await (_run_rag if mode == "rag" else _run_agentic)(agent, task, seed)
    if answer.trajectory is None:
        raise EvaluationError(
            f"the agent recorded nothing of its run on {task.id!r}; expected its trajectory"
        )
    # The baseline's run is another one than the graph's, of the same model and seed.
    way = () if mode == "agentic" else (mode,)
    identity = content_id(task.id, agent.model_version, seed, PROTOCOL_VERSION, *way)
    return dataclasses.replace(answer.trajectory, id=identity, task_id=task.id, seed=seed), answer.usage


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
        """Answer one task; see `answering.answer_task`.

        Raises:
            EvaluationError: The task needs a leak guard, or the server returned no finished run.
        """
        if task.source_passage_id:
            raise EvaluationError(
                f"task {task.id!r} was made from a passage that has to be withheld, which a deployed agent cannot do; "
                f"evaluate its bundle instead"
            )
        started_s = time.perf_counter()
        state = await self._connect().ainvoke({"question": task.question, "kind": task.kind})
        seconds = time.perf_counter() - started_s
        if not isinstance(state, Mapping) or not state.get("stop_reason"):
            raise EvaluationError(
                f"{self.model_version} returned no finished run of {task.id!r} ({str(state)[:200]}); expected the "
                f"output of the search graph"
            )
        messages = convert_to_messages(state["messages"])
        turns = _turns_of(messages, self.model_version)
        trajectory = trajectory_of(state, turns, task.id, self.model_version, seed)
        usages = [m.usage_metadata for m in messages if isinstance(m, AIMessage) and m.usage_metadata]
        return trajectory, Usage(
            model_calls=len(trajectory.turns),
            prompt_tokens=sum(usage["input_tokens"] for usage in usages),
            sampled_tokens=state["sampled_tokens"],
            searches=len(trajectory.queries),
            seconds=seconds,
        )

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


async def _run_agentic(agent: MaskSearchAgent, task: SearchTask, seed: int) -> SearchAnswer:
    context = RunContext(guard=LeakGuard.for_task(task), sampling=_sampling(agent, task, seed))
    question = {"question": task.question, "kind": task.kind}
    return await agent.ainvoke(question, agent.new_thread(), context=context)


async def _run_rag(agent: MaskSearchAgent, task: SearchTask, seed: int) -> SearchAnswer:
    """Retrieve once with the question, show the passages with it, and let the model answer."""
    guard = LeakGuard.for_task(task)
    limit = agent.settings.passages_per_search
    found = await agent.search.asearch([task.question], limit, guard)
    passages = [hit.passage for hit in interleave(found, limit)]
    parts = (neutralise(task.question), render_information(passages), agent.prompts.force_answer)
    opening = {
        "question": task.question,
        "kind": task.kind,
        "messages": [HumanMessage("\n".join(parts))],
    }
    rag = agent.with_limits(max_searches=0)
    context = RunContext(guard=guard, sampling=_sampling(agent, task, seed))
    answer = await rag.ainvoke(opening, rag.new_thread(), context=context)
    if answer.trajectory is None or not passages:
        return answer
    trajectory = dataclasses.replace(
        answer.trajectory, retrieved=(tuple(passages), *answer.trajectory.retrieved)
    )
    return dataclasses.replace(answer, trajectory=trajectory)


def _sampling(agent: MaskSearchAgent, task: SearchTask, seed: int) -> Sampling | None:
    """Keep how a recording model decodes and give it a seed of its own for the task."""
    model = agent.model
    if not isinstance(model, RecordingModel):
        return None
    return Sampling(
        temperature=getattr(model, "temperature", 0.0),
        top_p=getattr(model, "top_p", 1.0),
        seed=random.Random(f"{task.id}:{seed}").getrandbits(32),
    )


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
