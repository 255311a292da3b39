"""How a run ends for whoever asked: one reply in plain words, and the same as data."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from langchain_core.messages import AIMessage

from masksearch_agent.agent.escaping import restore
from masksearch_agent.agent.state import StructuredResponse
from masksearch_agent.cited_text import cited_text, uncited_text
from masksearch_agent.errors import AgentError
from masksearch_agent.jsonl import dump_record, load_record
from masksearch_agent.records import Citation

__all__ = ("citation_data", "closing_message", "said_before", "structured_response")

_IS_CITED = "masksearch_cited"
"""Marks, among the keywords of a message, that its numbers and the list that it ends in are ours."""


def closing_message(end: Mapping[str, Any], message_id: str) -> AIMessage:
    """Return the reply: the answer with its citations, or that there is none and why."""
    if not end["answer"]:
        return AIMessage(f"No answer was found ({end['stop_reason']}).", id=message_id)
    text = cited_text(restore(end["answer"]), _citations(end))
    return AIMessage(text, id=message_id, additional_kwargs={_IS_CITED: True} if end["citations"] else {})


def said_before(message: AIMessage) -> str:
    """Return what a reply of an earlier run, or of anybody, says, without citations: a number that stood in it would
    name another passage in this run."""
    return uncited_text(str(message.text), bool(message.additional_kwargs.get(_IS_CITED)))


def structured_response(end: Mapping[str, Any]) -> StructuredResponse:
    """Return the reply as data."""
    citations = _citations(end)
    titles = dict.fromkeys(each.passage.title for each in citations if each.passage.title)
    return StructuredResponse(
        answer=restore(end["answer"]),
        sources=[*titles],
        stop_reason=end["stop_reason"],
        citations=[citation_data(each) for each in citations],
    )


def citation_data(citation: Citation) -> dict[str, Any]:
    """Return a citation for programs of others: what is cited, where it is from, and what rests on it."""
    return {
        "number": citation.number,
        "title": citation.passage.title,
        "source": citation.passage.source,
        "metadata": dump_record(citation.passage).get("metadata", {}),
        "quote": citation.quote,
        "claim": citation.claim,
        "is_claimed": citation.is_claimed,
    }


def _citations(end: Mapping[str, Any]) -> list[Citation]:
    return [load_record(Citation, each, AgentError) for each in end["citations"]]
