"""The ablations on closed worlds: the paper's table and its claims, put to the test over several seeds.

What is compared is `ablation_plan`'s; every stage is done once, however many arms it is part of, so a run that was
stopped, or is started again with other seeds or comparisons, does only what is missing.
"""

from __future__ import annotations

from pathlib import Path

from masksearch_agent.evaluation.results import read_results
from masksearch_agent.lab.ablation_claims import ArmRun
from masksearch_agent.lab.ablation_plan import Arm, Plan, check_ablation
from masksearch_agent.lab.ablation_report import (
    AblationReport,
    build_ablation_report,
    write_ablation_report,
)
from masksearch_agent.lab.recipe import Experiment, LabRecipe
from masksearch_agent.stages.display import Display
from masksearch_agent.stages.graph import StageGraph
from masksearch_agent.stages.plan import save_recipe
from masksearch_agent.stages.stage import Stage

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

    def __init__(self, recipe: LabRecipe, directory: Path, display: Display | None = None) -> None:
        check_ablation(recipe)
        self.recipe = recipe
        self.directory = directory
        self.graph = StageGraph(directory / "stages", display, recipe.report_to)
        self.exams: list[Stage] = []

    def run(self) -> AblationReport:
        """Do every stage that is not done yet, write the report and return it."""
        self.graph.hold()
        save_recipe(self.recipe, self.directory)
        runs: dict[Experiment, list[ArmRun]] = {name: [] for name in self.recipe.ablation.only}
        # Seed by seed: a run that is stopped early has whole seeds.
        for seed in self.recipe.ablation.seeds:
            plan = Plan(self.recipe, seed, self.graph)
            for experiment, done in runs.items():
                arms = plan.arms(experiment)
                for number, arm in enumerate(arms, start=1):
                    self.graph.display.say(f"seed {seed}, {experiment}, {number} of {len(arms)}: {arm.name}")
                    done.append(self._finish(arm, seed))
        report = build_ablation_report(self.recipe, runs, self.graph.took(self.exams))
        write_ablation_report(report, self.directory)
        return report

    def _finish(self, arm: Arm, seed: int) -> ArmRun:
        """Do the stages of an arm and return what came out."""
        results = {name: read_results(self.graph.make(part)) for name, part in arm.results.items()}
        self.exams += [part.stage for part in arm.results.values() if part.stage is not None]
        tokens = sum(self.graph.finish(stage).tokens for stage in arm.training)
        return ArmRun(arm.name, seed, results, tokens if arm.agent is not None else None)
