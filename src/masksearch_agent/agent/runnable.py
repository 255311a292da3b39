"""`MaskSearchAgent`: the search graph as a LangChain `Runnable`.

The agent adds three things to the compiled graph: it takes what chat models take, it returns a `SearchAnswer` (of
`stream` too, so that it composes), and it restores itself from an agent bundle. Everything else (the stream of its
steps, checkpointers, use as a subgraph) is LangGraph's and reached through `.graph`.
"""

from __future__ import annotations

import dataclasses
import random
import uuid
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AnyMessage
from langchain_core.runnables import Runnable, RunnableConfig
from langchain_core.runnables.config import merge_configs
from langchain_core.tools import BaseTool
from langgraph.types import StreamMode
from pydantic import BaseModel

from masksearch_agent.agent.bundle import BundleInfo, load_model, open_bundle_search, read_bundle_info
from masksearch_agent.agent.context import Choices, RunContext, with_limits
from masksearch_agent.agent.graph import build_search_graph
from masksearch_agent.agent.model_card import push_bundle
from masksearch_agent.agent.parts import open_model, prompts_for
from masksearch_agent.agent.prompts import PromptSet
from masksearch_agent.agent.run import AgentInput, AgentRun, graph_input, without_tokens
from masksearch_agent.agent.state import SearchInput
from masksearch_agent.agent.tool import make_research_tool
from masksearch_agent.agent.wrapped_models import bare_model
from masksearch_agent.config.agent import AgentSettings
from masksearch_agent.errors import ThreadReuseError
from masksearch_agent.models.recording import RecordingChatModel
from masksearch_agent.records import Sampling, SearchAnswer, SearchTask, Trajectory, Usage
from masksearch_agent.retrieval.adapters import as_search
from masksearch_agent.retrieval.leak_guard import LeakGuard
from masksearch_agent.traces.recorder import RecordingModel

if TYPE_CHECKING:
    from langchain_core.runnables.graph import Graph
    from langgraph.checkpoint.base import BaseCheckpointSaver

__all__ = ("AgentInput", "MaskSearchAgent")

_MODES: list[StreamMode] = ["updates", "values"]
_PARTS = ("model", "search", "settings", "prompts", "checkpointer", "response_format", "choices")
"""The constructor's arguments, in their order."""
_STATE = ("bundle", "bundle_path", "config")
_RECURSION_LIMIT = 10_000
"""A run ends by its own limits, which a call may set."""


class MaskSearchAgent(Runnable[AgentInput, SearchAnswer]):
    """Answers questions by searching.

    Args:
        model: Any LangChain chat model, or the name of one, as `openai:gpt-5-mini` (`init_chat_model`).
        search: A retriever, vector store, search tool, callable, index folder or `Search`.
        settings: Limits of a run; a dictionary of them will do.
        prompts: What the model is told; None for the dialect's own.
        checkpointer: As for any LangGraph graph. On a thread a question goes on with what was said before.
        response_format: A pydantic model that `SearchAnswer.structured` is to be, for models with structured output.
        choices: The models and indexes that a call may choose by name (`AgentContext`); None for none.

    Raises:
        AgentError: The model does not speak the dialect, or gives no structured output where it is asked for.

    Example:
        ```python
        agent = MaskSearchAgent(model=ChatOllama(model="qwen3"), search=retriever)
        answer = agent.invoke("Who designed the bridge that opened in 1932?")
        print(answer.answer, answer.sources)
        ```
    """

    def __init__(
        self,
        model: BaseChatModel | str,
        search: Any,
        settings: AgentSettings | dict[str, Any] | None = None,
        prompts: PromptSet | None = None,
        checkpointer: BaseCheckpointSaver[Any] | None = None,
        response_format: type[BaseModel] | None = None,
        choices: Choices | None = None,
    ) -> None:
        self.model = open_model(model)
        self.search = as_search(search)
        self._searched = search
        self.settings = AgentSettings.model_validate(settings or {})
        self._given_prompts = prompts
        self.prompts = PromptSet.model_validate(prompts or prompts_for(self.model, self.settings))
        self.checkpointer = checkpointer
        self.response_format = response_format
        self.choices = choices
        self._rollout_threads: set[str] = set()
        self.bundle: BundleInfo | None = None
        """What the agent was restored from, at `bundle_path`; None for an agent made by hand."""
        self.bundle_path = ""
        self.builder = build_search_graph(
            self.model, self.search, self.settings, self.prompts, response_format, choices
        )
        """The uncompiled graph."""
        self.config: RunnableConfig = {}
        """What `with_config` set."""
        self.graph = self.builder.compile(checkpointer=checkpointer, name="masksearch").with_config(
            recursion_limit=_RECURSION_LIMIT
        )
        """The compiled LangGraph graph."""

    @classmethod
    def from_pretrained(
        cls,
        path: str | Path,
        search: Any = None,
        checkpointer: BaseCheckpointSaver[Any] | None = None,
        base_url: str | None = None,
        choices: Choices | None = None,
    ) -> MaskSearchAgent:
        """Restore an agent from a bundle: weights, prompts, limits and, where it names one, its index.

        Args:
            path: A bundle folder or hub id.
            search: What to search instead of the bundle's own index.
            checkpointer: As in the constructor.
            base_url: A vLLM server that serves the bundle's weights (`masksearch serve`); None loads them into this
                process.
            choices: As in the constructor.

        Raises:
            BundleError: The bundle is incomplete, or of another protocol version, or the server has another one's
                weights.
            ServingError: No vLLM server answers at `base_url`.
        """
        info = read_bundle_info(path)
        model = load_model(path, info, base_url)
        search = open_bundle_search(path, info) if search is None else search
        agent = cls(model, search, info.agent, info.prompts, checkpointer, choices=choices)
        agent.bundle, agent.bundle_path = info, str(path)
        return agent

    # --- Runnable ----------------------------------------------------------------------------------------

    def invoke(self, input: AgentInput, config: RunnableConfig | None = None, **kwargs: Any) -> SearchAnswer:
        """Answer a question (see `AgentInput`).

        `kwargs` may be `context=`, an `AgentContext` or a `RunContext`, and what the graph's own `invoke` takes, but
        for what changes the form of its output.

        Raises:
            AgentError: The input asks nothing, the run was interrupted, or `kwargs` ask for something else.
        """
        given, found = merge_configs(self.config, config), list[SearchAnswer]()

        def answer(input: AgentInput, config: RunnableConfig) -> SearchAnswer:
            run = AgentRun.of_call(kwargs)
            config = _without_default_limit(config, given)
            state = self.graph.invoke(graph_input(input), config, context=run.context, **kwargs)
            found.append(run.answer(state, self.model_version, self.response_format))
            return without_tokens(found[0])

        self._call_with_config(cast(Any, answer), input, given)
        return found[0]

    async def ainvoke(
        self, input: AgentInput, config: RunnableConfig | None = None, **kwargs: Any
    ) -> SearchAnswer:
        """Answer a question, without blocking; see `invoke`."""
        given, found = merge_configs(self.config, config), list[SearchAnswer]()

        async def answer(input: AgentInput, config: RunnableConfig) -> SearchAnswer:
            run = AgentRun.of_call(kwargs)
            config = _without_default_limit(config, given)
            state = await self.graph.ainvoke(graph_input(input), config, context=run.context, **kwargs)
            found.append(run.answer(state, self.model_version, self.response_format))
            return without_tokens(found[0])

        await self._acall_with_config(cast(Any, answer), input, given)
        return found[0]

    def stream_answer(
        self, input: AgentInput, config: RunnableConfig | None = None, **kwargs: Any
    ) -> Iterator[dict[str, Any] | SearchAnswer]:
        """Yield each finished node's update as `{node: update}`, and at last the answer; `kwargs` as for `invoke`."""
        run = AgentRun.of_call(kwargs)
        state: Mapping[str, Any] = {}
        config, modes = merge_configs(self.config, config), _MODES
        for mode, chunk in self.graph.stream(
            graph_input(input), config, context=run.context, stream_mode=modes, **kwargs
        ):
            if mode == "values":
                state = chunk
            else:
                yield chunk
        yield run.answer(state, self.model_version, self.response_format)

    async def astream_answer(
        self, input: AgentInput, config: RunnableConfig | None = None, **kwargs: Any
    ) -> AsyncIterator[dict[str, Any] | SearchAnswer]:
        """Yield what `stream_answer` yields, without blocking."""
        run = AgentRun.of_call(kwargs)
        state: Mapping[str, Any] = {}
        config, modes = merge_configs(self.config, config), _MODES
        async for mode, chunk in self.graph.astream(
            graph_input(input), config, context=run.context, stream_mode=modes, **kwargs
        ):
            if mode == "values":
                state = chunk
            else:
                yield chunk
        yield run.answer(state, self.model_version, self.response_format)

    def with_config(self, config: RunnableConfig | None = None, **kwargs: Any) -> MaskSearchAgent:
        """Return an agent like this one whose every call has the config too."""
        changed = self.replace()
        changed.config = merge_configs(self.config, config, cast(RunnableConfig, kwargs))
        return changed

    def get_graph(self, config: RunnableConfig | None = None, *, xray: int | bool = False) -> Graph:
        """Return a drawing of the graph."""
        return self.graph.get_graph(config, xray=xray)

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle what the agent was made of, what it searches among it; the graph is built again."""
        parts = self._parts() | {"search": self._searched}
        return MaskSearchAgent, tuple(parts.values()), {name: getattr(self, name) for name in _STATE}

    def __deepcopy__(self, memo: dict[int, Any]) -> MaskSearchAgent:
        """Return an agent of its own over the same weights, search and checkpointer, which are no values to copy."""
        return self.with_config()

    def as_tool(  # type: ignore[override]
        self,
        name: str = "research",
        description: str = "Answer a question by searching a document collection, step by step.",
    ) -> BaseTool:
        """Return the agent as a tool: the answer for the calling model, the `SearchAnswer` as its artifact."""

        return make_research_tool(self, name, description)

    def push_to_hub(self, repo_id: str, is_private: bool = True) -> str:
        """Put the bundle that the agent was restored from on a model hub; see `agent.model_card.push_bundle`."""
        return push_bundle(Path(self.bundle_path), repo_id, is_private)

    def close(self) -> None:
        """Stop the thread of a recording model, which else keeps a local one in memory; the agent stays usable."""
        if isinstance(self.model, RecordingChatModel):
            self.model.close()

    @property
    def model_version(self) -> str:
        """What the model calls itself; recorded as the producer of its trajectories."""
        model = bare_model(self.model)
        return str(getattr(model, "model_version", "") or getattr(model, "model_name", ""))

    # --- training and evaluation -------------------------------------------------------------------------

    async def run_task(
        self,
        task: SearchTask,
        sampling: Sampling | None = None,
        seed: int = 0,
        config: RunnableConfig | None = None,
    ) -> Trajectory:
        """Run a task and return its recorded trajectory.

        Args:
            task: What to answer; a RAMP task is run under its leak guard.
            sampling: How a recording model samples; None for as it is set up (greedily by default). Without a seed of
                its own it gets one of the task and `seed`, so a rollout can be repeated whatever runs beside it.
            seed: Part of the trajectory's id: use another one for each rollout of a task.
            config: As for any Runnable. Where the agent has a checkpointer, a `thread_id` in it has to be a new one;
                without it the rollout gets a thread of its own.

        Raises:
            ThreadReuseError: The thread has run before, or is running.
        """
        return (await self.answer_task(task, seed, sampling, config))[0]

    async def answer_task(
        self,
        task: SearchTask,
        seed: int = 0,
        sampling: Sampling | None = None,
        config: RunnableConfig | None = None,
        messages: Sequence[AnyMessage] = (),
    ) -> tuple[Trajectory, Usage]:
        """Do what `run_task` does, and say what it cost; `messages` open the run in place of the question alone."""
        if sampling is None and isinstance(self.model, RecordingModel):
            top_p = getattr(self.model, "top_p", 1.0)
            sampling = Sampling(temperature=getattr(self.model, "temperature", 0.0), top_p=top_p)
        if sampling is not None and sampling.seed is None:
            run_seed = random.Random(f"{task.id}:{seed}").getrandbits(32)
            sampling = dataclasses.replace(sampling, seed=run_seed)
        run = AgentRun(RunContext(guard=LeakGuard.for_task(task), sampling=sampling, opening=messages))
        asked: SearchInput = {"question": task.question, "kind": task.kind}
        async with self._on_unused_thread(config) as own_config:
            state = await self.graph.ainvoke(asked, own_config, context=run.context)
        return run.outcome(state, self.model_version, task.id, seed)

    def replace(self, **parts: Any) -> MaskSearchAgent:
        """Return an agent like this one with some arguments changed; with another model it has no bundle."""
        changed = MaskSearchAgent(**self._parts() | parts)
        changed.config = self.config
        if "search" not in parts:
            changed._searched = self._searched
        if "model" not in parts:
            changed.bundle, changed.bundle_path = self.bundle, self.bundle_path
        return changed

    def _parts(self) -> dict[str, Any]:
        """Return what the agent is made of; prompts that nobody gave stay those of the model and the settings."""
        return {name: getattr(self, name) for name in _PARTS} | {"prompts": self._given_prompts}

    def with_limits(self, **limits: Any) -> MaskSearchAgent:
        """Return an agent like this one with some of its settings changed."""
        return self.replace(settings=with_limits(self.settings, limits))

    @asynccontextmanager
    async def _on_unused_thread(self, config: RunnableConfig | None) -> AsyncIterator[RunnableConfig | None]:
        """Keep a rollout's thread to itself: on a used one it would silently go on with another conversation."""
        if self.checkpointer is None:
            yield config
            return
        config = merge_configs({"configurable": {"thread_id": uuid.uuid4().hex}}, config)
        thread_id = str(config["configurable"]["thread_id"])
        is_running = thread_id in self._rollout_threads
        self._rollout_threads.add(thread_id)
        try:
            if is_running or (await self.graph.aget_state(config)).created_at is not None:
                raise ThreadReuseError(
                    f"the thread {thread_id!r} has run before, and a rollout on it would go on with its conversation; "
                    f"pass a new `thread_id` for every rollout, or none"
                )
            yield config
        finally:
            if not is_running:
                self._rollout_threads.discard(thread_id)


def _without_default_limit(config: RunnableConfig, given: RunnableConfig) -> RunnableConfig:
    """Return a config without the number of steps that LangChain puts in where the caller set none."""
    left_out = () if "recursion_limit" in given else ("recursion_limit",)
    return cast(RunnableConfig, {key: value for key, value in config.items() if key not in left_out})
