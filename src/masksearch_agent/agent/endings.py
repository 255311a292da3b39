"""Why a model ended its reply, as providers say it beside the text."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from langchain_core.messages import BaseMessage

__all__ = ("is_cut", "is_refusal", "refusal_text")

_KEYS = ("finish_reason", "stop_reason", "stopReason", "done_reason")
_CUT = (
    "length",
    "max_tokens",
    "max_output_tokens",
    "model_length",
    "model_context_window_exceeded",
)
_REFUSED = (
    "refusal",
    "content_filter",
    "content_filtered",
    "guardrail_intervened",
    "safety",
    "prohibited_content",
    "blocklist",
    "spii",
)


def is_cut(reply: BaseMessage) -> bool:
    """Whether a limit on tokens ended a reply."""
    return any(reason in _CUT for reason in _reasons(reply))


def is_refusal(reply: BaseMessage) -> bool:
    """Whether a model says, apart from its text, that it will not answer."""
    return bool(refusal_text(reply)) or any(reason in _REFUSED for reason in _reasons(reply))


def refusal_text(reply: BaseMessage) -> str:
    """Return what a model says where it refuses."""
    blocks: Iterable[Any] = reply.content if isinstance(reply.content, list) else ()
    said = [
        block.get("refusal") for block in blocks if isinstance(block, dict) and block.get("type") == "refusal"
    ]
    return " ".join(filter(None, [reply.additional_kwargs.get("refusal"), *said]))


def _reasons(reply: BaseMessage) -> Iterator[str]:
    told = reply.response_metadata
    yield from (str(told.get(key)).lower() for key in _KEYS)
    details = told.get("incomplete_details")  # OpenAI's Responses API
    yield str(details.get("reason") if isinstance(details, dict) else "")
