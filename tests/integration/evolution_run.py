"""A self-evolution run as a process of its own, to be killed: `evolution_run.py FOLDER`.

A model that was trained for two steps is never right, so the judge here accepts what a coin of its own says.
"""

from __future__ import annotations

import sys
from pathlib import Path

from masksearch_agent.config.recipe import load_recipe
from masksearch_agent.generator.casting import cast_roles
from masksearch_agent.generator.roles import CallLog, Verdict
from masksearch_agent.lab.evolution import WorldEvolution
from masksearch_agent.lab.recipe import LabRecipe
from masksearch_agent.records import SearchTask, Trajectory, content_id
from masksearch_agent.reports.records import RunReport
from masksearch_agent.stages import trajectories

SETTINGS = (
    "seed=3",
    "base_model=tiny",
    "prompts=compact",
    "world.train_entities=40",
    "world.test_entities=20",
    "world.train_questions=[{hops: 1, count: 1}]",
    "world.test_questions=[{hops: 1, count: 1}]",
    "retrieval.mode=bm25",
    "agent={max_searches: 1, max_repairs: 0, max_step_tokens: 12, max_sampled_tokens: 24}",
    "generator.concurrency=4",
    "ramp_sft={max_steps: 3, batch_size: 2, save_steps: 1}",
    "evolution={max_rounds: 3, patience: 3, teacher_tasks: 12, tasks_per_round: 10, samples_per_task: 2}",
    "evolution.validation_tasks=3",
    "evolution.test_tasks=5",
    "evaluation={concurrency: 1, bootstrap_samples: 100}",
)


class CoinJudge:
    """Accepts half of the trajectories, the same ones each time."""

    async def judge(self, task: SearchTask, trajectory: Trajectory, log: CallLog | None = None) -> Verdict:
        """Return the verdict."""
        is_accepted = int(content_id(task.id, trajectory.seed), 16) % 2 == 0
        return Verdict(is_accepted, "accepted" if is_accepted else "tails")


def run(directory: Path) -> RunReport:
    """Run or go on, and return the report."""
    trajectories.cast_roles = lambda *arguments: (cast_roles(*arguments)[0], CoinJudge())
    return WorldEvolution(load_recipe(None, SETTINGS, LabRecipe), directory).run()


if __name__ == "__main__":
    run(Path(sys.argv[1]))
