"""How a run opens: the system prompt, worked examples, the question and, where it was searched for, what was found."""

from __future__ import annotations

from collections.abc import Sequence

from langchain_core.messages import AnyMessage, HumanMessage, SystemMessage

from masksearch_agent.agent.escaping import neutralise, restore
from masksearch_agent.agent.prompts import PromptSet
from masksearch_agent.agent.protocol import render_information
from masksearch_agent.records import MASK, Passage

__all__ = ("opening_messages", "opening_query", "opening_text")


def opening_messages(
    question: str, kind: str, prompts: PromptSet, search_first: bool = False
) -> list[AnyMessage]:
    """Return the messages that open a run, worked examples included; outside text in the question is made harmless.

    Args:
        search_first: Whether the runs of the examples begin with the results of a search (`AgentSettings`), as this one
            will when they are added to its question.
    """
    examples = prompts.examples_for(kind)
    shown = [message for example in examples for message in example.messages(search_first)]
    return [SystemMessage(prompts.system_for(kind)), *shown, HumanMessage(neutralise(question))]


def opening_text(question: str, shown: Sequence[Passage]) -> str:
    """Return what opens a run whose question was searched for first: what is asked, and what was found."""
    return f"{question}\n{render_information(shown)}"


def opening_query(question: str) -> str:
    """Return what the opening search asks: the question as it came, and of a masked passage all but the masks."""
    return restore(question).replace(MASK, " ")
