from __future__ import annotations

import io
import json
from collections import Counter
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from fakes.evaluation_results import result
from rich.console import Console

from masksearch_agent.config.ablation import EXPERIMENTS
from masksearch_agent.config.recipe import Recipe, load_recipe
from masksearch_agent.config.trainers import SFTSettings
from masksearch_agent.errors import ConfigError
from masksearch_agent.jsonl import write_jsonl
from masksearch_agent.pipeline import ablation
from masksearch_agent.pipeline.ablation import Ablation
from masksearch_agent.pipeline.ablation_plan import Plan, same_tokens
from masksearch_agent.pipeline.ablation_stages import repeat_to_fit
from masksearch_agent.pipeline.display import Bar, Display
from masksearch_agent.pipeline.stage_cache import Stage, lineage
from masksearch_agent.pipeline.stages import FinishedStage
from masksearch_agent.records import Trajectory

SETTINGS = (
    "world.train_questions=[{hops: 2, count: 1}]",
    "world.test_questions=[{hops: 2, count: 1}, {hops: 3, count: 1}, {category: counting, count: 1}]",
    "ramp_dapo.curriculum=[{max_masks: 2, until: 0.5}, {max_masks: 4}]",
    "qa_dapo={max_steps: 5}",
    "evolution={max_rounds: 3, start_from: student}",
    "evaluation.bootstrap_samples=100",
    "ablation.seeds=[0, 1]",
)
QUESTIONS = 4
COSTS = {"sft": (10, 100), "dapo": (5, 70), "evolution": (3, 500)}
ONE_SEED = {
    **{"world": 1, "index": 1, "base": 1, "masks": 3, "traces": 3, "evolution": 1},
    # On masks: 400 steps and a warm start, each without the guard too; in order. On questions: from the base and twice
    # from pre-trained models, each a full one and a warm start; twice longer. After the first round of evolution: two.
    "sft": 2 + 2 + 1 + 6 + 2 + 2,
    # On masks: as it is, mixed, two other rewards, every group, without the guard. On questions: 3, and 2 longer.
    "dapo": 6 + 3 + 2,
    # The table, four of the same tokens, curriculum, rewards, sampling, guard, longer training.
    "evaluation": 8 + 4 + 4 + 2 + 1 + 2 + 1,
}


class FakeWorkers:
    """Notes the stages instead of doing them; a trained agent is right more often than an untrained one."""

    def __init__(self) -> None:
        self.done: list[Stage] = []
        self.killed_after: int | None = None
        self.path_of: Any = None

    def __call__(self, path_of: Any) -> FakeWorkers:
        self.path_of = path_of
        return self

    @property
    def by_kind(self) -> dict[str, Any]:
        return dict.fromkeys((*ONE_SEED, "evolution"), self.work)

    def work(self, stage: Stage, folder: Path, bar: Bar) -> tuple[int, int] | None:
        if len(self.done) == self.killed_after:
            self.killed_after = None
            raise KeyboardInterrupt
        for part in stage.sources.values():
            assert (self.path_of(part.stage.part()) / "stages.json").is_file()
        if stage.kind == "evaluation":
            trained = [s for s in lineage(stage.sources["agent"], "agent") if s.kind in ("sft", "dapo")]
            for name in stage.sources:
                if name.startswith("set "):
                    self.write(folder / f"{name[4:]}.jsonl", min(QUESTIONS, len(trained)))
        if stage.kind == "evolution":
            for number in (1, 2, 3):
                self.write(folder / "run" / "rounds" / f"{number}" / "test.jsonl", number)
        self.done.append(stage)
        return COSTS.get(stage.kind)

    def write(self, path: Path, right: int) -> None:
        write_jsonl(path, [result(f"q{number}", float(number < right)) for number in range(QUESTIONS)])

    def counts(self) -> Counter[str]:
        return Counter(stage.kind for stage in self.done)


@pytest.fixture
def workers(monkeypatch: pytest.MonkeyPatch) -> FakeWorkers:
    fake = FakeWorkers()
    monkeypatch.setattr(ablation, "AblationWorkers", fake)
    return fake


def run(directory: Path, *overrides: str) -> dict[str, Any]:
    recipe = load_recipe(None, [*SETTINGS, *overrides])
    return Ablation(recipe, directory, Display(Console(file=io.StringIO()))).run()


def plan(*overrides: str) -> Plan:
    return Plan(load_recipe(None, [*SETTINGS, *overrides]), seed=0)


def test_arms_share_what_they_have_in_common(workers: FakeWorkers, tmp_path: Path) -> None:
    run(tmp_path)
    assert workers.counts() == {kind: 2 * count for kind, count in ONE_SEED.items()}
    assert len({stage.key for stage in workers.done}) == len(workers.done)


def test_the_report_has_every_comparison_and_is_written(workers: FakeWorkers, tmp_path: Path) -> None:
    report = run(tmp_path)
    assert json.loads((tmp_path / "ablation.json").read_text()) == report
    assert [entry["name"] for entry in report["experiments"]] == list(EXPERIMENTS)
    table = report["experiments"][0]
    assert [row["arm"] for row in table["rows"]] == [
        *("RAG-PE", "Agent-PE", "SFT", "RL", "SFT+SFT", "RL+SFT", "SFT+RL", "RL+RL")
    ]
    assert table["columns"] == ["in domain", "out of domain", "qa_2hop", "qa_3hop", "qa_counting"]
    both = {row["arm"]: row for row in table["rows"]}["SFT+SFT"]
    assert (both["cells"]["in domain"]["recall"], both["cells"]["out of domain"]["n"]) == (0.5, 8)
    assert (both["seeds"], both["tokens"]) == (2, 200)
    verdicts = {claim["claim"]: claim["verdict"] for claim in report["claims"]}
    assert verdicts["RAMP pre-training helps in domain"] == "reproduced"
    assert verdicts["Dynamic sampling helps"] == "not reproduced"  # both arms are of as many stages
    page = (tmp_path / "ablation.md").read_text()
    for name in ("claims", *EXPERIMENTS):
        assert f"(ablation-{name}.svg)" in page
        ElementTree.parse(tmp_path / f"ablation-{name}.svg")


@pytest.mark.parametrize("killed_after", [0, 1, 7, 40, 60])
def test_a_killed_run_does_what_is_missing(workers: FakeWorkers, tmp_path: Path, killed_after: int) -> None:
    whole = run(tmp_path / "whole")
    workers.done = []
    workers.killed_after = killed_after
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "killed")
    assert len(workers.done) == killed_after
    report = run(tmp_path / "killed")
    assert len({stage.key for stage in workers.done}) == len(workers.done) == 2 * sum(ONE_SEED.values())
    for part in ("claims", "experiments"):
        assert report[part] == whole[part]


def test_more_seeds_and_comparisons_are_added_to_what_is_there(workers: FakeWorkers, tmp_path: Path) -> None:
    first = run(tmp_path, "ablation.seeds=[1]", "ablation.only=[sampling]")
    assert workers.counts() == {
        **{"world": 1, "index": 1, "base": 1, "traces": 1},
        **{"masks": 2, "sft": 1, "dapo": 2, "evaluation": 2},
    }
    assert [claim["claim"] for claim in first["claims"]] == ["Dynamic sampling helps"]
    run(tmp_path)
    assert workers.counts() == {kind: 2 * count for kind, count in ONE_SEED.items()}


def test_another_setting_repeats_only_what_depends_on_it(workers: FakeWorkers, tmp_path: Path) -> None:
    settings = ("ablation.seeds=[0]", "ablation.only=[table]")
    run(tmp_path, *settings)
    workers.done = []
    run(tmp_path, *settings, "qa_sft.max_steps=7")
    # The stages that are SFT on questions in full, and what is asked of them.
    assert workers.counts() == {"sft": 3, "evaluation": 3}


def test_as_many_tokens_are_spent_without_pre_training() -> None:
    finished: list[Stage] = []

    def finish(stage: Stage) -> FinishedStage:
        finished.append(stage)
        steps, tokens = COSTS.get(stage.kind, (0, 0))
        return FinishedStage(stage.kind, 1.0, tokens, steps)

    arms = {arm.name: arm for arm in plan().arms("tokens", finish)}
    longer = {name: arm for name, arm in arms.items() if "tokens of" in name}
    steps = {
        name: {**arm.training[0].settings.get("sft", {}), **arm.training[0].settings.get("dapo", {})}[
            "max_steps"
        ]
        for name, arm in longer.items()
    }
    assert steps == {
        "SFT, tokens of SFT+SFT": 20,  # 100 + 100 tokens at 10 a step
        "SFT, tokens of RL+SFT": 27,  # 100 + 70 + 100
        "RL, tokens of SFT+RL": 12,  # 100 + 100 + 70, of which 100 go into the warm start, at 14 a step
        "RL, tokens of RL+RL": 17,  # 100 + 70 + 100 + 70
    }
    assert {len(arm.training) for arm in longer.values()} == {1, 2}


def test_a_stage_that_learned_from_nothing_is_not_made_longer() -> None:
    assert same_tokens(FinishedStage("dapo", 1.0, tokens=0, steps=5), 1000) == 5
    assert same_tokens(FinishedStage("sft", 1.0, tokens=100, steps=10), -5) == 1


def settings_of(arm: Any, kind: str) -> Any:
    return next(stage.settings for stage in arm.training if stage.kind == kind)


def no_stage(stage: Stage) -> FinishedStage:
    raise AssertionError(f"{stage.kind} must not be needed")


def test_each_comparison_changes_what_it_is_about_and_nothing_else() -> None:
    arms = plan()
    mixed, ordered, rl_mixed, rl_ordered = arms.arms("curriculum", no_stage)
    assert [settings_of(arm, "sft")["sft"]["curriculum"] for arm in (mixed, ordered)] == [False, True]
    assert [len(settings_of(arm, "dapo")["dapo"]["curriculum"]) for arm in (rl_mixed, rl_ordered)] == [0, 2]
    off, on = arms.arms("sampling", no_stage)
    assert [settings_of(arm, "dapo")["dapo"]["dynamic_sampling"] for arm in (off, on)] == [False, True]
    answers = [
        settings_of(arm, "dapo")["recipe"]["rewards"]["answer"] for arm in arms.arms("rewards", no_stage)
    ]
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
    arms = {arm.name: arm for arm in plan().arms("leak_guard", no_stage)}
    for name, is_guarded in (("off", False), ("on", True)):
        dapo, warm = arms[f"RL, {name}"].training
        traces = warm.sources["traces"].stage
        for stage in (dapo, traces, dapo.sources["tasks"].stage, traces.sources["tasks"].stage):
            assert stage.settings["is_guarded"] is is_guarded
    tests = {arm.results["ramp"].stage.sources["set ramp"].stage.key for arm in arms.values()}
    assert len(tests) == 1


def test_a_named_judge_takes_the_place_of_exact_match() -> None:
    arms = plan("rewards.judge={model: 'openai:m'}").arms("rewards", no_stage)
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
    recipe: Recipe = load_recipe(Path(ablation.__file__).with_name("ablate.yaml"))
    ablation.check_ablation(recipe)
    assert recipe.qa_dapo is not None
    assert (recipe.qa_dapo.group_size, recipe.qa_dapo.curriculum) == (recipe.ramp_dapo.group_size, ())


def test_a_curriculum_gets_as_many_trajectories_as_its_steps_read() -> None:
    trajectories = [Trajectory(f"t{number}", "task", (), "", "answered") for number in range(5)]
    settings = SFTSettings(max_steps=4, batch_size=3)
    fitted = Counter(trajectory.id for trajectory in repeat_to_fit(trajectories, settings))
    assert (fitted.total(), set(fitted.values())) == (12, {2, 3})
    assert repeat_to_fit(trajectories[::-1], settings) == repeat_to_fit(trajectories, settings)
    few = repeat_to_fit(trajectories, SFTSettings(max_steps=1, batch_size=3))
    assert len({trajectory.id for trajectory in few}) == 3
