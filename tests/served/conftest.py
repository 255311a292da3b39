"""A small trained agent, and a real vLLM server for it; skipped where vLLM is not installed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")
pytest.importorskip("trl")

from masksearch_agent.config.recipe import load_recipe
from masksearch_agent.config.serving import ServingSettings
from masksearch_agent.errors import TaskError
from masksearch_agent.jsonl import read_jsonl
from masksearch_agent.lab.recipe import LabRecipe
from masksearch_agent.lab.world import World
from masksearch_agent.records import SearchTask
from masksearch_agent.serving.engines import find_vllm
from masksearch_agent.serving.server import ModelServer, serve_bundle
from masksearch_agent.stages.graph import StageGraph
from masksearch_agent.stages.plan import RecipeStages
from masksearch_agent.stages.tasks import read_task_files

# What stands in the quickstart's recipe, for a world that is learned in half a minute.
SETTINGS = (
    "name=vllm-test",
    "base_model=tiny",
    "prompts=compact",
    "world.train_entities=60",
    "world.test_entities=30",
    "world.train_questions=[{hops: 1, count: 200}, {hops: 2, count: 200}]",
    "world.test_questions=[{hops: 1, count: 25}, {hops: 2, count: 25}]",
    "retrieval.mode=bm25",
    "agent={max_searches: 4, passages_per_search: 2, max_step_tokens: 72, max_sampled_tokens: 240, max_repairs: 1}",
    "qa_sft={max_steps: 200, batch_size: 8, max_tokens: 1024}",
    "qa_sft.optimizer={name: muon, learning_rate: 3.0e-3, muon_learning_rate: 0.01}",
    # Equal results need equal arithmetic.
    "serving={engine: vllm, dtype: float32, max_model_tokens: 2048, max_sequences: 32}",
)


@pytest.fixture(scope="session", autouse=True)
def _vllm() -> None:
    if find_vllm() is None:
        pytest.skip("vLLM is not installed; `make test-vllm` installs it in .venv-vllm and runs these tests")


@pytest.fixture(scope="session")
def recipe() -> LabRecipe:
    return load_recipe(None, SETTINGS, LabRecipe)


@pytest.fixture(scope="session")
def serving(recipe: LabRecipe) -> ServingSettings:
    return recipe.serving


@pytest.fixture(scope="session")
def trained(recipe: LabRecipe, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a run: the quickstart's where there is one, else a small one made here."""
    quickstart = Path(__file__).parents[2] / "runs" / "quickstart"
    if (quickstart / "agent" / "masksearch.json").is_file():
        return quickstart
    run = tmp_path_factory.mktemp("run")
    make = RecipeStages(recipe)
    world = World(name="world", settings=recipe.world, seed=0)
    searched = make.search(make.index(world.passages))
    traces = make.trajectories(world.train_questions, searched, "qa")
    agent = make.sft(make.base(searched.index), traces, recipe.qa_sft, "qa_sft", "agent")
    StageGraph(run).make(agent)
    return run


@pytest.fixture(scope="session")
def bundle(trained: Path) -> Path:
    return trained / "agent"


@pytest.fixture(scope="session")
def held_out(trained: Path) -> list[SearchTask]:
    """Return 50 questions about entities that no training has seen."""
    questions = trained / "world" / "questions"
    files = [questions / f"qa_{hops}hop_test.jsonl" for hops in (1, 2)]
    return [task for file in files for task in list(read_jsonl(file, SearchTask, TaskError))[:25]]


@pytest.fixture(scope="session")
def train_tasks(trained: Path) -> list[SearchTask]:
    return read_task_files([trained / "world" / "questions" / "qa_train.jsonl"])


@pytest.fixture(scope="session")
def server(bundle: Path, serving: ServingSettings, tmp_path_factory: Any) -> Iterator[ModelServer]:
    log_path = tmp_path_factory.mktemp("server") / "vllm.log"
    with serve_bundle(bundle, serving, log_path) as server:
        yield server
