"""Peak memory of a batch of 256 rollouts, against 64.

    python benchmarks/rollout_memory.py --agent runs/quickstart/ramp_sft

Each batch runs in a process of its own, whose peak resident memory counts whole: Python, torch, the model and the index
included. The engine samples at most 128 requests together, whatever the batch. The bar: 256 rollouts take at most 2
times the memory of 64.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
from statistics import median
from typing import Any

from reporting import finish, make_parser, print_table
from side_by_side import (
    Clock,
    add_agent_argument,
    add_repeats_argument,
    closed_world,
    opened_agent,
    paired_ratio,
)

from masksearch_agent.config.rewards import RewardSettings
from masksearch_agent.records import Sampling
from masksearch_agent.rewards.mix import RewardMix
from masksearch_agent.trainers.rollouts import RolloutRunner

BAR = 2.0
GROUP_SIZE = 8
SIZES = (64, 256)


def peak_mb() -> float:
    # Kilobytes on Linux, bytes on macOS.
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6


def measure_here(arguments: Any) -> dict[str, float]:
    """Run one batch of rollouts in this process and say how high its memory rose."""
    with closed_world(arguments.seed) as world, opened_agent(arguments.agent, world.search()) as agent:
        runner = RolloutRunner(agent, RewardMix(RewardSettings()), Sampling(temperature=1.0), GROUP_SIZE)
        runner.run(world.train[:1], seed=arguments.seed)
        before = peak_mb()
        tasks = world.train[1 : 1 + arguments.rollouts // GROUP_SIZE]
        clock = Clock()
        with clock.running():
            groups = runner.run(tasks, seed=arguments.seed + 1)
    assert sum(len(group.rollouts) for group in groups) == arguments.rollouts, "a rollout failed"
    return {"before_mb": before, "peak_mb": peak_mb(), "wall_s": clock.wall_s}


def main() -> None:
    parser = make_parser(__doc__)
    add_repeats_argument(parser, 3)
    add_agent_argument(parser)
    parser.add_argument("--rollouts", type=int, help="Measure one batch of this size, in this process.")
    arguments = parser.parse_args()
    if arguments.rollouts is not None:
        print(json.dumps(measure_here(arguments)))
        return
    measured: dict[int, list[dict[str, float]]] = {size: [] for size in SIZES}
    for repeat in range(arguments.repeats):
        for size in SIZES:
            command = [
                sys.executable,
                __file__,
                "--rollouts",
                str(size),
                "--seed",
                str(arguments.seed + repeat),
            ]
            if arguments.agent is not None:
                command += ["--agent", str(arguments.agent)]
            output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
            measured[size].append(json.loads(output.splitlines()[-1]))

    def column(size: int, name: str) -> list[float]:
        return [one[name] for one in measured[size]]

    few, many = SIZES
    ratio = paired_ratio(column(many, "peak_mb"), column(few, "peak_mb"))
    print_table(
        ("rollouts", "peak before them, MB", "peak, MB", "seconds"),
        [
            (size, *(round(median(column(size, name))) for name in ("before_mb", "peak_mb", "wall_s")))
            for size in SIZES
        ],
    )
    result = {"measured": {str(size): runs for size, runs in measured.items()}, "ratio": ratio, "bar": BAR}
    finish(arguments, result, f"ratio {ratio:.3g}; bar: at most {BAR}; reached: {ratio <= BAR}")


if __name__ == "__main__":
    main()
