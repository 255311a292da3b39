"""The model and the search of a run, held to its limits."""

from __future__ import annotations

import math
import random
from collections.abc import Awaitable, Mapping, Sequence
from contextlib import suppress
from functools import lru_cache
from typing import Any

from langchain_core.language_models import BaseChatModel, BaseLLM
from langchain_core.messages import AIMessage, AnyMessage
from langchain_core.runnables import Runnable
from pydantic import BaseModel

from masksearch_agent.agent.context import RunContext, with_limits
from masksearch_agent.agent.dialects import choose_dialect
from masksearch_agent.agent.marks import numbers_go_on
from masksearch_agent.agent.prompts import PromptSet, default_prompts
from masksearch_agent.agent.protocol import clean_text
from masksearch_agent.agent.search_runs import arun_as_retriever, run_as_retriever
from masksearch_agent.agent.speech import tell_streams_what_is_said
from masksearch_agent.agent.structure import Filled, Structurer
from masksearch_agent.agent.text_turns import without_turn_ids
from masksearch_agent.agent.wrapped_models import bare_model, changed_within
from masksearch_agent.calls.chat import open_chat_model
from masksearch_agent.concurrency import afinish_within, finish_within, is_bound_to_thread
from masksearch_agent.config.agent import AgentSettings
from masksearch_agent.config.calls import ChatModelSettings
from masksearch_agent.errors import AgentError, OutOfTimeError
from masksearch_agent.models.answer_spans import AnswerSpans
from masksearch_agent.records import MASK, ScoredPassage
from masksearch_agent.retrieval.adapters import as_search
from masksearch_agent.retrieval.search import Search
from masksearch_agent.traces.recorder import CallRecording, RecordingModel
from masksearch_agent.traces.rows import POLICY_ROLE

__all__ = ("Parts", "open_model", "prompts_for")

_LIMIT_FIELDS = ("max_tokens", "max_completion_tokens", "max_output_tokens", "max_new_tokens", "num_predict")
"""What integrations call the limit on the tokens of a reply."""


def open_model(model: BaseChatModel | str) -> BaseChatModel:
    """Return a chat model, opened by its name (`provider:model`) where it is a string, as `create_agent` opens it.

    Raises:
        AgentError: It is no chat model.
        MissingExtraError: langchain or the provider's package is not installed.
        ServiceRefusedError: There is no such model, or its key is missing.
    """
    if not isinstance(model, str) or not model:
        if not isinstance(model, Runnable) or isinstance(bare_model(model), BaseLLM):
            what = f"the class {model.__name__}" if isinstance(model, type) else f"a {type(model).__name__}"
            raise AgentError(
                f"`model` is {what if model != '' else 'empty'}; expected a chat model, or the name of one, as "
                f"`openai:gpt-5-mini`"
            )
        return model
    # The roles of the generator are called through what retries and expects short replies. Nothing stands before an
    # agent's model: one refused call would end its run, and one limit cut a reasoning model's thoughts.
    return open_chat_model(ChatModelSettings(model=model, max_tokens=None), retries_itself=True)


def prompts_for(model: BaseChatModel, settings: AgentSettings) -> PromptSet:
    """Return the prompts of a model whose user brings none: it is asked to cite where the numbers go on."""
    return default_prompts(settings.dialect, numbers_go_on(settings, isinstance(model, RecordingModel)))


class Parts:
    """What a run asks, and for how long."""

    def __init__(
        self,
        model: BaseChatModel,
        search: Search,
        settings: AgentSettings,
        prompts: PromptSet,
        response_format: type[BaseModel] | None = None,
    ) -> None:
        self.model = model
        self.search = search
        self.settings = settings
        # Asked once: a check against a protocol takes as long as the rest of a step's preparation.
        self.is_recording = isinstance(model, RecordingModel)
        self.numbers_go_on = numbers_go_on(settings, self.is_recording)
        """Whether `[n]` means one passage of the run."""
        is_set = self.is_recording or "max_sampled_tokens" in settings.model_fields_set
        self.max_sampled_tokens = settings.max_sampled_tokens if is_set else math.inf
        """Where the run ends; the thoughts of a reasoning model alone may be more than the default."""
        self.dialect = choose_dialect(settings, prompts, model)
        self.caller = self.dialect.caller(model)
        self.is_tagged = settings.dialect == "tags"
        if settings.answers_from_passages and not getattr(model, "can_hold_answers", False):
            raise AgentError(
                f"{type(model).__name__} cannot hold answers to the passages that were read, which needs weights in "
                f"this process (`LocalChatModel`); set `answers_from_passages=False`"
            )
        self.structurer = Structurer(model, response_format) if response_format is not None else None
        self._prompts = prompts
        self._response_format = response_format
        self._chosen = lru_cache(maxsize=64)(self._choose)

    def chosen(self, choice: Mapping[str, Any]) -> Parts:
        """Return the parts of a run whose caller chose some of them (`AgentContext`)."""
        return self._chosen(tuple(sorted(choice.items()))) if choice else self

    def _choose(self, choice: tuple[tuple[str, Any], ...]) -> Parts:
        chosen = dict(choice)
        model = open_model(chosen["model"]) if "model" in chosen else self.model
        search = as_search(chosen["index"]) if "index" in chosen else self.search
        settings = with_limits(self.settings, chosen)
        return Parts(model, search, settings, self._prompts, self._response_format)

    def call(self, messages: list[AnyMessage], keywords: dict[str, Any], left_s: float) -> AIMessage:
        """Call the model; what a recording model samples is never cut off, so that it is recorded.

        Raises:
            OutOfTimeError: No reply came in the time that is left.
        """
        caller, keywords = self._limited(keywords)
        tell_streams_what_is_said(self.is_tagged)
        if self.is_recording:
            return caller.invoke(messages, **keywords)
        said = without_turn_ids(messages)
        return finish_within(left_s, lambda: caller.invoke(said, **keywords))

    async def acall(self, messages: list[AnyMessage], keywords: dict[str, Any], left_s: float) -> AIMessage:
        """Do what `call` does, without blocking."""
        caller, keywords = self._limited(keywords)
        tell_streams_what_is_said(self.is_tagged)
        if self.is_recording:
            return await caller.ainvoke(messages, **keywords)
        return await afinish_within(left_s, caller.ainvoke(without_turn_ids(messages), **keywords))

    def find(
        self, queries: Sequence[str], depth: int, context: RunContext, left_s: float
    ) -> list[list[ScoredPassage]]:
        """Search.

        Raises:
            OutOfTimeError: It took longer than the time that is left.
        """
        if self.search.is_traced:
            return self._find(queries, depth, context, left_s)
        return run_as_retriever(queries, lambda: self._find(queries, depth, context, left_s))

    def _find(
        self, queries: Sequence[str], depth: int, context: RunContext, left_s: float
    ) -> list[list[ScoredPassage]]:
        try:
            return finish_within(left_s, lambda: self.search.search(queries, depth, context.guard))
        except Exception as failure:
            if not is_bound_to_thread(failure):
                raise
            # What only the thread may use that opened it is searched there, without a limit.
            return self.search.search(queries, depth, context.guard)

    async def afind(
        self, queries: Sequence[str], depth: int, context: RunContext, left_s: float
    ) -> list[list[ScoredPassage]]:
        """Do what `find` does, without blocking."""

        def find() -> Awaitable[list[list[ScoredPassage]]]:
            return afinish_within(left_s, self.search.asearch(queries, depth, context.guard))

        return await (find() if self.search.is_traced else arun_as_retriever(queries, find))

    def fill(self, state: Mapping[str, Any], left_s: float) -> Filled:
        """Fill in the form of the application, if there is an answer and the time is enough (`Structurer`)."""
        if (structurer := self.structurer) is not None:
            with suppress(OutOfTimeError):
                return finish_within(left_s, lambda: structurer.fill(state))
        return Filled()

    async def afill(self, state: Mapping[str, Any], left_s: float) -> Filled:
        """Do what `fill` does, without blocking."""
        if self.structurer is not None:
            with suppress(OutOfTimeError):
                return await afinish_within(left_s, self.structurer.afill(state))
        return Filled()

    def call_settings(
        self, calls: int, sampled_tokens: int, context: RunContext, last_turn_id: str | None
    ) -> dict[str, Any]:
        """Return the keywords of a model call.

        Args:
            calls: Replies that the transcript holds.
            sampled_tokens: Of the run, so far.
            last_turn_id: The turn that the call continues.
        """
        # A reasoning model needs more than a step of ours: it is limited where somebody says so.
        is_set = self.is_recording or "max_step_tokens" in self.settings.model_fields_set
        limit = min(
            self.settings.max_step_tokens if is_set else math.inf,
            max(1, self.max_sampled_tokens - sampled_tokens),
        )
        keywords: dict[str, Any] = {"max_tokens": limit} if limit < math.inf else {}
        if not self.is_recording:
            return keywords
        if context.sampling is not None:
            keywords |= {"temperature": context.sampling.temperature, "top_p": context.sampling.top_p}
            if context.sampling.seed is not None:
                # Every call of a run gets a seed of its own.
                keywords["seed"] = random.Random(f"{context.sampling.seed}:{calls}").getrandbits(32)
        if context.recorder is not None:
            keywords["recording"] = CallRecording(context.recorder, POLICY_ROLE, last_turn_id)
        return keywords

    def allowed_answers(self, state: Mapping[str, Any]) -> AnswerSpans | None:
        """Return what the next answer may be where it is held to the passages; None for a masked passage that is to be
        repeated."""
        masks = state["asked"].count(MASK)
        if masks and self.settings.answer_form == "passage":
            return None
        shown = [passage for found in state["searches"] for passage in found["passages"]]
        texts = [clean_text(passage[part]) for passage in shown for part in ("title", "text")]
        is_numbered = masks > 0 and self.settings.answer_form == "fills"
        return AnswerSpans((state["asked"], *dict.fromkeys(texts)), max(1, masks), is_numbered)

    def _limited(self, keywords: dict[str, Any]) -> tuple[Runnable[Any, AIMessage], dict[str, Any]]:
        """Return what to call and its keywords, the limit under the name that the model has for it."""
        if self.is_recording or "max_tokens" not in keywords:
            return self.caller, keywords
        bare = bare_model(self.model)
        name = next(
            (name for name in _LIMIT_FIELDS if name in getattr(type(bare), "model_fields", {})), "max_tokens"
        )
        own = getattr(bare, name, None)
        limit = (
            min(keywords["max_tokens"], own) if isinstance(own, int) and own > 0 else keywords["max_tokens"]
        )
        rest = {key: value for key, value in keywords.items() if key != "max_tokens"}
        if name == "num_predict":  # Ollama takes it with the model, not with a call.
            limited: Any = changed_within(self.model, lambda bare: bare.model_copy(update={name: limit}))
            return self.dialect.caller(limited), rest
        return self.caller, {**rest, name: limit}
