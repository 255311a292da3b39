"""What the tools of the MCP server return to programs, beside the text for models."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from pydantic import BaseModel

from masksearch_agent.agent.closing import citation_data
from masksearch_agent.cited_text import url_of
from masksearch_agent.records import Passage, SearchAnswer

__all__ = ("Answer", "Cited", "Result", "Results")


class Result(BaseModel):
    """A passage."""

    title: str
    source: str
    """Where its document came from: an address, a file name or the id of a dataset."""
    url: str
    """The address of its document on the web; empty where none is known."""
    text: str
    metadata: dict[str, Any] = {}

    @classmethod
    def of(cls, passage: Passage) -> Result:
        """Return a passage for programs of others."""
        return cls(
            title=passage.title,
            source=passage.source,
            url=url_of(passage),
            text=passage.text,
            metadata=dict(passage.metadata),
        )


class Results(BaseModel):
    """What a search found."""

    results: list[Result]

    @classmethod
    def of(cls, passages: Iterable[Passage]) -> Results:
        """Return passages for programs of others, in their order."""
        return cls(results=[Result.of(each) for each in passages])


class Cited(BaseModel):
    """A sentence of a passage that the answer, or a claim in it, rests on."""

    number: int
    """Of the passage, the `n` of the `[n]` in the text of the answer."""
    title: str
    source: str
    url: str
    metadata: dict[str, Any] = {}
    quote: str
    """The sentence; empty where the passage as a whole is meant."""
    claim: str
    """What rests on it: the answer, or a sentence or line of it."""
    is_claimed: bool
    """Whether the agent cited or quoted it itself; else it was found for the answer."""


class Answer(BaseModel):
    """What the agent answered."""

    answer: str
    stop_reason: str
    searches: list[list[str]]
    sources: list[Result]
    citations: list[Cited]

    @classmethod
    def of(cls, answer: SearchAnswer) -> Answer:
        """Return an answer for programs of others."""
        return cls(
            answer=answer.answer,
            stop_reason=answer.stop_reason,
            searches=[list(queries) for queries in answer.searches],
            sources=[Result.of(each) for each in answer.sources],
            citations=[Cited(**citation_data(each), url=url_of(each.passage)) for each in answer.citations],
        )
