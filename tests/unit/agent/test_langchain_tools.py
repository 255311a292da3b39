"""The standard tests of `langchain-tests` for tools: the agent as a tool, and our search as one."""

from __future__ import annotations

from typing import Any

import pytest
from fakes.agents import make_agent
from fakes.passages import ListBackend, make_passages

from masksearch_agent.retrieval.search import Search
from masksearch_agent.retrieval.tool import make_search_tool

pytest.importorskip("langchain_tests", reason="langchain-tests is not installed; it is part of the dev extra")

from langchain_tests.integration_tests import ToolsIntegrationTests
from langchain_tests.unit_tests import ToolsUnitTests


class Agent:
    @property
    def tool_constructor(self) -> Any:
        return make_agent().as_tool()

    @property
    def tool_invoke_params_example(self) -> dict[str, Any]:
        return {"question": "Who founded Harrow?"}


class SearchTool:
    @property
    def tool_constructor(self) -> Any:
        return make_search_tool(Search(ListBackend({"founder": make_passages("Ada founded Harrow.")})))

    @property
    def tool_invoke_params_example(self) -> dict[str, Any]:
        return {"query": "founder"}


class TestAgent(Agent, ToolsUnitTests):
    pass


class TestAgentInUse(Agent, ToolsIntegrationTests):
    pass


class TestSearchTool(SearchTool, ToolsUnitTests):
    pass


class TestSearchToolInUse(SearchTool, ToolsIntegrationTests):
    pass
