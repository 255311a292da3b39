"""A step of SFT on a CPU: the vocabulary read where labels stand, against TRL's own head.

    python benchmarks/sft_step.py --model runs/models/smollm2-135m --traces runs/laptop/traces.sqlite

Takes the accepted RAMP trajectories of a trace store and trains adapters on them with the batch of the laptop recipe,
the trainers in turn. The time of a trainer's first step is left out: kernels are chosen in it.
"""

from __future__ import annotations

import tempfile
import time
from itertools import islice
from pathlib import Path
from statistics import median
from typing import Any
from unittest import mock

from reporting import finish_rows, make_parser
from side_by_side import add_repeats_argument
from transformers import TrainerCallback
from trl import SFTTrainer

from masksearch_agent.config.trainers import SFTSettings
from masksearch_agent.models.local import load_checkpoint
from masksearch_agent.records import Trajectory
from masksearch_agent.traces.store import TraceStore
from masksearch_agent.trainers.logprobs import LabelledHeadTrainer
from masksearch_agent.trainers.sft import train_sft


class StepTimes(TrainerCallback):  # type: ignore[misc]
    """Notes how long each step takes, in seconds."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self._start = 0.0

    def on_step_begin(self, *args: Any, **kwargs: Any) -> None:
        self._start = time.perf_counter()

    def on_step_end(self, *args: Any, **kwargs: Any) -> None:
        self.seconds.append(time.perf_counter() - self._start)


def step_times(
    trainer: type[SFTTrainer], model: Path, trajectories: list[Trajectory], steps: int
) -> list[float]:
    """Train for some steps and return the seconds of each but the first."""
    settings = SFTSettings(
        batch_size=1, gradient_accumulation=4, max_tokens=768, max_steps=steps + 1, lora_rank=16, bf16=True
    )
    times = StepTimes()
    loaded = load_checkpoint(model)
    with (
        tempfile.TemporaryDirectory() as folder,
        mock.patch("masksearch_agent.trainers.logprobs.LabelledHeadTrainer", trainer),
    ):
        train_sft(*loaded, trajectories, settings, Path(folder), [times])
    return times.seconds[1:]


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("--model", type=Path, required=True, help="Causal language model.")
    parser.add_argument("--traces", type=Path, required=True, help="Trace store with RAMP trajectories.")
    parser.add_argument("--steps", type=int, default=4, help="Steps of a measurement.")
    add_repeats_argument(parser, default=2)
    arguments = parser.parse_args()
    with TraceStore(arguments.traces) as store:
        trajectories = list(islice(store.trajectories("ramp", accepted=True), 4 * (arguments.steps + 1)))
    trainers: dict[str, type[SFTTrainer]] = {
        "labelled positions": LabelledHeadTrainer,
        "TRL's head": SFTTrainer,
    }
    seconds: dict[str, list[float]] = {name: [] for name in trainers}
    for _ in range(arguments.repeats):
        for name, trainer in trainers.items():
            seconds[name] += step_times(trainer, arguments.model, trajectories, arguments.steps)
    medians = {name: median(values) for name, values in seconds.items()}
    rows = [
        {"head": name, "seconds a step": value, "of TRL's": value / medians["TRL's head"]}
        for name, value in medians.items()
    ]
    finish_rows(arguments, rows)


if __name__ == "__main__":
    main()
