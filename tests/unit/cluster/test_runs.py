"""Sharded runs against the same runs in one process, without a cluster."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("tantivy")

from fakes.backends import TableBackend
from fakes.chat_models import ScriptedChatModel
from fakes.comparable import comparable, trajectories
from fakes.shard_pools import ShuffledPool
from langchain_core.messages import BaseMessage

from masksearch_agent.agent.prompts import COMPACT_PROMPTS
from masksearch_agent.agent.runnable import MaskSearchAgent
from masksearch_agent.cluster import runs, work
from masksearch_agent.cluster.shards import Job, Shard, cut_shards
from masksearch_agent.config.recipe import Recipe, load_recipe
from masksearch_agent.corpus.readers import read_passages
from masksearch_agent.errors import EvaluationError, ModelError, ServiceError, TaskError
from masksearch_agent.evaluation.asking import AgentChoice, QuestionFiles, score_files
from masksearch_agent.evaluation.results import QuestionResult, read_results
from masksearch_agent.generator.runner import TrajectoryGenerator
from masksearch_agent.jsonl import dump_record, write_jsonl
from masksearch_agent.lab.recipe import LabRecipe
from masksearch_agent.lab.world import write_closed_world
from masksearch_agent.records import Passage, SearchTask, Trajectory
from masksearch_agent.retrieval.adapters import open_search
from masksearch_agent.retrieval.index import build_index
from masksearch_agent.retrieval.search import Search
from masksearch_agent.stages.plan import prompts_of
from masksearch_agent.stages.tasks import build_tasks, read_task_files
from masksearch_agent.stages.trajectories import generate_trajectories

JOB = Job("generate", {"index": "a"})


@pytest.fixture(scope="module")
def recipe() -> Recipe:
    settings = (
        "world={train_entities: 30, test_entities: 15, train_questions: [{hops: 2, count: 40}]}",
        "world.test_questions=[{hops: 1, count: 5}]",
        "retrieval.mode=bm25",
        "prompts=compact",
        "engine={name: ray, shard_size: 7}",
        "evaluation.bootstrap_samples=100",
    )
    return load_recipe(None, settings, LabRecipe)


@pytest.fixture(scope="module")
def world(recipe: Recipe, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write a world with a near copy of every tenth passage, its index, and its tasks of one process."""
    folder = tmp_path_factory.mktemp("world")
    write_closed_world(recipe.world, 1, folder)
    passages = list(read_passages(folder / "train" / "passages.jsonl"))
    copies = [dataclasses.replace(passage, id=f"copy-{passage.id}") for passage in passages][::10]
    write_jsonl(folder / "train" / "passages.jsonl", [*passages, *copies])
    everything = [*read_passages(folder / "passages.jsonl"), *copies]
    build_index(everything, folder / "index", recipe.retrieval)
    search = open_search(folder / "index", recipe.retrieval)
    report = build_tasks(folder / "train", search, recipe.ramp, folder / "tasks.jsonl")
    assert report["dropped"]["near_copy"] == len(copies) > 3
    (folder / "report.json").write_text(json.dumps(report))
    tasks = read_task_files([folder / "tasks.jsonl"])
    generate_trajectories(
        tasks, search, recipe.generator, recipe.agent, prompts_of(recipe), folder / "traces.sqlite", "ramp"
    )
    return folder


def generate(
    pool: ShuffledPool, world: Path, recipe: Recipe, out: Path, retry_failed: bool = False
) -> dict[str, object]:
    return runs.generate_trajectories(
        pool, [world / "tasks.jsonl"], world / "index", recipe, out / "t.sqlite", "ramp",
        retry_failed=retry_failed,
    )  # fmt: skip


# --- Shards


def test_shards_hold_every_item_once_in_order_and_only_the_last_is_smaller() -> None:
    shards = list(cut_shards([{"n": n} for n in range(10)], 4, JOB))
    assert [[item["n"] for item in shard.items] for shard in shards] == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]
    assert list(cut_shards([], 4, JOB)) == []


def test_shards_are_cut_as_they_are_taken() -> None:
    read: list[int] = []

    def stream() -> Iterator[dict[str, int]]:
        for number in range(10):
            read.append(number)
            yield {"n": number}

    next(cut_shards(stream(), 3, JOB))
    assert read == [0, 1, 2]


def test_a_shards_name_is_that_of_its_items_and_its_job() -> None:
    def name(job: Job, *numbers: int) -> str:
        [shard] = cut_shards([{"n": number} for number in numbers], 5, job)
        return shard.name

    assert name(JOB, 1, 2) == name(Job("generate", {"index": "a"}), 1, 2)
    others = [
        name(JOB, 2, 1),
        name(JOB, 1),
        name(Job("mask", JOB.spec), 1, 2),
        name(Job("generate", {"index": "b"}), 1, 2),
    ]
    assert len({name(JOB, 1, 2), *others}) == 5


# --- Generation


def test_trajectories_of_shards_in_any_order_are_those_of_one_process(
    world: Path, recipe: Recipe, tmp_path: Path
) -> None:
    pool = ShuffledPool()
    report = generate(pool, world, recipe, tmp_path)
    expected = trajectories(world / "traces.sqlite")
    assert trajectories(tmp_path / "t.sqlite") == expected
    assert report["accepted"] == sum(bool(one.accepted) for one in expected.values()) > 20
    assert len(pool.finished) == -(-len(expected) // 7)


def test_a_stopped_driver_goes_on_with_what_is_missing(world: Path, recipe: Recipe, tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        generate(ShuffledPool(stops_after=2), world, recipe, tmp_path)
    assert len(trajectories(tmp_path / "t.sqlite")) == 14
    pool = ShuffledPool(seed=1)
    assert generate(pool, world, recipe, tmp_path)["skipped"] == 14
    expected = trajectories(world / "traces.sqlite")
    assert trajectories(tmp_path / "t.sqlite") == expected
    assert sum(len(shard.items) for shard in pool.finished) == len(expected) - 14
    again = ShuffledPool()
    assert generate(again, world, recipe, tmp_path)["skipped"] == len(expected)
    assert again.finished == []


def test_a_task_that_fails_has_no_outcome_until_it_is_tried_again(
    world: Path, recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    failure = ModelError("the prompt has 2100 tokens")
    expected = trajectories(world / "traces.sqlite")
    unlucky = {trajectory.task_id for trajectory in list(expected.values())[::9]}
    run_task = TrajectoryGenerator.run_task

    async def fail_some(self: TrajectoryGenerator, task: SearchTask) -> Trajectory:
        if task.id in unlucky:
            raise failure
        return await run_task(self, task)

    with monkeypatch.context() as patched:
        patched.setattr(TrajectoryGenerator, "run_task", fail_some)
        report = generate(ShuffledPool(), world, recipe, tmp_path)
    assert report["failed"] == len(unlucky)
    stored = trajectories(tmp_path / "t.sqlite").values()
    assert unlucky.isdisjoint(trajectory.task_id for trajectory in stored)
    assert report["failures"] == {"the prompt has … tokens": len(unlucky)}
    again = ShuffledPool()
    assert generate(again, world, recipe, tmp_path)["failed"] == len(unlucky)
    assert again.finished == []
    assert generate(ShuffledPool(), world, recipe, tmp_path, retry_failed=True)["failed"] == 0
    assert trajectories(tmp_path / "t.sqlite") == expected


def test_too_many_failures_in_a_row_end_the_run(
    world: Path, recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(self: TrajectoryGenerator, task: SearchTask) -> Trajectory:
        raise ServiceError("the model is down")

    monkeypatch.setattr(TrajectoryGenerator, "run_task", fail)
    pool = ShuffledPool()
    with pytest.raises(ServiceError, match=r"20 items in a row failed, .* the model is down"):
        generate(pool, world, recipe, tmp_path)
    assert len(pool.finished) == 3


def test_files_without_tasks_or_ids_are_refused(world: Path, recipe: Recipe, tmp_path: Path) -> None:
    file = tmp_path / "tasks.jsonl"

    def run() -> None:
        runs.generate_trajectories(
            ShuffledPool(), [file], world / "index", recipe, tmp_path / "t.sqlite", "ramp"
        )

    with pytest.raises(TaskError, match="no file at"):
        run()
    file.write_text("\n")
    with pytest.raises(TaskError, match="no tasks in"):
        run()
    file.write_text('{"question": "Who?"}\n')
    with pytest.raises(TaskError, match="has no id"):
        run()


# --- Masking


def test_tasks_of_shards_in_any_order_are_the_file_of_one_process(
    world: Path, recipe: Recipe, tmp_path: Path
) -> None:
    out = tmp_path / "tasks.jsonl"
    report = runs.build_tasks(ShuffledPool(), world / "train", world / "index", recipe, out)
    assert out.read_bytes() == (world / "tasks.jsonl").read_bytes()
    assert json.loads(json.dumps(report)) == json.loads((world / "report.json").read_text())
    assert [file.name for file in tmp_path.iterdir()] == ["tasks.jsonl"]


def test_a_stopped_masking_does_only_the_missing_shards_and_only_for_the_same_settings(
    world: Path, recipe: Recipe, tmp_path: Path
) -> None:
    out = tmp_path / "tasks.jsonl"
    with pytest.raises(KeyboardInterrupt):
        runs.build_tasks(ShuffledPool(stops_after=3), world / "train", world / "index", recipe, out)
    assert not out.exists()
    other = recipe.model_copy(update={"ramp": recipe.ramp.model_copy(update={"seed": 1})})
    with pytest.raises(KeyboardInterrupt):
        runs.build_tasks(stopped := ShuffledPool(stops_after=2), world / "train", world / "index", other, out)
    assert len(stopped.finished) == 2
    pool = ShuffledPool(seed=2)
    report = runs.build_tasks(pool, world / "train", world / "index", recipe, out)
    assert out.read_bytes() == (world / "tasks.jsonl").read_bytes()
    assert json.loads(json.dumps(report)) == json.loads((world / "report.json").read_text())
    whole = ShuffledPool()
    runs.build_tasks(whole, world / "train", world / "index", recipe, tmp_path / "again.jsonl")
    assert len(pool.finished) == len(whole.finished) - 3


# --- Evaluation


TASKS = [SearchTask(f"task-{number}", "qa", f"Question {number}?", (("Ada Holt",),)) for number in range(9)]


def answer_by_number(messages: list[BaseMessage]) -> str:
    text = "Ada Holt" if "Question 3?" in str(messages[1].content) else "Bram Voss"
    return f"<think>It is here.</think><answer>{text}</answer>"


def test_results_are_those_of_one_process_question_by_question_and_none_is_asked_twice(
    recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    search = Search(TableBackend({task.question: [Passage("p", "", "t")] for task in TASKS}))
    model = ScriptedChatModel(script=answer_by_number)
    agent = MaskSearchAgent(model, search, prompts=COMPACT_PROMPTS)
    monkeypatch.setattr(work, "open_agent", lambda choice, recipe: (agent, choice.mode))
    work._open.cache_clear()
    questions = tmp_path / "questions.jsonl"
    write_jsonl(questions, map(dump_record, TASKS))

    def results(folder: str) -> dict[str, QuestionResult]:
        return comparable(read_results(tmp_path / folder / "questions-agentic.jsonl"))

    def evaluate(pool: ShuffledPool) -> dict[str, object]:
        asked = QuestionFiles([questions], tmp_path / "ray")
        return runs.evaluate_files(pool, AgentChoice("agent"), asked, recipe)["questions"]

    score_files(agent, "agentic", "agentic", QuestionFiles([questions], tmp_path / "one"), recipe)
    pool = ShuffledPool()
    scores = evaluate(pool)
    assert results("ray") == results("one")
    assert (scores["n"], scores["recall"]) == (9, pytest.approx(1 / 9))
    # The first shard asks for the agent's version; three workers share nine questions.
    assert [len(shard.items) for shard in pool.finished] == [0, 3, 3, 3]
    again = ShuffledPool()
    assert evaluate(again) == scores
    assert [len(shard.items) for shard in again.finished] == [0]


def test_a_deployed_agent_is_not_sent_to_a_cluster(recipe: Recipe, tmp_path: Path) -> None:
    with pytest.raises(EvaluationError, match="leave out --engine ray"):
        runs.evaluate_files(
            ShuffledPool(), AgentChoice("http://127.0.0.1:2024"), QuestionFiles([tmp_path]), recipe
        )


# --- Workers


def test_a_worker_reports_what_it_cannot_do_and_where(tmp_path: Path) -> None:
    job = Job("generate", {"recipe": {}, "index": str(tmp_path / "none")})
    result = work.do_shard(job, [])
    assert "no index in" in result["error"]
    assert result["host"]


def test_a_worker_opens_a_job_once_and_another_one_anew(
    world: Path, recipe: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[str] = []
    monkeypatch.setattr(
        work, "open_search", lambda index, settings: opened.append(index) or open_search(index, settings)
    )
    work._open.cache_clear()
    for seed in (0, 0, 1):
        settings = {"generator": {"seed": seed}, "retrieval": {"mode": "bm25"}}
        spec = {"recipe": settings, "index": str(world / "index")}
        assert work.do_shard(Job("generate", spec), Shard("", []).items)["outcomes"] == []
    assert len(opened) == 2


def test_workers_are_given_absolute_paths_and_no_cache_to_write(
    world: Path, recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs: list[Job] = []

    class Watched(ShuffledPool):
        def do(self, job, shards):  # type: ignore[no-untyped-def]
            jobs.append(job)
            return super().do(job, shards)

    monkeypatch.chdir(world)
    runs.generate_trajectories(
        Watched(), [Path("tasks.jsonl")], "index", recipe, tmp_path / "t.sqlite", "ramp", limit=1
    )
    spec = jobs[0].spec
    assert spec["index"] == str(world / "index")
    opened = Recipe.model_validate(spec["recipe"])
    assert (opened.retrieval.web.cache, opened.ramp.span_cache) == (None, None)
    assert (opened.retrieval.chosen_mode, opened.prompts) == ("bm25", "compact")


def test_a_question_that_fails_on_a_worker_costs_that_question(
    world: Path, recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Broken:
        model_version = "v"

        async def answer_task(self, task: SearchTask, seed: int) -> None:
            raise ModelError("the prompt has 2100 tokens")

    monkeypatch.setattr(work, "open_agent", lambda choice, recipe: (None, "agentic"))
    monkeypatch.setattr(work, "answerer_of", lambda agent, mode: Broken())
    monkeypatch.setattr(work, "conditions_of", lambda agent, mode: {"mode": mode})
    work._open.cache_clear()
    file = tmp_path / "questions.jsonl"
    write_jsonl(file, [SearchTask(f"q{number}", "qa", "Who?", (("Ada",),)) for number in range(5)])
    questions = QuestionFiles([file], tmp_path)
    scores = runs.evaluate_files(ShuffledPool(), AgentChoice("anywhere"), questions, recipe)["questions"]
    work._open.cache_clear()
    assert (scores["n"], scores["failed"], scores["recall"]) == (5, 5, 0)
    assert scores["failures"] == {"the prompt has … tokens": 5}
