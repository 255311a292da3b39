"""How a run ends for whoever asked: one reply in plain words, and the same as data."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from langchain_core.messages import AnyMessage

from masksearch_agent.agent.escaping import restore
from masksearch_agent.agent.state import SearchRound, StructuredResponse
from masksearch_agent.records import StopReason

__all__ = ("closing_text", "is_refusal", "refusal_text", "structured_response")

_REFUSALS = ("refusal", "content_filter", "safety")
"""What providers give as the reason why a reply ended that refuses."""


def closing_text(answer: str, stop_reason: StopReason, searches: Sequence[SearchRound]) -> str:
    """Return the reply: the answer and what it was found in, or that there is none and why."""
    if not answer:
        return f"No answer was found ({stop_reason})."
    sources = _titles(searches)
    return restore(answer) + (f"\nSources: {', '.join(sources)}" if sources else "")


def structured_response(
    answer: str, stop_reason: StopReason, searches: Sequence[SearchRound]
) -> StructuredResponse:
    """Return the reply as data."""
    return StructuredResponse(answer=restore(answer), sources=_titles(searches), stop_reason=stop_reason)


def is_refusal(reply: AnyMessage) -> bool:
    """Whether a model says, apart from its text, that it will not answer."""
    ends = (reply.response_metadata.get(key) for key in ("finish_reason", "stop_reason"))
    return bool(refusal_text(reply)) or any(str(end).lower() in _REFUSALS for end in ends)


def refusal_text(reply: AnyMessage) -> str:
    """Return what a model says where it refuses."""
    blocks: Iterable[Any] = reply.content if isinstance(reply.content, list) else ()
    said = [
        block.get("refusal") for block in blocks if isinstance(block, dict) and block.get("type") == "refusal"
    ]
    return " ".join(filter(None, [reply.additional_kwargs.get("refusal"), *said]))


def _titles(searches: Sequence[SearchRound]) -> list[str]:
    passages = [passage for found in searches for passage in found["passages"]]
    return list(dict.fromkeys(passage["title"] for passage in passages if passage["title"]))
