"""The ablations on closed worlds: the paper's table and its claims, put to the test over several seeds.

What is compared is `ablation_plan`'s; every stage is done once (`stage_cache`), however many arms it is part of, so a
run that was stopped, or is started again with other seeds or comparisons, does only what is missing.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from masksearch_agent.config.ablation import Experiment
from masksearch_agent.config.recipe import Recipe
from masksearch_agent.evaluation.runner import read_results
from masksearch_agent.pipeline.ablation_claims import ArmRun
from masksearch_agent.pipeline.ablation_plan import Arm, Plan, check_ablation
from masksearch_agent.pipeline.ablation_report import build_ablation_report, write_ablation_report
from masksearch_agent.pipeline.ablation_stages import AblationWorkers
from masksearch_agent.pipeline.display import Display
from masksearch_agent.pipeline.stage_cache import Stage, StageCache

__all__ = ("Ablation",)


class Ablation:
    """One run.

    Args:
        recipe: What to do: `ablation` says what is compared on which seeds, the other rooms how each stage works.
        directory: The run folder.
        display: Progress.

    Raises:
        ConfigError: The recipe lacks what a comparison needs.
    """

    def __init__(self, recipe: Recipe, directory: Path, display: Display | None = None) -> None:
        check_ablation(recipe)
        self.recipe = recipe
        self.directory = directory
        self.display = display or Display()
        workers = AblationWorkers(lambda part: self.cache.path(part))
        self.cache = StageCache(directory / "stages", workers.by_kind, self.display)
        self._asked: list[Stage] = []

    def run(self) -> dict[str, Any]:
        """Do every stage that is not done yet and write the report.

        Returns:
            The report, as written to `ablation.json`.
        """
        self.directory.mkdir(parents=True, exist_ok=True)
        recipe_text = yaml.safe_dump(self.recipe.model_dump(mode="json"), sort_keys=False)
        (self.directory / "recipe.yaml").write_text(recipe_text, encoding="utf-8")
        runs: dict[Experiment, list[ArmRun]] = {name: [] for name in self.recipe.ablation.only}
        # Seed by seed: a run that is stopped early has whole seeds.
        for seed in self.recipe.ablation.seeds:
            plan = Plan(self.recipe, seed)
            for experiment, done in runs.items():
                arms = plan.arms(experiment, self.cache.finish)
                for number, arm in enumerate(arms, start=1):
                    self.display.say(f"seed {seed}, {experiment}, {number} of {len(arms)}: {arm.name}")
                    done.append(self._finish(arm, seed))
        report = build_ablation_report(self.recipe, runs, *self.cache.cost(self._asked))
        write_ablation_report(report, self.directory)
        return report

    def _finish(self, arm: Arm, seed: int) -> ArmRun:
        """Do the stages of an arm and return what came out."""
        for part in arm.results.values():
            self.cache.finish(part.stage)
            self._asked.append(part.stage)
        tokens = sum(self.cache.finish(stage).tokens for stage in arm.training)
        results = {name: read_results(self.cache.path(part)) for name, part in arm.results.items()}
        return ArmRun(arm.name, seed, results, tokens if arm.agent is not None else None)
