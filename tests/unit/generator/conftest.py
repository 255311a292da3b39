"""A small closed world, a search over it, and tasks with 1 to 4 masks and 1 to 3 hops."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from masksearch_agent.config.retrieval import RetrievalSettings
from masksearch_agent.lab.closed_world import ClosedWorld, make_world
from masksearch_agent.lab.world_questions import make_questions
from masksearch_agent.ramp.spans import FactSpanExtractor
from masksearch_agent.ramp.tasks import build_task
from masksearch_agent.records import Passage, SearchTask
from masksearch_agent.retrieval.index import build_index, open_index
from masksearch_agent.retrieval.search import Search
from masksearch_agent.traces.store import TraceStore


@pytest.fixture(scope="session")
def world() -> ClosedWorld:
    return make_world(5, train_entities=60, test_entities=15)


@pytest.fixture(scope="session")
def search(world: ClosedWorld, tmp_path_factory: pytest.TempPathFactory) -> Search:
    directory = tmp_path_factory.mktemp("index") / "bm25"
    build_index(world.passages, directory, RetrievalSettings(mode="bm25"))
    return Search(open_index(directory))


@pytest.fixture(scope="session")
def ramp_tasks(world: ClosedWorld) -> list[SearchTask]:
    """Return ten tasks of each mask count."""
    rng = random.Random(0)
    tasks: dict[int, list[SearchTask]] = {count: [] for count in (1, 2, 3, 4)}
    for passage, spans in FactSpanExtractor(world.mentions).extract(world.passages):
        count = rng.choice([count for count in tasks if count <= len(spans)] or [0])
        if count and len(tasks[count]) < 10:
            chosen = sorted(rng.sample(list(spans), count), key=lambda span: span.start)
            tasks[count].append(build_task(passage, chosen))
    return [task for made in tasks.values() for task in made]


@pytest.fixture(scope="session")
def questions(world: ClosedWorld) -> list[SearchTask]:
    """Return ten questions of each number of hops, and ten comparisons."""
    chains = [task for hops in (1, 2, 3) for task in make_questions(world, "train", 10, hops)]
    return chains + make_questions(world, "train", 10, category="comparison")


@pytest.fixture(scope="session")
def world_passages(world: ClosedWorld) -> dict[str, Passage]:
    return {passage.id: passage for passage in world.passages}


@pytest.fixture
def store(tmp_path: Path) -> Iterator[TraceStore]:
    with TraceStore(tmp_path / "traces.db") as opened:
        yield opened
