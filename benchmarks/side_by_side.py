"""What the benchmarks of rollouts and training share: an agent over a closed world, and a clock.

Times are taken twice: as wall time, and as processor time of the process, which other work on the machine disturbs
less. Both sides of a comparison run in turn in one process, and medians are compared.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from masksearch_agent.agent.runnable import MaskSearchAgent
from masksearch_agent.config.recipe import load_recipe
from masksearch_agent.config.retrieval import RetrievalSettings
from masksearch_agent.lab.closed_world import make_world
from masksearch_agent.lab.recipe import LabRecipe
from masksearch_agent.lab.shipped import shipped_recipe
from masksearch_agent.ramp.spans import FactSpanExtractor
from masksearch_agent.ramp.tasks import build_ramp_tasks
from masksearch_agent.records import SearchTask
from masksearch_agent.retrieval.index import build_index, open_index
from masksearch_agent.retrieval.search import Search
from masksearch_agent.stages.base import make_base_bundle
from masksearch_agent.stages.plan import prompts_of


def add_repeats_argument(parser: argparse.ArgumentParser, default: int = 5) -> None:
    parser.add_argument("--repeats", type=int, default=default, help="Measurements of each side.")


def add_agent_argument(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--agent",
        type=Path,
        help="Agent bundle, such as runs/quickstart/ramp_sft of `make quickstart`; by default the shipped base model, "
        "which has not learned to search and writes every step to its limit.",
    )


def quickstart_recipe(overrides: Sequence[str] = ()) -> LabRecipe:
    return load_recipe(shipped_recipe("quickstart"), overrides, LabRecipe)


@dataclass(frozen=True)
class World:
    """A closed world that nobody was trained on, ready to be searched."""

    train: list[SearchTask]
    test: list[SearchTask]
    index: Path

    def search(self) -> Search:
        """Return a search that has nothing in its cache."""
        return Search(open_index(self.index)).for_run()


@contextmanager
def closed_world(seed: int, train_entities: int = 600, test_entities: int = 100) -> Iterator[World]:
    """Make a world and its RAMP tasks, searched by BM25; its files are gone when the context ends."""
    recipe = quickstart_recipe()
    # Not the worlds of the quickstart, whose seeds count from 0.
    made = make_world(1_000_000 + seed, train_entities, test_entities)
    with tempfile.TemporaryDirectory() as scratch:
        index = Path(scratch) / "index"
        build_index(made.passages, index, RetrievalSettings(mode="bm25"))
        tasks = {}
        for split in ("train", "test"):
            own = [passage for passage in made.passages if made.split_of(passage) == split]
            spans = FactSpanExtractor(made.mentions).extract(own)
            tasks[split] = list(build_ramp_tasks(spans, Search(open_index(index)), recipe.ramp, split))
        yield World(tasks["train"], tasks["test"], index)


@contextmanager
def opened_agent(bundle: Path | None, search: Search) -> Iterator[MaskSearchAgent]:
    """Load an agent bundle, or the shipped base model as one."""
    with tempfile.TemporaryDirectory() as scratch:
        if bundle is None:
            bundle = Path(scratch)
            recipe = quickstart_recipe()
            make_base_bundle(recipe.base_model, recipe.name, prompts_of(recipe), recipe.agent, bundle)
        with closing(MaskSearchAgent.from_pretrained(bundle, search)) as agent:
            yield agent


@dataclass
class Clock:
    """Wall and processor time of a stretch of work, in seconds."""

    wall_s: float = 0.0
    cpu_s: float = 0.0

    @contextmanager
    def running(self) -> Iterator[None]:
        """Add what the body takes."""
        wall_s, cpu_s = time.perf_counter(), time.process_time()
        try:
            yield
        finally:
            self.wall_s += time.perf_counter() - wall_s
            self.cpu_s += time.process_time() - cpu_s


def paired_ratio(over: Sequence[float], under: Sequence[float]) -> float:
    """Return the median of the ratios of measurements that were taken one after the other."""
    return median(a / b for a, b in zip(over, under, strict=True))
