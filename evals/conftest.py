"""Short options of the eval suites, the agent they take by default, and their thresholds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from masksearch_agent import pytest_plugin

THRESHOLDS = yaml.safe_load((Path(__file__).parent / "thresholds.yaml").read_text(encoding="utf-8"))
DEFAULT_AGENT = "runs/quickstart/agent"


def pytest_addoption(parser: pytest.Parser, pluginmanager: pytest.PytestPluginManager) -> None:
    # From a checkout that was not installed, the plugin has no entry point.
    if not pluginmanager.is_registered(pytest_plugin):
        pluginmanager.register(pytest_plugin, "masksearch_agent")
    group = parser.getgroup("evals")
    group.addoption("--agent", dest="masksearch_agent", help="agent bundle, or URL of a LangGraph server")
    group.addoption("--data", dest="masksearch_data", help="folder of benchmarks")
    group.addoption("--limit", dest="masksearch_limit", type=int, help="questions of each benchmark at most")
    group.addoption(
        "--out", dest="masksearch_out", help="folder for per-question results and report.html; resumable"
    )
    group.addoption("--judge", dest="masksearch_judge", help="`provider:model` that judges answers")


def pytest_configure(config: pytest.Config) -> None:
    if config.option.masksearch_agent is None:
        config.option.masksearch_agent = DEFAULT_AGENT


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Give each suite's test one case per entry of its thresholds."""
    suite = metafunc.module.__name__.rpartition(".")[2].removeprefix("test_")
    if {"name", "expected"} <= set(metafunc.fixturenames):
        cases: dict[str, Any] = THRESHOLDS[suite]
        metafunc.parametrize(("name", "expected"), list(cases.items()), ids=list(cases))
