"""The whole loop on a closed world: from a seed to a search agent that is trained, restored and evaluated.

    world -> index -> RAMP tasks -> trajectories -> SFT (RAMP) -> DAPO (RAMP) -> SFT (questions)
          [-> DAPO (questions)] -> evaluation

Evaluation asks about entities that no training stage has seen.
"""

from __future__ import annotations

from pathlib import Path

from masksearch_agent.config.ramp import RampSettings
from masksearch_agent.lab.quickstart_report import report_quickstart
from masksearch_agent.lab.recipe import LabRecipe
from masksearch_agent.lab.world import World
from masksearch_agent.reports.records import RunReport
from masksearch_agent.stages.display import Display
from masksearch_agent.stages.evaluation import Asked
from masksearch_agent.stages.graph import StageGraph
from masksearch_agent.stages.plan import RecipeStages, save_recipe

__all__ = ("Quickstart",)


class Quickstart:
    """One run.

    Raises:
        ConfigError: The folder belongs to a run with other settings.
    """

    def __init__(self, recipe: LabRecipe, directory: Path, display: Display | None = None) -> None:
        self.recipe, self.directory = recipe, directory
        make = RecipeStages(recipe)
        world = World(name="world", title="writing a closed world", settings=recipe.world, seed=recipe.seed)
        index = make.index(world.passages)
        searched = make.search(index)
        base = make.base(index)
        masks = make.tasks(world.split("train"), searched)
        # Masks only, and as many passages of each count, whatever is trained on: what runs have in common.
        exam = recipe.masking.model_copy(
            update={"cloze_questions": 0.0, "mask_count_weights": RampSettings().mask_count_weights}
        )
        held_out = make.tasks(
            world.split("test"), searched, "held_out_tasks", "test", recipe.world.test_ramp_tasks, exam
        )
        self.traces = [
            make.trajectories(tasks, searched, kind, f"trajectories/{kind}")
            for kind, tasks in (("ramp", masks), ("qa", world.train_questions))
        ]
        student = make.sft(base, self.traces[0], recipe.ramp_sft, "ramp_sft")
        searcher = make.dapo(student, masks, searched, recipe.stage_one_dapo, "ramp_dapo")
        last = "qa_sft" if recipe.qa_dapo else "agent"
        reader = make.sft(searcher, self.traces[1], recipe.qa_sft, "qa_sft", last, ramp=(self.traces[0],))
        self.agent = reader
        if recipe.qa_dapo is not None:
            self.agent = make.dapo(
                reader, world.train_questions, searched, recipe.qa_dapo, "qa_dapo", "agent", ramp=(masks,)
            )
        asked = {
            name: Asked(tasks, searched) for name, tasks in {**world.test_questions, "ramp": held_out}.items()
        }
        rows = {"untrained": base, "ramp_sft": student, "ramp_dapo": searcher}
        if recipe.qa_dapo is not None:
            rows["qa_sft"] = reader
        rows["agent"] = self.agent
        self.exams = [make.evaluation(name, row, asked) for name, row in rows.items()]
        self.exams.insert(1, make.evaluation("rag", self.agent, asked, "rag"))
        self.graph = StageGraph(directory, display, recipe.report_to)
        self.graph.check(self.exams)

    def run(self) -> RunReport:
        """Do every stage that is not done yet; write the report and return it."""
        self.graph.hold()
        save_recipe(self.recipe, self.directory)
        self.graph.make(self.agent)
        for exam in self.exams:
            self.graph.finish(exam)
        return report_quickstart(self)
