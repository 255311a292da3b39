"""Rollout tokens a second through the graph, against the bare sampling engine.

    python benchmarks/rollout_throughput.py --agent runs/quickstart/ramp_sft

`RolloutRunner` runs 64 rollouts at once: the graph, searches, recording, trajectories, training rows and rewards. Then
the engine alone gets the very prompts that those rollouts sent, each with the number of tokens that was sampled after
it, as 64 chains in which a request follows when the one before it is done. It looks for no stop string and no
end-of-turn token. The bar: the graph reaches 0.95 of the engine's tokens a second.

The same rollouts run once more with requests joining as they come (`rollouts.reproducible: false`); else they join by
a clock of tokens, so that every run of a seed is the same. The bar: that costs less than 5%.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import Future
from statistics import median

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
from masksearch_agent.models.engine import BatchingEngine
from masksearch_agent.models.local import LocalChatModel
from masksearch_agent.records import Sampling, Trajectory
from masksearch_agent.rewards.mix import RewardMix
from masksearch_agent.traces.recorder import Recorder
from masksearch_agent.trainers.rollouts import RolloutRunner

BAR = 0.95
REPRODUCIBLE_BAR = 0.95
GROUP_SIZE = 8
NO_TOKEN = -1

Chain = list[tuple[list[int], Sampling]]


def chain_of(trajectory: Trajectory) -> Chain:
    """Return the requests of a rollout: prompt, and settings that sample as many tokens after it."""
    recorder = Recorder(trajectory.turns)
    requests = []
    for turn in trajectory.turns:
        whole = recorder.ids(turn.id)
        count = len(turn.sampled_ids)
        seed = turn.sampling.seed if turn.sampling is not None else None
        requests.append((whole[:-count], Sampling(temperature=1.0, max_tokens=count, seed=seed)))
    return requests


def replay(engine: BatchingEngine, chains: Sequence[Chain]) -> int:
    """Send the requests of each chain one after the other, all chains at once; return the tokens sampled."""
    sampled = 0
    open_chains = len(chains)
    is_done = threading.Event()

    def send(chain: Chain, position: int) -> None:
        prompt, sampling = chain[position]

        def go_on(future: Future) -> None:
            nonlocal sampled, open_chains
            sampled += len(future.result().ids)
            if position + 1 < len(chain):
                send(chain, position + 1)
                return
            open_chains -= 1
            if not open_chains:
                is_done.set()

        engine.submit(prompt, sampling).add_done_callback(go_on)

    for chain in chains:
        send(chain, 0)
    is_done.wait()
    return sampled


def main() -> None:
    parser = make_parser(__doc__)
    add_repeats_argument(parser)
    add_agent_argument(parser)
    parser.add_argument("--concurrent", type=int, default=64, help="Rollouts at once; a multiple of 8.")
    arguments = parser.parse_args()
    tasks_at_once = arguments.concurrent // GROUP_SIZE
    graph: list[Clock] = []
    free: list[Clock] = []
    bare: list[Clock] = []
    tokens: list[int] = []
    with closed_world(arguments.seed) as world, opened_agent(arguments.agent, world.search()) as agent:
        model = agent.model
        assert isinstance(model, LocalChatModel)
        runner = RolloutRunner(agent, RewardMix(RewardSettings()), Sampling(temperature=1.0), GROUP_SIZE)
        engine = BatchingEngine(model.model, model.tokenizer, NO_TOKEN, max_batch_size=model.max_batch_size)
        # The first one warms up and does not count.
        for repeat in range(arguments.repeats + 1):
            tasks = world.train[repeat * tasks_at_once : (repeat + 1) * tasks_at_once]
            through_graph, as_they_come, through_engine = Clock(), Clock(), Clock()
            # Each goes first in every second repeat: what is searched twice is remembered.
            for is_reproducible in (True, False) if repeat % 2 else (False, True):
                model.is_reproducible = is_reproducible
                with (through_graph if is_reproducible else as_they_come).running():
                    groups = runner.run(tasks, seed=arguments.seed * 1000 + repeat)
            trajectories = [rollout.trajectory for group in groups for rollout in group.rollouts]
            chains = [chain_of(trajectory) for trajectory in trajectories]
            with through_engine.running():
                sampled = replay(engine, chains)
            wanted = sum(len(turn.sampled_ids) for one in trajectories for turn in one.turns)
            assert len(chains) == len(tasks) * GROUP_SIZE, "a rollout failed"
            assert sampled == wanted, f"the engine sampled {sampled} tokens instead of {wanted}"
            if repeat:
                graph.append(through_graph)
                free.append(as_they_come)
                bare.append(through_engine)
                tokens.append(sampled)
        engine.close()

    rates = {
        name: {
            "wall": [count / clock.wall_s for count, clock in zip(tokens, clocks, strict=True)],
            "cpu": [count / clock.cpu_s for count, clock in zip(tokens, clocks, strict=True)],
        }
        for name, clocks in (("graph", graph), ("free", free), ("engine", bare))
    }
    ratios, costs = (
        {kind: paired_ratio(rates["graph"][kind], rates[other][kind]) for kind in ("wall", "cpu")}
        for other in ("engine", "free")
    )
    print(
        f"{arguments.concurrent} rollouts at once, {median(tokens):.0f} tokens sampled, {len(tokens)} repeats\n"
    )
    print_table(
        (
            "tokens a second",
            "graph",
            "not reproducible",
            "bare engine",
            "over that",
            "over the engine (pairs)",
        ),
        [
            (f"of {kind} time", *(median(rate[kind]) for rate in rates.values()), costs[kind], ratios[kind])
            for kind in ("wall", "cpu")
        ],
    )
    result = {
        "tokens": tokens,
        "tokens_per_second": rates,
        "ratio": ratios,
        "bar": BAR,
        "reproducible": costs,
    }
    reached = {kind: ratio >= BAR for kind, ratio in ratios.items()}
    verdict = f"bar: at least {BAR} of the engine; reached: {reached}"
    afforded = {kind: cost >= REPRODUCIBLE_BAR for kind, cost in costs.items()}
    finish(
        arguments, result, f"{verdict}; reproducible at {REPRODUCIBLE_BAR} of what it is without: {afforded}"
    )


if __name__ == "__main__":
    main()
