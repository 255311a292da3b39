"""Options of the eval suites: which agent, and which data."""

from __future__ import annotations

from pathlib import Path

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--agent", default="runs/quickstart/agent", help="agent bundle to evaluate")
    parser.addoption("--questions", default=None, help="folder of task files; default: the agent's own run")
    parser.addoption("--limit", type=int, default=200, help="questions of each file at most")


@pytest.fixture(scope="session")
def agent_path(request: pytest.FixtureRequest) -> Path:
    path = Path(request.config.getoption("--agent"))
    if not (path / "masksearch.json").is_file():
        pytest.skip(f"no agent bundle at {path}; make one with `masksearch quickstart`, or pass --agent")
    return path


@pytest.fixture(scope="session")
def questions(request: pytest.FixtureRequest, agent_path: Path) -> Path:
    folder = request.config.getoption("--questions")
    path = Path(folder) if folder else agent_path.parent / "world" / "questions"
    if not path.is_dir():
        pytest.skip(f"no questions at {path}; pass --questions")
    return path


@pytest.fixture(scope="session")
def limit(request: pytest.FixtureRequest) -> int:
    return int(request.config.getoption("--limit"))
