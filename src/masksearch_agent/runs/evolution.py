"""Self-evolution on tasks of your own: the student becomes the teacher of the next one.

tasks -> split -> (teach | sample) -> train -> evaluate -> … -> the best student
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from masksearch_agent.config.recipe import Recipe
from masksearch_agent.reports.records import RunReport
from masksearch_agent.retrieval.adapters import is_folder
from masksearch_agent.runs.reporting import report_evolution
from masksearch_agent.runs.rounds import Rounds, evolve, split_tasks
from masksearch_agent.stages.display import Display
from masksearch_agent.stages.export import Export
from masksearch_agent.stages.graph import StageGraph
from masksearch_agent.stages.plan import RecipeStages, save_recipe
from masksearch_agent.stages.stage import IndexFolder, TaskFile

__all__ = ("Evolution", "finish_evolution")


class Evolution:
    """One run.

    Args:
        recipe: What to do: `evolution` says how many rounds of what size, `ramp_sft` how each trains.
        tasks: Task files, as `masksearch ramp` writes them.
        index: What they are answered from: the folder of an index, or a web search.
        held_out: Task files that no round trains on; empty holds out some of `tasks`.

    Raises:
        ConfigError: The folder belongs to a run with other settings or tasks.
    """

    def __init__(
        self,
        recipe: Recipe,
        directory: Path,
        tasks: Sequence[Path],
        index: str | Path,
        held_out: Sequence[Path] = (),
        display: Display | None = None,
    ) -> None:
        self.graph = StageGraph(directory, display, recipe.report_to)
        make = RecipeStages(recipe)
        searched = make.search(IndexFolder(str(index)))
        base = make.base(searched.index if is_folder(index) else None)
        pool, aside = ([TaskFile(str(file)) for file in group] for group in (tasks, held_out))
        split = split_tasks(make, pool, aside, recipe.evolution)
        self.rounds = Rounds(self.graph, make, split, searched, base, recipe.evolution, recipe.ramp_sft)
        self.graph.check([split])

    def run(self) -> RunReport:
        """Do every stage that is not done yet; write the report and return it."""
        return finish_evolution(self.rounds)


def finish_evolution(rounds: Rounds) -> RunReport:
    """Do all rounds, keep the best student as the agent of the run; write the report and return it."""
    rounds.graph.hold()
    save_recipe(rounds.make.recipe, rounds.graph.directory)
    state = evolve(rounds)
    best = rounds.students[state["best_round"] - 1]
    rounds.graph.finish(Export(name="agent", title="keeping the best student", agent=best))
    return report_evolution(rounds, state)
