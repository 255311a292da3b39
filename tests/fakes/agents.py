"""An agent whose model searches once and then answers with the question, so that a test knows what it says."""

from __future__ import annotations

from typing import Any

from fakes.chat_models import ScriptedChatModel
from fakes.retrievers import DictRetriever
from langchain_core.messages import BaseMessage
from langchain_core.runnables import RunnableConfig

from masksearch_agent.agent.prompts import COMPACT_PROMPTS
from masksearch_agent.agent.runnable import MaskSearchAgent
from masksearch_agent.config.agent import AgentSettings

SEARCH = "<think>who?</think><search>founder of Harrow</search>"
ANSWER = "<think>found</think><answer>Ada</answer>"
PASSAGES = {
    "founder of Harrow": ["Harrow: Ada founded Harrow.", "Ada: Ada is a founder."],
    "Ada": ["Ada: Ada is a founder.", "Lists: Ada, Bram."],
}
THREAD: RunnableConfig = {"configurable": {"thread_id": "t"}}


def echo(messages: list[BaseMessage]) -> str:
    """Search once, then answer with the last question."""
    if messages[-1].text.startswith("<information>"):
        question = [m for m in messages if m.type == "human" and not m.text.startswith("<")][-1]
        return f"<think>ok</think><answer>{question.text}</answer>"
    return SEARCH


def make_agent(model: Any = None, checkpointer: Any = None, **limits: Any) -> MaskSearchAgent:
    """Return an agent over `PASSAGES`; without a model, one that echoes."""
    model = model or ScriptedChatModel(script=echo)
    retriever = DictRetriever(entries=PASSAGES)
    return MaskSearchAgent(model, retriever, AgentSettings(**limits), COMPACT_PROMPTS, checkpointer)
