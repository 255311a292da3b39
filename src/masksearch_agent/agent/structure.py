"""The answer in a form of the application's own: a pydantic model, filled in by one more call of the chat model."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from itertools import chain
from typing import Any, NamedTuple, TypeAlias, cast

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, AnyMessage, HumanMessage, SystemMessage
from langchain_core.runnables import Runnable
from langgraph.constants import TAG_NOSTREAM
from pydantic import BaseModel

from masksearch_agent.agent.protocol import clean_text
from masksearch_agent.agent.wrapped_models import bare_model, changed_within
from masksearch_agent.errors import AgentError, ReplyError
from masksearch_agent.traces.recorder import RecordingModel

__all__ = ("NOTHING_FILLED", "Filled", "Structurer")

_SYSTEM = (
    "A question was answered by searching. Give the answer in the form that is asked for. Take everything from the "
    "answer and the passages; leave out what they do not say."
)
_MAX_REPAIRS = 2
NOTHING_FILLED: dict[str, Any] = {"structured_response": None, "form_usage": {}}
"""What the state of a run says of the form before it is filled in."""


class Filled(NamedTuple):
    """A form, and what it cost."""

    form: dict[str, Any] | None = None
    """As JSON values; None without an answer or without time."""
    model_calls: int = 0
    prompt_tokens: int = 0
    sampled_tokens: int = 0

    def update(self, state: Mapping[str, Any]) -> dict[str, Any]:
        """Return what changes in the state of the run."""
        return {
            "structured_response": self.form,
            "form_usage": {"model_calls": self.model_calls, "prompt_tokens": self.prompt_tokens},
            "sampled_tokens": state["sampled_tokens"] + self.sampled_tokens,
        }


_Plan: TypeAlias = Generator[list[AnyMessage], Mapping[str, Any], Filled]


class Structurer:
    """Fills in a form with what a run found out.

    Args:
        form: A pydantic model.

    Raises:
        AgentError: It is none, or the chat model gives no structured output.
    """

    def __init__(self, model: BaseChatModel, form: type[BaseModel]) -> None:
        if not (isinstance(form, type) and issubclass(form, BaseModel)):
            raise AgentError(
                f"`response_format` is {form!r}; expected a class derived from pydantic's BaseModel"
            )
        hint = "use a chat model that does, or leave `response_format` out and read `SearchAnswer.answer`"
        if isinstance(model, RecordingModel):
            raise AgentError(
                f"`response_format` asks for structured output, and {type(model).__name__} samples the steps that it "
                f"was trained for, and gives none; {hint}"
            )
        try:
            # What fills in the form is no answer to show while it is written.
            filler = changed_within(
                model, lambda bare: bare.with_structured_output(form, include_raw=True), replaced=None
            )
        except (NotImplementedError, AttributeError, ValueError) as failure:
            name = type(bare_model(model)).__name__
            raise AgentError(f"{name} gives no structured output; {hint}") from failure
        self._filler: Runnable[Any, Any] = filler.with_config(tags=[TAG_NOSTREAM], run_name="fill_in_form")
        self._form = form

    def fill(self, state: Mapping[str, Any]) -> Filled:
        """Return the form filled in from the state of a finished run.

        Raises:
            ReplyError: What the model gave did not fit, three times.
        """
        if not state["answer"]:
            return Filled()
        plan = self._plan(state)
        messages = next(plan)
        while True:
            try:
                messages = plan.send(self._filler.invoke(messages))
            except StopIteration as filled:
                return cast(Filled, filled.value)

    async def afill(self, state: Mapping[str, Any]) -> Filled:
        """Do what `fill` does, without blocking."""
        if not state["answer"]:
            return Filled()
        plan = self._plan(state)
        messages = next(plan)
        while True:
            output = await self._filler.ainvoke(messages)
            try:
                messages = plan.send(output)
            except StopIteration as filled:
                return cast(Filled, filled.value)

    def _plan(self, state: Mapping[str, Any]) -> _Plan:
        asked, read, sampled, problem = _asked(state), 0, 0, ""
        for calls in range(1, _MAX_REPAIRS + 2):
            said = f"{asked}\n\nYour last reply did not fit: {problem}" if problem else asked
            output = yield [SystemMessage(_SYSTEM), HumanMessage(said)]
            usage: Any = output["raw"].usage_metadata if isinstance(output["raw"], AIMessage) else None
            read += usage.get("input_tokens", 0) if usage else 0
            sampled += usage.get("output_tokens", 0) if usage else 0
            parsed = output["parsed"]
            if isinstance(parsed, self._form):
                return Filled(parsed.model_dump(mode="json"), calls, read, sampled)
            problem = str(output.get("parsing_error") or "it is not in the form that is asked for")[:1000]
        raise ReplyError(f"the answer was not given as {self._form.__name__}: {problem}")


def _asked(state: Mapping[str, Any]) -> str:
    # An answer that goes on with a conversation may rest on what was found before.
    searches = chain(state.get("earlier", ()), state["searches"])
    passages = {passage["id"]: passage for found in searches for passage in found["passages"]}
    shown = [f"- {clean_text(p['title'])}: {clean_text(p['text'])}" for p in passages.values()]
    return "\n".join([f"Question: {state['asked']}", "Passages:", *shown, f"Answer: {state['answer']}"])
