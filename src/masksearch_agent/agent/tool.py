"""An agent as a tool of another one."""

from __future__ import annotations

from typing import Annotated, Any

from langchain_core.runnables import Runnable
from langchain_core.tools import BaseTool, StructuredTool
from pydantic import AfterValidator

from masksearch_agent.agent.opening import require_question
from masksearch_agent.records import SearchAnswer

__all__ = ("make_research_tool",)

# A calling model that asks nothing made the mistake, and is told of it as of any wrong argument.
_Question = Annotated[str, AfterValidator(require_question)]


def make_research_tool(agent: Runnable[Any, SearchAnswer], name: str, description: str) -> BaseTool:
    """Return an agent as a tool: the answer for the calling model, the `SearchAnswer` as its artifact."""

    def research(question: _Question) -> tuple[str, SearchAnswer]:
        answer = agent.invoke(question)
        return answer.text, answer

    async def aresearch(question: _Question) -> tuple[str, SearchAnswer]:
        answer = await agent.ainvoke(question)
        return answer.text, answer

    return StructuredTool.from_function(
        research, aresearch, name=name, description=description, response_format="content_and_artifact"
    )
