"""A DAPO step on a GPU: against TRL's `GRPOTrainer` on the same rollouts, against the chip's peak, and its memory.

    python benchmarks/gpu_step.py --json gpu_step.json
    python benchmarks/gpu_step.py --device cpu --small

Qwen2.5-1.5B's shape with random weights, float32 under bfloat16 autocast, 64 groups of 8 rollouts of three turns
(`gpu_side`), which are sampled once: both trainers are given them again at each step, so a step is what is done with
rollouts. The share of the peak counts 6 FLOPs a weight and token, and 12 a layer, hidden unit and pair of tokens in
attention; padding counts for nothing. Memory is measured for a step with full weights, with adapters, and with
activations computed again; what fits a card of 80 GB is 16 bytes a weight (float32 weights, gradients, two moments), or
10 with moments in 8 bits, which was not measured, and the activations of the step. Bars: 0.7 of TRL's step; 0.35 of
the peak.
"""

from __future__ import annotations

import gc
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

import torch
from dapo_against_trl import MAKERS, StepClock
from gpu_side import (
    FULL,
    PEAK_FLOPS,
    SMALL,
    ChanceReward,
    FixedRunner,
    Results,
    Size,
    forced_agent,
    gpu_parser,
    make_model,
    peak_bytes,
)
from side_by_side import Clock, World, closed_world

from masksearch_agent.config.trainers import DAPOSettings, OptimizerSettings
from masksearch_agent.records import Sampling
from masksearch_agent.trainers.rollouts import RolloutRunner

GROUP_SIZE = 8
CARD_BYTES = 80e9
STATE_BYTES = {"full weights, float32 states": 16, "full weights, 8-bit states (arithmetic)": 10}


class QuietClock(StepClock):
    """Times steps whose rollouts are at hand."""

    runner: Any

    def __init__(self, device: str) -> None:
        self.device = device
        self.steps: list[Clock] = []
        self.rollouts: list[Clock] = []

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._wait()
        self.step = Clock()
        self.running = self.step.running()
        self.running.__enter__()

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._wait()
        self.running.__exit__(None, None, None)
        self.steps.append(self.step)

    def _wait(self) -> None:
        if self.device == "cuda":
            torch.cuda.synchronize()


def settings_of(size: Size, device: str, **changes: Any) -> DAPOSettings:
    return DAPOSettings(
        prompts_per_step=size.groups, group_size=GROUP_SIZE, row_batch_size=16 if size is FULL else 8, max_steps=3,
        save_steps=1_000_000, max_sampler_drift=None, bf16=device == "cuda",
        optimizer=OptimizerSettings(learning_rate=1e-9, schedule="constant"),
    ).model_copy(update=changes)  # fmt: skip


@contextmanager
def sampled_rollouts(size: Size, device: str, world: World, seed: int) -> Iterator[FixedRunner]:
    """Sample the rollouts of a step in bfloat16, then hold the weights as a trainer does."""
    model = make_model(size, device, torch.bfloat16 if device == "cuda" else torch.float32)
    with forced_agent(model, size, world.search(), world.train) as agent:
        runner = RolloutRunner(agent, ChanceReward(), Sampling(temperature=1.0), GROUP_SIZE)  # type: ignore[arg-type]
        groups = runner.run((world.train * size.groups)[: size.groups], seed=seed)
        model.float()
        agent.model.close()  # And let go of what it kept.
        yield FixedRunner(agent, groups, GROUP_SIZE)


def flops_of(runner: FixedRunner) -> float:
    """Return what a forward and backward pass over the rollouts takes."""
    model = runner.agent.model.model  # type: ignore[attr-defined]
    weights = sum(one.numel() for one in model.parameters())
    lengths = [
        len(row.input_ids) for group in runner.groups for rollout in group.rollouts for row in rollout.rows
    ]
    attention = 12 * model.config.num_hidden_layers * model.config.hidden_size
    return float(sum(6 * weights * length + attention * length**2 / 2 for length in lengths))


def time_steps(
    name: str, runner: FixedRunner, settings: DAPOSettings, tasks: Any, device: str
) -> list[float]:
    clock = QuietClock(device)
    runner.agent.model.model.zero_grad()  # type: ignore[attr-defined]
    gc.collect()  # What the last trainer held.
    peak_bytes(device)
    with tempfile.TemporaryDirectory() as folder:
        MAKERS[name](runner, settings, list(tasks), Path(folder), clock).train()  # type: ignore[arg-type]
    return [step.wall_s for step in clock.steps[1:]]  # The first step warms up.


def main() -> None:
    arguments = gpu_parser(__doc__).parse_args()
    size, device = SMALL if arguments.small else FULL, arguments.device
    results = Results(arguments)
    with (
        closed_world(arguments.seed, size.entities, 20) as world,
        sampled_rollouts(size, device, world, arguments.seed) as runner,
    ):
        flops = flops_of(runner)
        weights = sum(one.numel() for one in runner.agent.model.model.parameters())  # type: ignore[attr-defined]
        seconds: dict[str, float] = {}
        for name in MAKERS:
            seconds[name] = median(time_steps(name, runner, settings_of(size, device), world.train, device))
            results.add(
                "DAPO step", trainer=name, seconds=seconds[name], share_of_peak=flops / seconds[name] / PEAK_FLOPS,
                peak_bytes=peak_bytes(device),
            )  # fmt: skip
        results.add("ratio", dapo_over_trl=seconds["DAPOTrainer"] / seconds["GRPOTrainer"])
        # Adapters come last: they stay in the model.
        for kind, changes in (
            ("full weights, activations computed again", {"gradient_checkpointing": True}),
            ("LoRA 64", {"lora_rank": 64}),
        ):
            settings = settings_of(size, device, max_steps=2, **changes)
            took = time_steps("DAPOTrainer", runner, settings, world.train, device)
            peak = peak_bytes(device)
            fits = {
                states: (CARD_BYTES - (peak - 16 * weights)) / each
                for states, each in STATE_BYTES.items()
                if peak is not None and not changes.get("lora_rank")
            }
            results.add(
                "memory", kind=kind, seconds=median(took), peak_bytes=peak, weights=weights, fits_80_gb=fits
            )


if __name__ == "__main__":
    main()
