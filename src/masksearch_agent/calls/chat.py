"""A chat model as something that can be asked for typed replies.

A malformed reply is answered with what is wrong with it, a bounded number of times; what stays malformed is
rejected with its reason. Every call is logged as a turn with its role, and counted.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage
from langchain_core.runnables import Runnable

from masksearch_agent.calls.accounting import CallLog, Spending
from masksearch_agent.calls.connections import open_many_calls_model
from masksearch_agent.calls.patience import PatientCaller
from masksearch_agent.calls.replies import ReplyT, parse_tagged, validate_reply
from masksearch_agent.config.calls import CallSettings, ChatModelSettings
from masksearch_agent.errors import MissingExtraError, ReplyError, ServiceRefusedError, needs_extra
from masksearch_agent.records import Message, Turn, Usage

__all__ = ("ChatCaller", "open_chat_caller", "open_chat_model")

_REPAIR = "Your reply cannot be used: {problem}. Write the whole reply again in exactly the form that was asked for."
_UNREADABLE = frozenset({"ContentFilterFinishReasonError", "LengthFinishReasonError", "ValidationError"})
"""What openai and pydantic raise where a structured reply is cut off, withheld or of another form."""
_CHARS_PER_TOKEN = 4
"""Assumed where a reply does not report its usage."""


class ChatCaller:
    """Asks one chat model.

    Args:
        model: Any LangChain chat model. Its own retries should be off; they would multiply with these.
        name: Its name in traces; the model's own where None.
        is_structured: Ask through `with_structured_output`, for models that have it, instead of tags.
        prices_usd: Of a million prompt tokens and of a million sampled tokens.
        spending: Where its calls are counted.
    """

    def __init__(
        self,
        model: BaseChatModel,
        name: str | None = None,
        calls: CallSettings | None = None,
        *,
        is_structured: bool = False,
        prices_usd: tuple[float, float] = (0.0, 0.0),
        spending: Spending | None = None,
    ) -> None:
        named = name or getattr(model, "model_name", None) or getattr(model, "model", None)
        self.name = named if isinstance(named, str) else type(model).__name__
        self.spending = Spending() if spending is None else spending
        self.is_structured = is_structured
        self._model = model
        self._prices_usd = prices_usd
        self._caller = PatientCaller(self.name, calls)

    async def ask(
        self,
        messages: Sequence[Message],
        schema: type[ReplyT],
        role: str,
        *,
        check: Callable[[ReplyT], str] | None = None,
        max_repairs: int = 2,
        log: CallLog | None = None,
        turn_id: str = "0",
    ) -> ReplyT:
        """Return the model's reply.

        Args:
            role: Who speaks; for the trace and the accounts.
            check: Says what else is wrong with a reply, `""` where nothing is.
            max_repairs: How often to tell the model what is wrong.
            log: Where the calls are written, as `turn_id` and, for repairs, with their number.

        Raises:
            ReplyError: The reply stayed malformed; the message is short and names the reason.
            ServiceError: The model's server kept failing.
            ServiceRefusedError: The server refuses for good.
        """
        log = CallLog() if log is None else log
        sent, new = list(messages), tuple(messages)
        parent_id: str | None = None
        problem = ""
        for attempt in range(max_repairs + 1):
            text, value = await self._reply(sent, schema, role, log)
            identity = turn_id if attempt == 0 else f"{turn_id}.repair{attempt}"
            log.turns.append(Turn(identity, parent_id, role, new, text, model_version=self.name))
            problem = value if isinstance(value, str) else check(value) if check is not None else ""
            if not isinstance(value, str) and not problem:
                return value
            parent_id, new = identity, (Message("user", _REPAIR.format(problem=problem)),)
            sent += [Message("assistant", text), *new]
        raise ReplyError(f"{role} reply malformed: {problem}")

    async def _reply(
        self, messages: Sequence[Message], schema: type[ReplyT], role: str, log: CallLog
    ) -> tuple[str, ReplyT | str]:
        """Call the model once, however many attempts that takes."""
        model: Runnable[Any, Any] = self._model
        if self.is_structured:
            model = self._model.with_structured_output(schema, include_raw=True)
        conversation = [(message.role, message.content) for message in messages]
        started_s = time.monotonic()
        output = await self._caller.call(lambda: self._attempt(model, conversation))
        message: AIMessage = output["raw"] if self.is_structured else output
        usage = self._usage_of(message, conversation, time.monotonic() - started_s)
        self.spending.add(role, usage)
        log.usage += usage
        if self.is_structured:
            return _structured_reply(message, output["parsed"], schema)
        return str(message.text), parse_tagged(str(message.text), schema)

    async def _attempt(self, model: Runnable[Any, Any], conversation: Sequence[tuple[str, str]]) -> Any:
        try:
            return await model.ainvoke(conversation)
        except Exception as failure:
            if not self.is_structured or type(failure).__name__ not in _UNREADABLE:
                raise
            # The client read the reply itself, and the reply is what is wrong, not its server.
            return {"raw": AIMessage(""), "parsed": None}

    def _usage_of(self, reply: AIMessage, sent: Sequence[tuple[str, str]], seconds: float) -> Usage:
        reported: Mapping[str, int] = getattr(reply, "usage_metadata", None) or {}
        sent_chars = sum(len(content) for _, content in sent)
        prompt_tokens = reported.get("input_tokens", sent_chars // _CHARS_PER_TOKEN)
        sampled_tokens = reported.get("output_tokens", len(str(reply.text)) // _CHARS_PER_TOKEN)
        prompt_usd, sampled_usd = self._prices_usd
        cost_usd = (prompt_tokens * prompt_usd + sampled_tokens * sampled_usd) / 1e6
        return Usage(1, prompt_tokens, sampled_tokens, 0, seconds, cost_usd)


def open_chat_model(
    settings: ChatModelSettings, *, has_many_calls: bool = False, retries_itself: bool = False
) -> BaseChatModel:
    """Open a chat model by its name, with its key from the environment.

    With `has_many_calls`, hundreds of calls may be in flight at once; the caller then awaits
    `connections.close_connections` before its event loop ends. With `retries_itself`, the client tries failed calls
    again as its provider's package does by default, for a caller that does not; else it has no retries of its own.

    Raises:
        MissingExtraError: LangChain, or its package for OpenAI, is not installed.
        ServiceRefusedError: The model cannot be set up, mostly because its key is not set, or because LangChain's
            package for another provider is not installed.
    """
    with needs_extra("llm"):
        from langchain.chat_models import init_chat_model
    options = settings.model_dump(include={"base_url", "temperature", "max_tokens"}, exclude_none=True)
    # The caller retries and times out itself, in the same way for every provider.
    options |= {} if retries_itself else {"max_retries": 0}
    provider, _, name = settings.model.partition(":")
    try:
        if has_many_calls and provider == "openai":
            return open_many_calls_model(name, **options)
        model: BaseChatModel = init_chat_model(settings.model, **options)
        return model
    except ImportError as failure:
        if provider == "openai":
            raise MissingExtraError(failure.name or settings.model, "llm") from failure
        raise _package_missing(settings.model, provider) from failure
    except Exception as failure:  # noqa: BLE001 (raised again, without what it may tell about keys)
        # Where LangChain's package is missing, some models are looked for in their old place, too.
        if isinstance(failure, AttributeError) and "langchain_community" in str(failure):
            raise _package_missing(settings.model, provider) from None
        raise ServiceRefusedError(
            f"cannot set up the chat model {settings.model!r}: {type(failure).__name__}; expected `provider:name` and "
            "the provider's API key in the environment (for OpenAI, OPENAI_API_KEY)"
        ) from None


def _package_missing(model: str, provider: str) -> ServiceRefusedError:
    return ServiceRefusedError(
        f"cannot set up the chat model {model!r}: LangChain's package for {provider} is not installed; run "
        f"`pip install langchain-{provider.replace('_', '-')}`, or what "
        "https://docs.langchain.com/oss/python/integrations/chat names"
    )


def open_chat_caller(
    settings: ChatModelSettings, spending: Spending | None = None, *, has_many_calls: bool = False
) -> ChatCaller:
    """Open a chat model by its name as something to ask; as `open_chat_model`, and raises what that raises."""
    return ChatCaller(
        open_chat_model(settings, has_many_calls=has_many_calls),
        settings.model,
        settings.calls,
        is_structured=settings.structured,
        prices_usd=(settings.usd_per_million_prompt_tokens, settings.usd_per_million_sampled_tokens),
        spending=spending,
    )


def _structured_reply(raw: AIMessage, parsed: Any, schema: type[ReplyT]) -> tuple[str, ReplyT | str]:
    """Return a structured output as the text it was and the value it holds."""
    arguments = raw.tool_calls[0]["args"] if raw.tool_calls else None
    text = str(raw.text) or json.dumps(arguments, ensure_ascii=False)
    if isinstance(parsed, schema):
        return text, parsed
    if arguments is not None:
        return text, validate_reply(arguments, schema)
    return text, "it does not follow the schema"
