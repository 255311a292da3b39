"""LangChain's standard tests of tools, for the agent as a tool and for the search tool."""

from __future__ import annotations

from typing import Any

from fakes.ecosystem import FOUNDERS, make_searcher
from fakes.retrievers import DictRetriever
from langchain_core.tools import BaseTool
from langchain_tests.integration_tests import ToolsIntegrationTests
from langchain_tests.unit_tests import ToolsUnitTests

from masksearch_agent.retrieval.adapters import as_search
from masksearch_agent.retrieval.tool import make_search_tool


class _AgentTool:
    @property
    def tool_constructor(self) -> BaseTool:
        return make_searcher().as_tool()

    @property
    def tool_invoke_params_example(self) -> dict[str, Any]:
        return {"question": "Who founded Harrow?"}


class _SearchTool:
    @property
    def tool_constructor(self) -> BaseTool:
        return make_search_tool(as_search(DictRetriever(entries=FOUNDERS)))

    @property
    def tool_invoke_params_example(self) -> dict[str, Any]:
        return {"query": "founder of Harrow"}


class TestAgentToolUnit(_AgentTool, ToolsUnitTests):
    pass


class TestAgentTool(_AgentTool, ToolsIntegrationTests):
    pass


class TestSearchToolUnit(_SearchTool, ToolsUnitTests):
    pass


class TestSearchTool(_SearchTool, ToolsIntegrationTests):
    pass
