from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fakes.evaluation_results import result
from fakes.stages import NotedWork

from masksearch_agent.agent.bundle import BUNDLE_FILE, BundleInfo
from masksearch_agent.agent.prompts import COMPACT_PROMPTS
from masksearch_agent.agent.protocol import PROTOCOL_VERSION
from masksearch_agent.config.agent import AgentSettings
from masksearch_agent.config.recipe import Recipe
from masksearch_agent.jsonl import write_jsonl
from masksearch_agent.records import Passage, SearchTask, Trajectory, Turn
from masksearch_agent.reports.records import read_report
from masksearch_agent.runs.pretraining import Pretraining
from masksearch_agent.runs.question_files import QuestionFile
from masksearch_agent.runs.reporting import last_words
from masksearch_agent.stages.base import BaseAgent
from masksearch_agent.stages.choice import Choice
from masksearch_agent.stages.dapo import DAPO
from masksearch_agent.stages.draw import Draw
from masksearch_agent.stages.evaluation import Evaluation
from masksearch_agent.stages.index import Index
from masksearch_agent.stages.parts import Parts
from masksearch_agent.stages.sft import SFT
from masksearch_agent.stages.stage import Site
from masksearch_agent.stages.tasks import Masking
from masksearch_agent.stages.trajectories import Lessons

NAMES = ("Quay", "Weir", "Mole", "Pier")


def untagged(name: str, text: str, **changes: Any) -> Any:
    turns = (Turn("first", None, "policy", (), "Let me see."), Turn("second", "first", "policy", (), text))
    trajectory = Trajectory(f"t-{name}", name, turns, "", "repairs_exhausted", producer="base#1")
    return result(name, 0.0, answer="", trajectory=trajectory, searches=0, **changes)


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Pretraining:
    """Return a run whose stages leave results without doing anything."""
    tasks = [SearchTask(name, "qa", f"Who built {name}?", (("Ann Bo", "Ann"),)) for name in NAMES]
    write_jsonl(tmp_path / "questions.jsonl", tasks)
    write_jsonl(tmp_path / "corpus.jsonl", [Passage("p", "Quay", "Ann Bo built the quay.")])
    masked = SearchTask("m", "ramp", "Quay: built by [mask]", (("Ann Bo",),), category="ramp")
    asked = [replace(task, category="cloze", source_text="Ann Bo built it.") for task in tasks]
    rows = {
        "agent-pe": [untagged(name, "<think>It was Ann, I think") for name in NAMES],
        "rag-pe": [result(name, 0.5, answer="Ann Do") for name in NAMES],
        "rag-3shot": [result(name, 0.25, answer="Ann Do") for name in NAMES],
        "ramp_sft": [result(name, float(name != "Weir")) for name in NAMES],
        "ramp_dapo": [result(name, 1.0) for name in NAMES],
    }

    def mask(stage: Masking, folder: Path, site: Site) -> None:
        write_jsonl(site.where(stage.tasks), [masked, *asked])

    def ask(stage: Evaluation, folder: Path, site: Site) -> None:
        for dataset, file in stage.results.items():
            kinds = ("ramp", "cloze", "cloze", "bridge") if dataset == "exam" else ("",) * 4
            found = [replace(row, category=kind) for row, kind in zip(rows[folder.name], kinds, strict=True)]
            write_jsonl(site.where(file), found)

    def deal(stage: Parts, folder: Path, site: Site) -> None:
        counts = {"unit": "documents", "train": 80, "validation": 5, "exam": 15}
        site.where(stage.counts).write_text(json.dumps(counts))

    def serve(stage: Choice, folder: Path, site: Site) -> None:
        info = BundleInfo(
            protocol_version=PROTOCOL_VERSION,
            prompts=COMPACT_PROMPTS,
            agent=AgentSettings(),
            model_version="run/ramp_dapo",
            provenance={"choice": {"chosen": "ramp_dapo"}},
        )
        (folder / BUNDLE_FILE).write_text(info.model_dump_json())

    kinds = (Parts, Index, BaseAgent, Masking, Draw, Lessons, SFT, DAPO, Evaluation, Choice)
    NotedWork(monkeypatch, kinds, tasks=mask, evaluation=ask, parts=deal, choice=serve)
    questions = [QuestionFile("docks", tmp_path / "questions.jsonl")]
    return Pretraining(
        Recipe(), tmp_path / "corpus.jsonl", questions, tmp_path / "run", command="masksearch …"
    )


def test_what_an_untrained_model_says_without_tags_counts_in_the_second_score_only(run: Pretraining) -> None:
    report = run.run()
    untrained, trained = report.score("agent-pe", "docks"), report.score("ramp_sft", "docks")
    assert untrained is not None
    assert trained is not None
    assert untrained.said is not None
    assert trained.said is not None
    assert (untrained.summary.recall, untrained.answered, untrained.said.mean) == (0.0, 0.0, 1.0)
    assert (trained.summary.recall, trained.answered, trained.said.mean) == (0.75, 1.0, 0.75)
    [gain] = [d for d in report.differences if (d.after, d.before) == ("ramp_sft", "agent-pe")]
    assert gain.said is not None
    assert (gain.gain.mean, gain.said.mean, gain.n) == (0.75, -0.25, 4)
    assert gain.gain.low > 0 > gain.said.low
    assert report.tasks == {"ramp": 1, "cloze": 4}
    exams = [stage.name for stage in report.stages if stage.name.startswith("evals/")]
    assert exams == ["evals/rag-3shot", "evals/rag-pe", "evals/agent-pe", "evals/ramp_sft", "evals/ramp_dapo"]
    assert {"index", "tasks", "ramp_sft", "ramp_dapo"} < {stage.name for stage in report.stages}


def test_the_exam_compares_every_stage_with_what_one_would_use_instead(run: Pretraining) -> None:
    report = run.run()
    exam = report.exam
    assert exam is not None
    assert report.datasets == ("docks",)
    assert [(s.dataset, s.summary.n) for s in exam.scores if s.agent == "rag-3shot"] == [
        *(("exam", 4), ("bridge", 1), ("cloze", 2), ("ramp", 1)),
    ]
    assert {s.agent: s.summary.recall for s in exam.scores if s.dataset == "exam"} == {
        **{"rag-3shot": 0.25, "rag-pe": 0.5, "agent-pe": 0.0, "ramp_sft": 0.75, "ramp_dapo": 1.0},
    }
    gain = exam.difference("ramp_dapo", "rag-3shot")
    assert gain is not None
    assert (gain.gain.mean, gain.n) == (0.75, 4)
    compared = [("agent-pe", "rag-3shot")]
    compared += [("ramp_sft", before) for before in ("rag-3shot", "agent-pe", "rag-pe")]
    compared += [("ramp_dapo", before) for before in ("rag-3shot", "agent-pe", "rag-pe", "ramp_sft")]
    assert [d.pair for d in exam.differences] == compared * 2
    assert [d.metric for d in exam.differences] == ["recall"] * 8 + ["em"] * 8
    assert [s.agent for s in exam.validation] == ["agent-pe", "ramp_sft", "ramp_dapo"]
    assert (exam.served, exam.start) == ("ramp_dapo", "agent-pe")
    assert exam.held_out == "15 of 100 passages; no training task was made from their documents"
    assert f"serve --agent {run.directory}/agent" in report.next_steps[1]
    assert report.differences[0].pair == ("ramp_sft", "rag-3shot")


def test_right_and_wrong_trajectories_are_shown_in_turn(run: Pretraining) -> None:
    samples = run.run().samples
    titles = ["exam: Quay", "docks: Quay", "exam: Weir", "docks: Weir", "exam: Mole"]
    assert [s.title for s in samples] == titles
    assert [s.recall for s in samples] == [1.0, 1.0, 0.0, 0.0, 1.0]


def test_every_page_is_written(run: Pretraining) -> None:
    report = run.run()
    folder = run.directory
    assert read_report(folder) == report
    page = (folder / "run.md").read_text()
    assert "Training helped on your documents" in page
    assert "RAMP SFT over Agent-PE" in page
    assert "Training helped on your documents" in (folder / "report.html").read_text()
    assert "Who built Quay?" in (folder / "evals" / "report.html").read_text()
    assert "masksearch …" in (folder / "run.md").read_text()


def test_the_last_words_lose_their_tags() -> None:
    assert last_words(untagged("Quay", "<think>Ann  Bo</think> <answer>")) == "Ann Bo"
    assert last_words(result("Quay", 1.0)) == "Ann Bo"
