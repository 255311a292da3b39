"""The local engine and the graph on a GPU: against transformers' `generate`, and against the time to read the weights.

    python benchmarks/gpu_rollouts.py --json gpu_rollouts.json
    python benchmarks/gpu_rollouts.py --device cpu --small

Qwen2.5-1.5B's shape with random weights in bfloat16, rollouts of three turns of 100 tokens through the real graph
(`gpu_side`), 64 and 256 at once. Then the engine alone gets their very requests (`rollout_throughput`), which says what
the graph and Python cost; and `generate` with a static cache gets as many prompts of the same median lengths, all turns
in batches of equal rows, and samples as many tokens: what its fixed batches lose when replies differ in length is not
counted against it. A decode step is what 64 more tokens take a batch of short prompts. Bars: twice `generate`; four
times the reading of the weights at 4.3 TB/s; 5% for graph and Python.
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median
from typing import Any

import torch
from gpu_side import (
    FULL,
    MEMORY_BYTES_PER_S,
    NO_TOKEN,
    SMALL,
    ChanceReward,
    Results,
    Size,
    forced_agent,
    gpu_parser,
    make_model,
    peak_bytes,
)
from rollout_throughput import Chain, chain_of, replay
from side_by_side import Clock, closed_world

from masksearch_agent.models.engine import BatchingEngine
from masksearch_agent.records import Sampling
from masksearch_agent.trainers.rollouts import RolloutRunner

GROUP_SIZE = 8
DECODED = 64
PROMPT_TOKENS = 32


def roll_out(
    results: Results, agent: Any, tasks: Sequence[Any], size: Size, device: str, seed: int
) -> list[Chain]:
    """Run rollouts through the graph and their requests through the bare engine; return the requests."""
    chains: list[Chain] = []
    engine = BatchingEngine(
        agent.model.model, agent.model.tokenizer, NO_TOKEN, max(size.at_once), kept_bytes=8 << 30
    )
    runner = RolloutRunner(agent, ChanceReward(), Sampling(temperature=1.0), GROUP_SIZE)  # type: ignore[arg-type]
    runner.run(tasks[:1], seed=seed)  # Kernels are chosen in it.
    for at_once in size.at_once:
        through_graph, through_engine = Clock(), Clock()
        with through_graph.running():
            groups = runner.run(tasks[: at_once // GROUP_SIZE], seed=seed + at_once)
        trajectories = [rollout.trajectory for group in groups for rollout in group.rollouts]
        assert len(trajectories) == at_once, (
            f"{at_once - len(trajectories)} rollouts failed: {groups[0].first_failure}"
        )
        chains = [chain_of(trajectory) for trajectory in trajectories]
        with through_engine.running():
            sampled = replay(engine, chains)
        results.add(
            "rollouts",
            at_once=at_once,
            turns=sum(map(len, chains)),
            tokens=sampled,
            graph_tokens_per_s=sampled / through_graph.wall_s,
            engine_tokens_per_s=sampled / through_engine.wall_s,
            share_of_graph_and_python=1 - through_engine.wall_s / through_graph.wall_s,
            peak_bytes=peak_bytes(device),
        )
    engine.close()
    return chains


def generate(results: Results, model: Any, chains: Sequence[Chain], device: str, compiled: bool) -> None:
    """Sample as much with `generate`: a batch for each turn, of the median prompt and reply of that turn."""
    clock, sampled = Clock(), 0
    for turn in range(min(map(len, chains))):
        read = int(median(len(chain[turn][0]) for chain in chains))
        count = int(median(chain[turn][1].max_tokens for chain in chains))
        ids = torch.randint(5, model.config.vocab_size, (len(chains), read), device=device)
        options = {
            "attention_mask": torch.ones_like(ids), "do_sample": True, "min_new_tokens": count,
            "max_new_tokens": count, "cache_implementation": "static", "disable_compile": not compiled,
        }  # fmt: skip
        with torch.inference_mode():
            if compiled or not turn:
                model.generate(ids, **options)
            with clock.running():
                made = model.generate(ids, **options).cpu()
        sampled += made.shape[0] * (made.shape[1] - read)
    results.add(
        "generate", at_once=len(chains), is_compiled=compiled, tokens=sampled, tokens_per_s=sampled / clock.wall_s,
        peak_bytes=peak_bytes(device),
    )  # fmt: skip


def decode_step(results: Results, model: Any, tokenizer: Any, size: Size) -> None:
    """Measure what a token more takes a whole batch, against reading the weights once."""
    weights_s = sum(one.numel() * one.element_size() for one in model.parameters()) / MEMORY_BYTES_PER_S
    for at_once in (1, *size.at_once):
        engine = BatchingEngine(model, tokenizer, NO_TOKEN, at_once, kept_bytes=0)
        seconds = []
        for count in (1, 8, 8 + DECODED):  # The first one warms up.
            clock = Clock()
            with clock.running():
                futures = [
                    engine.submit(
                        [5 + row] * PROMPT_TOKENS, Sampling(temperature=1.0, max_tokens=count, seed=row)
                    )
                    for row in range(at_once)
                ]
                for future in futures:
                    future.result()
            seconds.append(clock.wall_s)
        engine.close()
        step_s = (seconds[2] - seconds[1]) / DECODED
        results.add(
            "decode step", at_once=at_once, milliseconds=step_s * 1e3, weights_milliseconds=weights_s * 1e3,
            ratio=step_s / weights_s,
        )  # fmt: skip


def main() -> None:
    arguments = gpu_parser(__doc__).parse_args()
    size, device = SMALL if arguments.small else FULL, arguments.device
    results = Results(arguments)
    model = make_model(size, device, torch.bfloat16 if device == "cuda" else torch.float32)
    with (
        closed_world(arguments.seed, size.entities, 20) as world,
        forced_agent(model, size, world.search(), world.train) as agent,
    ):
        decode_step(results, model, agent.model.tokenizer, size)
        chains = roll_out(results, agent, world.train, size, device, arguments.seed)
        for compiled in (False, True) if device == "cuda" else (False,):
            generate(results, model, chains, device, compiled)


if __name__ == "__main__":
    main()
