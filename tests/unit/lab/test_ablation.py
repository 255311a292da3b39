from __future__ import annotations

import io
import json
from collections import Counter
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from fakes.evaluation_results import result
from fakes.stages import NotedWork
from rich.console import Console

from masksearch_agent.config.recipe import load_recipe
from masksearch_agent.errors import ConfigError
from masksearch_agent.jsonl import dump_record, write_jsonl
from masksearch_agent.lab.ablation import Ablation
from masksearch_agent.lab.ablation_plan import Plan, check_ablation, same_tokens
from masksearch_agent.lab.ablation_report import AblationReport
from masksearch_agent.lab.recipe import EXPERIMENTS, LabRecipe
from masksearch_agent.lab.shipped import shipped_recipe
from masksearch_agent.lab.world import World
from masksearch_agent.records import SearchTask, Trajectory
from masksearch_agent.stages.base import BaseAgent
from masksearch_agent.stages.dapo import DAPO
from masksearch_agent.stages.display import Display
from masksearch_agent.stages.evaluation import Evaluation
from masksearch_agent.stages.graph import FinishedStage, StageGraph
from masksearch_agent.stages.index import Index
from masksearch_agent.stages.sft import SFT
from masksearch_agent.stages.split import TaskSplit
from masksearch_agent.stages.stage import Site, Spent, Stage, lineage
from masksearch_agent.stages.tasks import Masking
from masksearch_agent.stages.trajectories import Lessons, OwnAttempts
from masksearch_agent.traces.store import TraceStore

SETTINGS = (
    "world.train_questions=[{hops: 2, count: 1}]",
    "world.test_questions=[{hops: 2, count: 1}, {hops: 3, count: 1}, {category: counting, count: 1}]",
    "ramp_dapo.curriculum=[{max_masks: 2, until: 0.5}, {max_masks: 4}]",
    "qa_dapo={max_steps: 5}",
    "evolution={max_rounds: 3, start_from: student, teacher_tasks: 2, tasks_per_round: 2}",
    "evaluation.bootstrap_samples=100",
    "ablation.seeds=[0, 1]",
)
QUESTIONS = 4
COSTS = {"sft": Spent(10, 100), "dapo": Spent(5, 70)}
ONE_SEED = {
    **{"world": 1, "index": 1, "base": 1, "split": 1, "attempts": 2},
    # Of evolution: held-out tasks without a limit, the first round's trajectories.
    **{"tasks": 3 + 1, "trajectories": 3 + 1},
    # On masks: 400 steps and a warm start, each without the guard too; in order. On questions: from the base and twice
    # from pre-trained models, each a full one and a warm start; twice longer. Of evolution: three rounds, and two after
    # the first.
    "sft": 2 + 2 + 1 + 6 + 2 + 3 + 2,
    # On masks: as it is, mixed, two other rewards, every group, without the guard. On questions: 3, and 2 longer.
    "dapo": 6 + 3 + 2,
    # The table, four of the same tokens, curriculum, rewards, sampling, guard, three rounds, longer training.
    "evaluation": 8 + 4 + 4 + 2 + 1 + 2 + 3 + 1,
}
KINDS = (*(World, Index, BaseAgent, Masking, Lessons, OwnAttempts, TaskSplit, SFT, DAPO, Evaluation),)


class Notes(NotedWork):
    """Notes the stages instead of doing them; a trained agent is right more often than an untrained one."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        super().__init__(
            monkeypatch,
            KINDS,
            split=self.split,
            trajectories=self.generate,
            attempts=self.generate,
            sft=lambda stage, *_: COSTS["sft"],
            dapo=lambda stage, *_: COSTS["dapo"],
            evaluation=self.ask,
        )

    def split(self, stage: TaskSplit, folder: Path, site: Site) -> None:
        write_jsonl(
            site.where(stage.pool), [SearchTask(f"t{n}", "qa", "Who?", (("Ann",),)) for n in range(6)]
        )

    def generate(self, stage: Lessons | OwnAttempts, folder: Path, site: Site) -> None:
        with TraceStore(site.where(stage.traces)) as store:
            number = stage.only[0] if stage.only else 0
            store.add(
                Trajectory(f"{number}", f"t{number}", (), "", "answered", accepted=True), stage.trace_stage
            )

    def ask(self, stage: Evaluation, folder: Path, site: Site) -> None:
        trained = sum(s.kind in ("sft", "dapo") for s in lineage(stage.agent))
        for results in stage.results.values():
            rows = [result(f"q{n}", float(n < min(QUESTIONS, trained))) for n in range(QUESTIONS)]
            write_jsonl(site.where(results), rows)

    def counts(self) -> Counter[str]:
        return Counter(stage.kind for stage in self.done)


@pytest.fixture
def workers(monkeypatch: pytest.MonkeyPatch) -> Notes:
    return Notes(monkeypatch)


def run(directory: Path, *overrides: str) -> AblationReport:
    recipe = load_recipe(None, [*SETTINGS, *overrides], LabRecipe)
    return Ablation(recipe, directory, Display(Console(file=io.StringIO()))).run()


class PlannedGraph(StageGraph):
    """Says what stages would take, without doing any."""

    def finish(self, stage: Stage) -> FinishedStage:
        spent = COSTS.get(stage.kind, Spent(0, 0))
        return FinishedStage(name=stage.kind, seconds=1.0, tokens=spent.tokens, steps=spent.steps)


class NoGraph(StageGraph):
    def finish(self, stage: Stage) -> FinishedStage:
        raise AssertionError(f"{stage.kind} must not be needed")


def plan(*overrides: str, graph: type[StageGraph] = NoGraph) -> Plan:
    return Plan(load_recipe(None, [*SETTINGS, *overrides], LabRecipe), 0, graph(Path("nowhere")))


def test_arms_share_what_they_have_in_common(workers: Notes, tmp_path: Path) -> None:
    run(tmp_path)
    assert workers.counts() == {kind: 2 * count for kind, count in ONE_SEED.items()}
    assert len({stage.key for stage in workers.done}) == len(workers.done)


def test_the_report_has_every_comparison_and_is_written(workers: Notes, tmp_path: Path) -> None:
    report = run(tmp_path)
    assert json.loads((tmp_path / "ablation.json").read_text()) == dump_record(report)
    assert [entry.name for entry in report.experiments] == list(EXPERIMENTS)
    table = report.experiments[0]
    assert [row.arm for row in table.rows] == [
        *("RAG-PE", "Agent-PE", "SFT", "RL", "SFT+SFT", "RL+SFT", "SFT+RL", "RL+RL")
    ]
    assert table.columns == ("in domain", "out of domain", "qa_2hop", "qa_3hop", "qa_counting")
    both = {row.arm: row for row in table.rows}["SFT+SFT"]
    assert (both.cells["in domain"].recall.mean, both.cells["out of domain"].n) == (0.5, 8)
    assert (both.seeds, both.tokens) == (2, 200)
    verdicts = {claim.claim: claim.verdict for claim in report.claims}
    assert verdicts["RAMP pre-training helps in domain"] == "reproduced"
    assert verdicts["Dynamic sampling helps"] == "not reproduced"  # both arms are of as many stages
    page = (tmp_path / "ablation.md").read_text()
    for name in ("claims", *EXPERIMENTS):
        assert f"(ablation-{name}.svg)" in page
        ElementTree.parse(tmp_path / f"ablation-{name}.svg")


@pytest.mark.parametrize("killed_after", [0, 1, 7, 40, 60])
def test_a_killed_run_does_what_is_missing(workers: Notes, tmp_path: Path, killed_after: int) -> None:
    whole = run(tmp_path / "whole")
    workers.done = []
    workers.killed_after = killed_after
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "killed")
    assert len(workers.done) == killed_after
    report = run(tmp_path / "killed")
    assert len({stage.key for stage in workers.done}) == len(workers.done) == 2 * sum(ONE_SEED.values())
    assert (report.claims, report.experiments) == (whole.claims, whole.experiments)


def test_more_seeds_and_comparisons_are_added_to_what_is_there(workers: Notes, tmp_path: Path) -> None:
    first = run(tmp_path, "ablation.seeds=[1]", "ablation.only=[sampling]")
    assert workers.counts() == {
        **{"world": 1, "index": 1, "base": 1, "trajectories": 1},
        **{"tasks": 2, "sft": 1, "dapo": 2, "evaluation": 2},
    }
    assert [claim.claim for claim in first.claims] == ["Dynamic sampling helps"]
    run(tmp_path)
    assert workers.counts() == {kind: 2 * count for kind, count in ONE_SEED.items()}


def test_another_setting_repeats_only_what_depends_on_it(workers: Notes, tmp_path: Path) -> None:
    settings = ("ablation.seeds=[0]", "ablation.only=[table]")
    run(tmp_path, *settings)
    workers.done = []
    run(tmp_path, *settings, "qa_sft.max_steps=7")
    # The stages that are SFT on questions in full, and what is asked of them.
    assert workers.counts() == {"sft": 3, "evaluation": 3}


def test_as_many_tokens_are_spent_without_pre_training() -> None:
    arms = {arm.name: arm for arm in plan(graph=PlannedGraph).arms("tokens")}
    longer = {name: arm for name, arm in arms.items() if "tokens of" in name}
    steps = {name: arm.training[0].settings.max_steps for name, arm in longer.items()}
    assert steps == {
        "SFT, tokens of SFT+SFT": 20,  # 100 + 100 tokens at 10 a step
        "SFT, tokens of RL+SFT": 27,  # 100 + 70 + 100
        "RL, tokens of SFT+RL": 12,  # 100 + 100 + 70, of which 100 go into the warm start, at 14 a step
        "RL, tokens of RL+RL": 17,  # 100 + 70 + 100 + 70
    }
    assert {len(arm.training) for arm in longer.values()} == {1, 2}


def test_a_stage_that_learned_from_nothing_is_not_made_longer() -> None:
    assert same_tokens(FinishedStage(name="dapo", seconds=1.0, tokens=0, steps=5), 1000) == 5
    assert same_tokens(FinishedStage(name="sft", seconds=1.0, tokens=100, steps=10), -5) == 1


def trained_by(arm: Any, kind: str) -> Any:
    return next(stage for stage in arm.training if stage.kind == kind)


def test_each_comparison_changes_what_it_is_about_and_nothing_else() -> None:
    arms = plan()
    mixed, ordered, rl_mixed, rl_ordered = arms.arms("curriculum")
    assert [trained_by(arm, "sft").settings.curriculum for arm in (mixed, ordered)] == [False, True]
    assert [len(trained_by(arm, "dapo").settings.curriculum) for arm in (rl_mixed, rl_ordered)] == [0, 2]
    off, on = arms.arms("sampling")
    assert [trained_by(arm, "dapo").settings.dynamic_sampling for arm in (off, on)] == [False, True]
    answers = [trained_by(arm, "dapo").rollouts.rewards.answer for arm in arms.arms("rewards")]
    assert answers == ["recall", "recall_with_length_penalty", "exact_match"]
    for one, other in ((mixed, ordered), (rl_mixed, rl_ordered), (off, on)):
        first, second = (
            json.dumps(arm.training[0].description, sort_keys=True).replace("false", "true")
            for arm in (one, other)
        )
        if one is not rl_mixed:
            assert first == second
        assert [stage.key for stage in one.training[1:]] == [stage.key for stage in other.training[1:]]


def test_without_its_guard_an_arm_differs_in_tasks_trajectories_and_rollouts_but_not_in_the_test() -> None:
    arms = {arm.name: arm for arm in plan().arms("leak_guard")}
    for name, is_guarded in (("off", False), ("on", True)):
        dapo, warm = arms[f"RL, {name}"].training
        lessons = warm.traces[0].stage
        for stage in (dapo, lessons, dapo.tasks.stage, lessons.tasks.stage):
            assert stage.searched.is_guarded is is_guarded
    tests = {arm.results["ramp"].stage.asked["ramp"].questions.stage.key for arm in arms.values()}
    assert len(tests) == 1


def test_a_named_judge_takes_the_place_of_exact_match() -> None:
    arms = plan("rewards.judge={model: 'openai:m'}").arms("rewards")
    assert arms[-1].name == "judge"


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("qa_dapo=null", "the recipe has no `qa_dapo`"),
        ("ramp_dapo.curriculum=[]", "nothing to compare with mixed masks"),
        ("world.train_questions=[{hops: 1, count: 1}]", "in domain and out of it"),
        ("ablation.seeds=[0, 0]", "the same one stands there twice"),
        ("ablation.only=[tables]", "ablation.only.0"),
    ],
)
def test_a_recipe_that_cannot_be_compared_is_refused(tmp_path: Path, override: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        run(tmp_path, override)


def test_the_shipped_recipe_can_be_compared() -> None:
    recipe = load_recipe(shipped_recipe("ablate"), schema=LabRecipe)
    check_ablation(recipe)
    assert recipe.qa_dapo is not None
    assert (recipe.qa_dapo.group_size, recipe.qa_dapo.curriculum) == (recipe.ramp_dapo.group_size, ())
