"""What the scripted applications of `tests/ecosystem` share: a chat model that takes tools, and an agent to embed."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from fakes.chat_models import ScriptedChatModel
from fakes.retrievers import DictRetriever
from langchain_core.messages import BaseMessage
from langchain_core.runnables import Runnable

from masksearch_agent import AgentSettings, MaskSearchAgent

FOUNDERS = {
    "founder of Harrow": ["Harrow: Ada founded Harrow."],
    "founder of Velling": ["Velling: Bo founded Velling."],
}
MARKS = ("<think>", "<search>", "<answer>", "<information>")
"""What must not be seen outside of our agent."""


class ToolCallingModel(ScriptedChatModel):
    """A scripted model that takes tools, and calls those that its script calls."""

    def bind_tools(self, tools: Sequence[Any], **kwargs: Any) -> Runnable[Any, Any]:
        return self


def call(company: str, call_id: str, name: str = "research", argument: str = "question") -> dict[str, Any]:
    """Return a call of our agent as a tool."""
    return {"name": name, "args": {argument: f"Who founded {company}?"}, "id": call_id, "type": "tool_call"}


def look_up(messages: list[BaseMessage]) -> str:
    """Search for the founder who is asked for, and answer with whoever a passage says it is."""
    said = str(messages[-1].text)
    told = re.search(r"\] \w+: (\w+) founded", said)
    if told:
        return f"<think>It says so.</think><answer>{told[1]}</answer>"
    company = re.findall(r"Who founded (\w+)", said)[-1]
    return f"<think>Look it up.</think><search>founder of {company}</search>"


def make_searcher(model: Any = None, search: Any = None, **limits: Any) -> MaskSearchAgent:
    """Return our agent as an application makes it."""
    search = search or DictRetriever(entries=FOUNDERS)
    return MaskSearchAgent(model or ScriptedChatModel(script=look_up), search, AgentSettings(**limits))
