from __future__ import annotations

from pathlib import Path

import pytest
from fakes.stages import NotedWork
from pydantic import ValidationError

from masksearch_agent.config.ramp import RampSettings
from masksearch_agent.config.trainers import DAPOSettings, SFTSettings
from masksearch_agent.errors import ConfigError
from masksearch_agent.lab import quickstart
from masksearch_agent.lab.quickstart import Quickstart
from masksearch_agent.lab.recipe import LabRecipe
from masksearch_agent.lab.world import World
from masksearch_agent.stages.base import BaseAgent
from masksearch_agent.stages.dapo import DAPO
from masksearch_agent.stages.evaluation import Evaluation
from masksearch_agent.stages.index import Index
from masksearch_agent.stages.plan import RecipeStages
from masksearch_agent.stages.sft import SFT
from masksearch_agent.stages.stage import AgentFolder, Traces
from masksearch_agent.stages.tasks import Masking
from masksearch_agent.stages.trajectories import Lessons


@pytest.fixture
def notes(monkeypatch: pytest.MonkeyPatch) -> NotedWork:
    monkeypatch.setattr(quickstart, "report_quickstart", lambda run: None)
    kinds = (World, Index, BaseAgent, Masking, Lessons, SFT, DAPO, Evaluation)
    return NotedWork(monkeypatch, kinds)


def test_stage_two_is_supervised_by_default(notes: NotedWork, tmp_path: Path) -> None:
    Quickstart(LabRecipe(), tmp_path).run()
    last = notes.of_kind("sft")[-1]
    assert (last.label, last.agent.stage.name, last.name) == ("qa_sft", "ramp_dapo", "agent")
    assert [(exam.name, exam.mode, exam.agent.stage.name) for exam in notes.of_kind("evaluation")] == [
        ("evals/untrained", "agentic", "base"),
        ("evals/rag", "rag", "agent"),
        ("evals/ramp_sft", "agentic", "ramp_sft"),
        ("evals/ramp_dapo", "agentic", "ramp_dapo"),
        ("evals/agent", "agentic", "agent"),
    ]
    assert list(notes.of_kind("evaluation")[0].asked) == ["qa_1hop", "qa_2hop", "qa_3hop", "ramp"]


def test_stage_two_ends_in_dapo_where_the_recipe_says_so(notes: NotedWork, tmp_path: Path) -> None:
    Quickstart(LabRecipe(seed=3, qa_dapo=DAPOSettings(max_steps=7)), tmp_path).run()
    sft, dapo = notes.of_kind("sft")[-1], notes.of_kind("dapo")[-1]
    assert (sft.label, sft.agent.stage.name, sft.name) == ("qa_sft", "ramp_dapo", "qa_sft")
    assert (dapo.label, dapo.agent.stage.name, dapo.name) == ("qa_dapo", "qa_sft", "agent")
    assert (dapo.settings.max_steps, dapo.settings.seed) == (7, 3)
    assert [exam.name for exam in notes.of_kind("evaluation")][-2:] == ["evals/qa_sft", "evals/agent"]


def test_held_out_tasks_are_of_the_test_split_and_trained_ones_are_not(
    notes: NotedWork, tmp_path: Path
) -> None:
    Quickstart(LabRecipe(), tmp_path).run()
    masks = {stage.name: stage for stage in notes.of_kind("tasks")}
    assert {name: (stage.corpus.path, stage.split, stage.max_tasks) for name, stage in masks.items()} == {
        "tasks": ("train", "train", None),
        "held_out_tasks": ("test", "test", 200),
    }
    assert [stage.tasks.path for stage in notes.of_kind("trajectories")] == [
        "tasks.jsonl",
        "questions/qa_train.jsonl",
    ]


def test_the_exam_holds_masks_only_and_as_many_of_each_count_whatever_is_trained_on(
    notes: NotedWork, tmp_path: Path
) -> None:
    trained = RampSettings(cloze_questions=0.5, mask_count_weights=(4, 1, 1, 1))
    Quickstart(LabRecipe(ramp=trained), tmp_path).run()
    masks = {stage.name: stage.settings for stage in notes.of_kind("tasks")}
    assert masks == {"tasks": trained, "held_out_tasks": RampSettings()}


def test_stage_two_draws_its_share_of_ramp_from_stage_one(notes: NotedWork, tmp_path: Path) -> None:
    recipe = LabRecipe(qa_sft=SFTSettings(ramp_share=0.3), qa_dapo=DAPOSettings(ramp_share=0.2))
    Quickstart(recipe, tmp_path).run()
    first, second = notes.of_kind("sft")
    assert [traces.trace_stage for traces in (*second.traces, *second.ramp)] == ["qa", "ramp"]
    first_dapo, second_dapo = notes.of_kind("dapo")
    assert (first_dapo.ramp, second_dapo.ramp) == ((), (first_dapo.tasks,))
    assert first.ramp == ()
    Quickstart(LabRecipe(), tmp_path / "plain").run()
    assert all(stage.ramp == () for stage in (*notes.of_kind("sft")[2:], *notes.of_kind("dapo")[2:]))


def test_a_share_of_ramp_is_refused_where_there_is_none() -> None:
    with pytest.raises(
        ValidationError, match=r"ramp_sft.ramp_share is 0.3, but Stage I trains on RAMP alone"
    ):
        LabRecipe(ramp_sft=SFTSettings(ramp_share=0.3))
    make = RecipeStages(LabRecipe())
    with pytest.raises(ConfigError, match=r"qa_sft.ramp_share is 0.3, but this run has no RAMP"):
        make.sft(AgentFolder("agent"), Traces("traces", None, "qa"), SFTSettings(ramp_share=0.3), "qa_sft")
