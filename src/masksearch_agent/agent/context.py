"""What one call of the graph may bring: settings of its own, and what only a run of ours has.

`AgentContext` is what applications and servers set, for an assistant or a call, as `context` or under `configurable`;
it is the graph's context schema. Keys that are not ours belong to somebody else, a parent graph or a server, and are
left alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Annotated, Any

from langchain_core.messages import AnyMessage
from langchain_core.runnables import RunnableConfig, ensure_config
from langchain_core.runnables.config import var_child_runnable_config

# Where `get_runtime` looks, whose answer nothing public changes for what a node calls.
from langgraph._internal._constants import CONFIG_KEY_RUNTIME
from pydantic import Field, ValidationError

# pydantic, which makes the schemas that a LangGraph server shows, refuses typing.TypedDict before Python 3.12.
from typing_extensions import TypedDict

from masksearch_agent.config.agent import AgentSettings
from masksearch_agent.errors import AgentError
from masksearch_agent.records import Sampling
from masksearch_agent.retrieval.leak_guard import LeakGuard
from masksearch_agent.traces.recorder import Recorder

__all__ = (
    "AgentContext",
    "Choices",
    "RunContext",
    "as_caller",
    "chosen_by_caller",
    "context_around",
    "run_context",
    "with_limits",
)

_PARTS = ("model", "index")


class AgentContext(TypedDict, total=False):
    """What an assistant or a call may set; what it leaves out is as the agent was made."""

    max_searches: Annotated[int, Field(ge=0, description="Searches of a run.")]
    max_queries: Annotated[int, Field(ge=1, description="Queries in one search.")]
    passages_per_search: Annotated[int, Field(ge=1, description="Passages shown per search.")]
    max_passage_words: Annotated[int, Field(ge=1, description="Words of a passage that are shown.")]
    max_repairs: Annotated[int, Field(ge=0, description="Corrections of malformed steps in a run.")]
    max_step_tokens: Annotated[int, Field(ge=1, description="Sampled tokens of one step.")]
    max_sampled_tokens: Annotated[int, Field(ge=1, description="Sampled tokens of a run.")]
    time_limit_s: Annotated[float, Field(gt=0, description="Seconds of a run.")]
    model: Annotated[str, Field(description="A chat model by its name, as `openai:gpt-5-mini`.")]
    index: Annotated[
        str, Field(description="Folder of the index to search, or `web:` and the name of a search.")
    ]


@dataclass(frozen=True)
class RunContext:
    """Run-scoped dependencies of a run of ours, passed as `context=` in place of an `AgentContext`."""

    recorder: Recorder | None = None
    """Collects the trace of the run; needed for a `Trajectory`. The graph takes one recorder a run; `MaskSearchAgent`
    makes one for every run itself, and this one then holds the turns of all of them."""
    guard: LeakGuard | None = None
    """Withholds the source of a RAMP task from retrieval."""
    sampling: Sampling | None = None
    """Overrides the sampling settings of a recording model."""
    opening: Sequence[AnyMessage] = ()
    """What opens the run in place of the question alone, word for word."""
    caller: Any = None
    """The context that the caller of the agent passed."""
    is_for_agent: bool = False
    """Whether `caller` was passed to the agent itself, and is not that of a parent graph."""


@dataclass(frozen=True)
class Choices:
    """What callers may choose by name (`AgentContext`). Nothing by default: a client of a server is such a caller, and
    a name may be a model that costs its owner money, or any folder of the machine."""

    models: tuple[str, ...] = ()
    indexes: tuple[str, ...] = ()

    @classmethod
    def listed(cls, models: str, indexes: str) -> Choices:
        """Return the choices of two lists of names with commas between them, as environment variables hold them."""
        lists = ([name.strip() for name in names.split(",")] for names in (models, indexes))
        return cls(*(tuple(filter(None, names)) for names in lists))

    def names(self, key: str) -> tuple[str, ...]:
        """Return what may stand under a key of the context."""
        return self.models if key == "model" else self.indexes


def run_context(context: object) -> RunContext:
    """Return a run's own context; as a subgraph, the graph is handed its parent's, which may be of any type."""
    return context if isinstance(context, RunContext) else RunContext(caller=context)


def context_around() -> object:
    """Return the context of the graph whose node calls; None outside of all."""
    runtime = ensure_config().get("configurable", {}).get(CONFIG_KEY_RUNTIME)
    return run_context(getattr(runtime, "context", None)).caller


@contextmanager
def as_caller() -> Iterator[None]:
    """Let what a node calls, such as a retriever of the application, see its caller's context, not the run's own."""
    config: RunnableConfig = var_child_runnable_config.get(None) or {}
    runtime = config.get("configurable", {}).get(CONFIG_KEY_RUNTIME)
    if runtime is None or not isinstance(runtime.context, RunContext):
        yield
        return
    seen = runtime.override(context=runtime.context.caller)
    before = var_child_runnable_config.set(
        {**config, "configurable": {**config["configurable"], CONFIG_KEY_RUNTIME: seen}}
    )
    try:
        yield
    finally:
        var_child_runnable_config.reset(before)


def chosen_by_caller(context: RunContext, config: RunnableConfig, choices: Choices) -> dict[str, Any]:
    """Return what the caller chose of `AgentContext`, the context before the config.

    Inside a parent graph, `model` and `index` of the parent are its own words, and are not read; in a context that was
    passed to the agent there (`agent.invoke(…, context=…)`) they are.

    Raises:
        AgentError: A value cannot be used, or not be chosen. What a parent graph says is left alone instead.
    """
    configurable = config.get("configurable", {})
    chosen = _ours(configurable)
    passed = _ours(context.caller) if isinstance(context.caller, Mapping) else {}
    if "|" in configurable.get("checkpoint_ns", ""):
        overheard = chosen if context.is_for_agent else {**chosen, **passed}
        chosen = {k: v for k, v in overheard.items() if k not in _PARTS and not _problem(k, v, choices)}
        passed = passed if context.is_for_agent else {}
    chosen |= passed
    problems = [f"{key}: {what}" for key, value in chosen.items() if (what := _problem(key, value, choices))]
    if problems:
        raise AgentError(
            f"the call sets what cannot be used ({'; '.join(problems)}); correct it or leave it out"
        )
    return chosen


def with_limits(settings: AgentSettings, chosen: Mapping[str, Any]) -> AgentSettings:
    """Return settings with the limits that a caller chose.

    Raises:
        AgentError: They do not fit together.
    """
    limits = {key: value for key, value in chosen.items() if key not in _PARTS}
    # What was not set stays unset: some limits hold for API models only where they were set.
    try:
        return AgentSettings.model_validate({**settings.model_dump(exclude_unset=True), **limits})
    except ValidationError as failure:
        told = "; ".join(error["msg"].removeprefix("Value error, ") for error in failure.errors())
        raise AgentError(f"the agent cannot have the limits that were set: {told}") from failure


def _ours(given: Mapping[str, Any]) -> dict[str, Any]:
    return {key: given[key] for key in AgentContext.__annotations__ if given.get(key) is not None}


def _problem(key: str, value: object, choices: Choices) -> str:
    """Return what is wrong with a value, `""` where nothing is."""
    if key in _PARTS:
        if not isinstance(value, str):
            return f"expected a name, got {type(value).__name__}"
        allowed = choices.names(key)
        listed = f"one of {', '.join(allowed)}" if allowed else "none, as the agent lists none (`Choices`)"
        return "" if value in allowed else f"{value!r} may not be chosen; expected {listed}"
    try:
        AgentSettings.model_validate({key: value})
    except ValidationError as failure:
        return str(failure.errors()[0]["msg"])
    return ""
