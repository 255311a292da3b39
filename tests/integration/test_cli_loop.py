"""The loop on a closed world that is as small as it can be: command by command, at once, and interrupted."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")
pytest.importorskip("trl")
pytest.importorskip("tantivy")

from fakes.command_line import CommandLine
from fakes.run_folders import finished_stages

from masksearch_agent.agent.bundle import read_bundle_info
from masksearch_agent.errors import TaskError
from masksearch_agent.evaluation.results import read_results
from masksearch_agent.jsonl import read_jsonl
from masksearch_agent.lab.tiny import tiny_base_path
from masksearch_agent.models.local import load_checkpoint
from masksearch_agent.records import SearchTask
from masksearch_agent.traces.store import TraceStore

SETTINGS = (
    "base_model=tiny",
    "prompts=compact",
    "world.train_entities=40",
    "world.test_entities=20",
    "world.train_questions=[{hops: 1, count: 20}, {hops: 2, count: 20}]",
    "world.test_questions=[{hops: 1, count: 4}, {hops: 2, count: 4}, {hops: 3, count: 4}]",
    "world.test_ramp_tasks=4",
    "retrieval.mode=bm25",
    "agent.max_step_tokens=16",
    "agent.max_sampled_tokens=32",
    "agent.passages_per_search=2",
    "ramp_sft={max_steps: 4, batch_size: 4, save_steps: 2}",
    "qa_sft={max_steps: 4, batch_size: 4, save_steps: 2, ramp_share: 0.25}",
    "ramp_dapo={max_steps: 2, prompts_per_step: 2, group_size: 2, row_batch_size: 4, max_resampling: 1}",
    "ramp_dapo.save_steps=1",
    "evaluation.bootstrap_samples=100",
)
OPTIONS = tuple(part for setting in SETTINGS for part in ("--set", setting))
ROWS = ("untrained", "rag", "ramp_sft", "ramp_dapo", "agent")
COLUMNS = ("qa_1hop", "qa_2hop", "qa_3hop", "ramp")


def weights_of(folder: Path) -> dict[str, Any]:
    from safetensors.torch import load_file

    return dict(load_file(folder / "model.safetensors"))


def are_equal(one: Path, other: Path) -> bool:
    mine, theirs = weights_of(one), weights_of(other)
    assert mine.keys() == theirs.keys()
    return all(bool((mine[name] == theirs[name]).all()) for name in mine)


def test_each_command_works_on_the_files_of_the_step_before(run: CommandLine, tmp_path: Path) -> None:
    def do(*command: object) -> Any:
        return run(*command, *OPTIONS, "--json").json

    world = do("world", "--seed", 3, "--out", "world")
    assert world["questions"]["qa_2hop_test"] == 4
    indexed = do("index", "world/passages.jsonl", "--out", "index")
    assert (indexed["passages"], indexed["mode"]) == (world["passages"], "bm25")
    assert indexed["documents"]["kept"] == world["passages"]
    tasks = do("ramp", "world/train", "--index", "index", "--out", "tasks.jsonl", "--limit", 60)
    assert tasks["kept"] == len(list(read_jsonl(Path("tasks.jsonl"), SearchTask, TaskError))) > 10
    made = do("generate", "tasks.jsonl", "--index", "index", "--out", "traces.sqlite")
    assert made["accepted"] + made["rejected"] == tasks["kept"]
    assert made["accepted"] > 10
    questions = "world/questions/qa_train.jsonl"
    assert (
        do("generate", questions, "--index", "index", "--out", "traces.sqlite", "--stage", "qa")["accepted"]
        > 5
    )

    sft = do("sft", "--traces", "traces.sqlite", "--index", "index", "--out", "sft")
    assert (sft["steps"], sft["tokens"] > 0) == (4, True)
    assert are_equal(Path("sft/base"), tiny_base_path())
    assert not are_equal(Path("sft"), Path("sft/base"))
    dapo = do("dapo", "--agent", "sft", "--tasks", "tasks.jsonl", "--out", "dapo")
    assert dapo["steps"] == 2
    second = do("sft", "--agent", "dapo", "--traces", "traces.sqlite", "--use", "qa_sft", "--out", "agent")
    assert (second["steps"], dapo["mixed"]) == (4, {})
    assert second["mixed"]["ramp"] == round(second["mixed"]["own"] / 3) > 0
    info = read_bundle_info(Path("agent"))
    assert [stage["stage"] for stage in info.provenance["stages"]] == ["ramp_sft", "dapo", "qa_sft"]
    assert info.provenance["stages"][-1]["mixed"] == second["mixed"]
    assert (tmp_path / "agent" / info.index).resolve() == (tmp_path / "index").resolve()

    test_file = "world/questions/qa_1hop_test.jsonl"
    evaluation = ("eval", "--agent", "agent", "--data", test_file, "--limit", 3, "--out", "evals")
    scores = do(*evaluation)["qa_1hop_test"]
    assert scores["n"] == 3
    assert 0 <= scores["ci95"][0] <= scores["recall"] <= scores["ci95"][1] <= 1
    assert len(read_results(Path("evals/qa_1hop_test-agentic.jsonl"))) == 3
    written = Path("evals/qa_1hop_test-agentic.jsonl").read_bytes()
    assert do(*evaluation)["qa_1hop_test"] == scores
    assert Path("evals/qa_1hop_test-agentic.jsonl").read_bytes() == written
    assert (
        do("eval", "--agent", "agent", "--data", test_file, "--limit", 3, "--mode", "rag")["qa_1hop_test"][
            "n"
        ]
        == 3
    )
    for baseline in ("rag-3shot", "rag-pe", "agent-pe"):
        assert do(*evaluation, "--baseline", baseline)["qa_1hop_test"]["n"] == 3
        results = read_results(Path(f"evals/qa_1hop_test-{baseline}.jsonl"))
        assert {r.trajectory.producer for r in results if r.trajectory} == {"tiny (untrained)"}
    compared = do("compare", "evals/qa_1hop_test-agent-pe.jsonl", "evals/qa_1hop_test-agentic.jsonl")
    assert (compared["n"], compared["after"]) == (3, pytest.approx(scores["recall"]))
    page = Path("evals/report.html").read_text()
    for row in ("agentic", "RAG-PE", "agent-PE"):
        assert f'<th scope="row">{row}</th>' in page
    runs = ("evals/qa_1hop_test-agent-pe.jsonl", "evals/qa_1hop_test-agentic.jsonl")
    assert "report: changes.html" in run("compare", *runs, "--page", "changes.html").err
    assert "agentic over agent-PE, recall on QA 1-hop test" in Path("changes.html").read_text()

    question = next(read_jsonl(Path(test_file), SearchTask, TaskError)).question
    answer = run("ask", question, "--agent", "agent", "--json").json
    assert answer["trajectory"]["turns"][0]["context"][-1]["content"] == question
    assert "/qa_sft#" in answer["trajectory"]["producer"]
    assert answer["stop_reason"] in ("answered", "forced", "repairs_exhausted", "token_limit")
    shown = run("ask", question, "--agent", "agent")
    assert (shown.code, answer["stop_reason"] in shown.out) == (0, True)


def test_weights_in_bfloat16_are_trained_in_float32(run: CommandLine, tmp_path: Path) -> None:
    """A step of a usual size vanishes in bfloat16's rounding."""
    import torch

    model, tokenizer = load_checkpoint(tiny_base_path())
    model.to(torch.bfloat16).save_pretrained(tmp_path / "half")
    tokenizer.save_pretrained(tmp_path / "half")
    prepare_traces(run)
    settings = ("--set", "base_model=half", "--set", "ramp_sft.optimizer.learning_rate=1e-6")
    assert run("sft", "--traces", "traces.sqlite", "--out", "sft", *OPTIONS, *settings).code == 0
    before, after = weights_of(tmp_path / "half"), weights_of(tmp_path / "sft")
    assert {weight.dtype for weight in after.values()} == {torch.float32}
    changed = [name for name in before if not torch.equal(before[name].float(), after[name])]
    assert changed == list(before)


def test_a_missing_trace_store_is_refused_and_not_created(run: CommandLine) -> None:
    outcome = run("sft", "--traces", "nowhere.sqlite", "--out", "agent", *OPTIONS)
    assert outcome.code == 1
    assert "no trace store at nowhere.sqlite" in outcome.err
    assert not Path("nowhere.sqlite").exists()


def test_a_stage_that_has_no_trajectories_is_named(run: CommandLine) -> None:
    prepare_traces(run)
    refused = run("sft", "--traces", "traces.sqlite", "--use", "qa_sft", "--out", "agent", *OPTIONS)
    assert refused.code == 1
    assert "holds no accepted trajectory of the stage 'qa'; name one with --stage" in refused.err
    assert not Path("agent").exists()


def test_a_new_agent_searches_the_index_that_it_was_given(run: CommandLine, tmp_path: Path) -> None:
    run("world", "--seed", 3, "--out", "world", *OPTIONS)
    for index in ("index", "other"):
        run("index", "world/passages.jsonl", "--out", index, *OPTIONS)
    run("ramp", "world/train", "--index", "index", "--out", "tasks.jsonl", "--limit", 30, *OPTIONS)
    run("generate", "tasks.jsonl", "--index", "index", "--out", "traces.sqlite", *OPTIONS)
    run("sft", "--traces", "traces.sqlite", "--index", "index", "--out", "first", *OPTIONS)
    run(
        "sft",
        "--agent",
        "first",
        "--traces",
        "traces.sqlite",
        "--index",
        "other",
        "--out",
        "second",
        *OPTIONS,
    )
    for agent, index in (("first", "index"), ("second", "other")):
        found = (tmp_path / agent / read_bundle_info(Path(agent)).index).resolve()
        assert found == (tmp_path / index).resolve()


def test_a_model_without_a_pad_token_is_refused(run: CommandLine, tmp_path: Path) -> None:
    model, tokenizer = load_checkpoint(tiny_base_path())
    tokenizer.pad_token = None
    model.save_pretrained(tmp_path / "padless")
    tokenizer.save_pretrained(tmp_path / "padless")
    prepare_traces(run)
    refused = run("sft", "--traces", "traces.sqlite", "--out", "sft", *OPTIONS, "--set", "base_model=padless")
    assert refused.code == 1
    assert "has no pad token; set `tokenizer.pad_token`" in refused.err
    assert "Traceback" not in refused.err


def test_a_curriculum_level_without_tasks_is_refused(run: CommandLine, tmp_path: Path) -> None:
    prepare_traces(run)
    assert run("sft", "--traces", "traces.sqlite", "--index", "index", "--out", "sft", *OPTIONS).code == 0
    several = [line for line in Path("tasks.jsonl").read_text().splitlines() if line.count("[mask]") > 1]
    (tmp_path / "hard.jsonl").write_text("\n".join(several))
    stages = ("--set", "ramp_dapo.curriculum=[{max_masks: 1, until: 0.5}, {max_masks: 4, until: 1.0}]")
    refused = run("dapo", "--agent", "sft", "--tasks", "hard.jsonl", "--out", "dapo", *OPTIONS, *stages)
    assert refused.code == 1
    assert "no task has at most 1 masks, which a curriculum level asks for; build more tasks" in refused.err


def test_the_base_command_makes_a_checkpoint_to_start_from(run: CommandLine) -> None:
    phase = "{text: articles, first_world_seed: 7, entities_per_block: 2, steps: 2}"
    small = (
        f"phases=[{phase}, {phase}]", "block_tokens=64", "batch_size=2", "tokenizer_worlds=1", "hidden_size=32",
        "layers=2", "heads=2",
    )  # fmt: skip
    options = [part for setting in small for part in ("--set", f"base_stage.{setting}")]
    made = run("base", "--out", "base", *options)
    assert (made.code, made.out) == (0, "checkpoint: base\n")
    model, tokenizer = load_checkpoint(Path("base"))
    assert model.config.hidden_size == 32
    assert tokenizer.pad_token_id != tokenizer.eos_token_id


def prepare_traces(run: CommandLine) -> None:
    for command in (
        ("world", "--out", "world"),
        ("index", "world/passages.jsonl", "--out", "index"),
        ("ramp", "world/train", "--index", "index", "--out", "tasks.jsonl", "--limit", 40),
        ("generate", "tasks.jsonl", "--index", "index", "--out", "traces.sqlite"),
    ):
        assert run(*command, *OPTIONS).code == 0


# --- the quickstart --------------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_quickstart_writes_its_report_and_does_nothing_twice(run: CommandLine, tmp_path: Path) -> None:
    pytest.importorskip("chromadb")
    pytest.importorskip("sentence_transformers")
    report = run("quickstart", "--seed", 5, "--out", "run", *OPTIONS, "--json").json
    assert report == json.loads(Path("run/report.json").read_text())
    assert report["seed"] == 5
    assert report["wall_seconds"] == pytest.approx(sum(stage["seconds"] for stage in report["stages"]))
    assert 0.1 < report["peak_memory_gb"] < 4
    steps = {stage["name"]: stage["steps"] for stage in report["stages"]}
    assert (
        set(steps)
        == set(finished_stages(Path("run")))
        > {"world", "index", "tasks", "trajectories/qa", "base"}
    )
    assert (steps["ramp_sft"], steps["ramp_dapo"], steps["agent"]) == (4, 2, 4)
    assert [(score["agent"], score["dataset"]) for score in report["scores"]] == [
        (row, column) for row in ROWS for column in COLUMNS
    ]
    for score in report["scores"]:
        summary = score["summary"]
        assert 0 < summary["n"] <= 4
        assert 0 <= summary["ci95"][0] <= summary["recall"] <= summary["ci95"][1] <= 1
    page = Path("run/report.html").read_text()
    assert page.lstrip().startswith("<!doctype html>")
    assert "quickstart, seed 5" in page
    questions = Path("run/evals/report.html").read_text()
    assert "quickstart, seed 5: every question" in questions
    assert "agent over untrained, recall on QA 2-hop" in questions

    again = run("quickstart", "--seed", 5, "--out", "run", *OPTIONS, "--json")
    assert again.json["scores"] == report["scores"]
    assert again.json["stages"] == report["stages"]
    assert again.err.count("done before") == len(report["stages"])

    other = run("quickstart", "--seed", 6, "--out", "run", *OPTIONS)
    assert other.code == 1
    assert "holds a run with other settings: its 'world' was made from another seed" in other.err


def trajectories_in(run: Path) -> set[str]:
    return {name for kind in ("ramp", "qa") for name in trajectories_of(store_of(run, kind))}


def store_of(run: Path, kind: str) -> Path:
    return run / "trajectories" / kind / "traces.sqlite"


def trajectories_of(store: Path) -> set[str]:
    if not store.is_file():
        return set()
    # A connection of its own, read-only: the run that is watched must not wait.
    with sqlite3.connect(f"file:{store}?mode=ro", uri=True, timeout=5) as connection:
        try:
            return {name for (name,) in connection.execute("SELECT id FROM trajectories")}
        except sqlite3.OperationalError:  # its tables are not made yet
            return set()


INTERRUPTIONS: tuple[tuple[str, signal.Signals, Callable[[Path], bool]], ...] = (
    ("trajectories/ramp", signal.SIGKILL, lambda run: len(trajectories_in(run)) > 3),
    # The folder is there before the checkpoint is whole.
    ("ramp_sft", signal.SIGKILL, lambda run: any((run / "ramp_sft" / "trainer").glob("checkpoint-*"))),
    ("ramp_dapo", signal.SIGKILL, lambda run: any((run / "ramp_dapo" / "trainer").glob("checkpoint-*"))),
    ("evals/untrained", signal.SIGINT, lambda run: any((run / "evals/untrained").glob("*.jsonl"))),
)


@pytest.mark.slow
def test_a_quickstart_stopped_in_any_stage_goes_on_and_loses_nothing(tmp_path: Path) -> None:
    pytest.importorskip("chromadb")
    pytest.importorskip("sentence_transformers")
    run = tmp_path / "run"
    one_by_one = ("--set", "generator.concurrency=1", "--set", "evaluation.concurrency=1")
    stage_two = (
        "qa_dapo={max_steps: 2, prompts_per_step: 2, group_size: 2, row_batch_size: 4, max_resampling: 1}"
    )
    command = [
        sys.executable,
        "-m",
        "masksearch_agent.cli",
        "quickstart",
        "--out",
        str(run),
        *OPTIONS,
        *one_by_one,
        *("--set", stage_two),
    ]
    kept: set[str] = set()
    for stage, stop, is_time in INTERRUPTIONS:
        assert stop_when(command, run, is_time, stop, tmp_path / f"{stage.replace('/', '-')}.log") == (
            130 if stop == signal.SIGINT else -stop
        )
        assert stage not in finished_stages(run), f"{stage} was over before it could be stopped"
        before = trajectories_in(run)
        assert kept <= before
        kept = before
    assert "Stopped. Run the same command again" in (tmp_path / "evals-untrained.log").read_text()

    finished = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert finished.returncode == 0, finished.stderr[-3000:]
    assert kept <= trajectories_in(run)
    assert_one_outcome_per_task(run)
    assert_one_result_per_question(run)
    scores = json.loads((run / "report.json").read_text())["scores"]
    assert list(dict.fromkeys(score["agent"] for score in scores))[-2:] == ["qa_sft", "agent"]
    assert [stage["stage"] for stage in read_bundle_info(run / "agent").provenance["stages"]] == [
        "ramp_sft", "ramp_dapo", "qa_sft", "qa_dapo"
    ]  # fmt: skip
    for stage in ("ramp_sft", "ramp_dapo", "qa_sft", "agent"):
        logged = [
            json.loads(line)["step"] for line in (run / stage / "metrics.jsonl").read_text().splitlines()
        ]
        assert logged == sorted(logged)


def stop_when(
    command: list[str], run: Path, is_time: Callable[[Path], bool], stop: signal.Signals, log: Path
) -> int:
    """Start a command, stop it as soon as it is time, and return its exit code."""
    with log.open("w") as output:
        process = subprocess.Popen(
            command,
            stdout=output,
            stderr=output,
            env={**os.environ, "COLUMNS": "200"},
            # A shell starts what runs in the background with Ctrl-C ignored, and that is inherited.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
        )
        try:
            while process.poll() is None and not is_time(run):
                time.sleep(0.002)
            process.send_signal(stop)
            return process.wait(timeout=120)
        finally:
            process.kill()
            process.wait()


def assert_one_outcome_per_task(run: Path) -> None:
    files = {"ramp": run / "tasks" / "tasks.jsonl", "qa": run / "world" / "questions" / "qa_train.jsonl"}
    for kind, file in files.items():
        with sqlite3.connect(store_of(run, kind)) as connection:
            outcomes = connection.execute("SELECT stage, task_id FROM outcomes").fetchall()
        wanted = [(kind, task.id) for task in read_jsonl(file, SearchTask, TaskError)]
        assert len(wanted) > 20
        assert sorted(outcomes) == sorted(wanted)
        with TraceStore(store_of(run, kind)) as store:
            assert store.count() == len(wanted)


def assert_one_result_per_question(run: Path) -> None:
    for column in COLUMNS:
        file = run / "world" / "questions" / f"{column}_test.jsonl"
        if column == "ramp":
            file = run / "held_out_tasks" / "tasks.jsonl"
        tasks = read_jsonl(file, SearchTask, TaskError)
        wanted = sorted(task.id for task in tasks)
        for row in ROWS:
            lines = [json.loads(line) for line in (run / "evals" / row / f"{column}.jsonl").open()]
            assert sorted(line["task_id"] for line in lines if "task_id" in line) == wanted
