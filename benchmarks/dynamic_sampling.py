"""Tokens that dynamic sampling samples for a group of use: as many tasks as are likely to be of use, each in proportion
to how likely that is, against twice as many as are missing, each as it comes.

    python benchmarks/dynamic_sampling.py --agent runs/quickstart/ramp_sft

An agent rolls out a pool of tasks, with weights that do not change. Each task of a stream is one of the pool, drawn by
seed, and has the group that was rolled out for it whenever it is drawn; so both ways are told the same, and nothing
else is sampled. `passes` is how often the stream goes through its tasks while the steps last; a task that was all right
is drawn once. `stopped` is what it would cost to end groups whose first rollouts are all of one reward, by how many
these are: tokens per group of use, mean over all orders of the rollouts, over those of whole groups. The bar: 0.7 of
the tokens.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path
from statistics import mean

from reporting import finish, make_parser, print_table
from side_by_side import closed_world, opened_agent, quickstart_recipe

from masksearch_agent.records import Sampling, SearchTask
from masksearch_agent.rewards.mix import RewardMix
from masksearch_agent.trainers.curriculum import Curriculum
from masksearch_agent.trainers.dynamic_sampling import DynamicSampler
from masksearch_agent.trainers.ranks import Ranks
from masksearch_agent.trainers.rollouts import Group, RolloutRunner

BAR = 0.7
GROUP_SIZE = 8
ALONE = Ranks(0, 1, lambda items: items)
STOPS = (2, 3, 4, 6)


@dataclass
class Recorded:
    """Stands in for a runner: has a group for each task already."""

    groups: dict[str, Group]
    tokens: int = 0

    def run(self, tasks: Sequence[SearchTask], seed: int, places: Sequence[int] | None = None) -> list[Group]:
        found = [self.groups[task.id.rpartition("#")[0]] for task in tasks]
        self.tokens += sum(tokens_of(group) for group in found)
        return found


class TwiceTheMissing(DynamicSampler):
    """As it was: a whole batch, then two groups for each missing one, whatever became of others."""

    prompts = 0

    def _draw(self, missing: int, limit: int) -> list[int]:
        # The quickstart's cap is two batches, which only a step's first draw has left.
        is_first = limit == 2 * self.prompts
        return self.curriculum.draw(self.prompts if is_first else min(self.prompts, 2 * missing))


def tokens_of(group: Group) -> int:
    return sum(row.trainable_count for rollout in group.rollouts for row in rollout.rows)


def stopped_cost(groups: Sequence[Group], first: int) -> float:
    """Return tokens per group of use where those end whose first rollouts are alike, over those of whole groups."""
    tokens = found = 0.0
    for group in groups:
        totals = [rollout.reward.total for rollout in group.rollouts]
        chosen = list(combinations(totals, first))
        goes_on = mean(len(set(some)) > 1 for some in chosen)
        tokens += tokens_of(group) / len(totals) * (first + goes_on * (len(totals) - first))
        found += goes_on
    whole = sum(map(tokens_of, groups)) / sum(group.fate == "useful" for group in groups)
    return tokens / found / whole


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("--agent", type=Path, help="Agent bundle, such as runs/quickstart/ramp_sft.")
    parser.add_argument("--pool", type=int, default=96, help="Groups rolled out.")
    parser.add_argument("--prompts", type=int, default=32, help="Groups of use a step.")
    parser.add_argument("--steps", type=int, default=30)
    arguments = parser.parse_args()
    recipe = quickstart_recipe()
    with closed_world(arguments.seed) as world, opened_agent(arguments.agent, world.search()) as agent:
        runner = RolloutRunner(agent, RewardMix(recipe.rewards), Sampling(temperature=1.0), GROUP_SIZE)
        pool = random.Random(arguments.seed).sample(world.train, arguments.pool)
        groups = [
            group
            for start in range(0, len(pool), 8)
            for group in runner.run(pool[start : start + 8], arguments.seed * 1000 + start)
        ]
    by_task = dict(zip((task.id for task in pool), groups, strict=True))
    useful = mean(group.fate == "useful" for group in groups)

    measured: dict[str, dict[str, float]] = {}
    for passes in (0.5, 2.0, 6.0):
        count = round(arguments.prompts * arguments.steps / useful / passes)
        rng = random.Random(arguments.seed)
        drawn = [rng.choice(pool) for _ in range(count)]
        stream = [replace(task, id=f"{task.id}#{number}") for number, task in enumerate(drawn)]
        costs = {}
        for kind in (TwiceTheMissing, DynamicSampler):
            recorded = Recorded(by_task)
            curriculum = Curriculum(stream, (), arguments.steps, arguments.seed)
            sampler = kind(curriculum, recorded, ALONE, recipe.stage_one_dapo.max_resampling, 0)  # type: ignore[arg-type]
            if isinstance(sampler, TwiceTheMissing):
                sampler.prompts = arguments.prompts
            kept = sum(len(sampler.sample(arguments.prompts, step).groups) for step in range(arguments.steps))
            costs[kind.__name__] = recorded.tokens / kept
        measured[str(passes)] = costs
    rows = [
        (passes, *costs.values(), costs["DynamicSampler"] / costs["TwiceTheMissing"])
        for passes, costs in measured.items()
    ]
    print(f"{len(groups)} groups of {GROUP_SIZE}, {useful:.2f} of them of use\n")
    print_table(("passes over the tasks", "twice the missing", "as likely", "ratio"), rows)
    stopped = {first: stopped_cost(groups, first) for first in STOPS}
    print()
    print_table(("rollouts after which alike groups are stopped", "cost"), list(stopped.items()))
    ratios = {passes: ratio for passes, _, _, ratio in rows}
    result = {"useful": useful, "tokens_per_useful_group": measured, "stopped": stopped, "bar": BAR}
    finish(arguments, result, f"bar: at most {BAR}; measured: {ratios}")


if __name__ == "__main__":
    main()
