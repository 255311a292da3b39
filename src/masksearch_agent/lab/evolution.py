"""Self-evolution on a closed world.

world -> index -> tasks -> split -> (teach | sample) -> train -> evaluate -> … -> the best student
"""

from __future__ import annotations

from pathlib import Path

from masksearch_agent.lab.recipe import LabRecipe
from masksearch_agent.lab.world import World
from masksearch_agent.reports.records import RunReport
from masksearch_agent.runs.evolution import finish_evolution
from masksearch_agent.runs.rounds import Rounds, split_tasks
from masksearch_agent.stages.display import Display
from masksearch_agent.stages.graph import StageGraph
from masksearch_agent.stages.plan import RecipeStages

__all__ = ("WorldEvolution",)


class WorldEvolution:
    """One run; held-out tasks are about entities that no round has seen.

    Args:
        recipe: What to do: `evolution` says how many rounds of what size, `ramp_sft` how each trains.
        directory: The run folder.
        display: Progress.

    Raises:
        ConfigError: The folder belongs to a run with other settings.
    """

    def __init__(self, recipe: LabRecipe, directory: Path, display: Display | None = None) -> None:
        make = RecipeStages(recipe)
        world = World(name="world", title="writing a closed world", settings=recipe.world, seed=recipe.seed)
        searched = make.search(make.index(world.passages))
        base = make.base(searched.index)
        pool = make.tasks(world.split("train"), searched)
        held_out = make.tasks(world.split("test"), searched, "held_out_tasks", "test")
        split = split_tasks(make, [pool], [held_out], recipe.evolution)
        graph = StageGraph(directory, display, recipe.report_to)
        graph.check([split])
        self.rounds = Rounds(graph, make, split, searched, base, recipe.evolution, recipe.ramp_sft)

    def run(self) -> RunReport:
        """Do every stage that is not done yet; write the report and return it."""
        return finish_evolution(self.rounds)
