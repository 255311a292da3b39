"""One rank of two DAPO runs, or all of them where it is the only one; reports to `rank-N.json`.

In the first run the second rank finds no useful group. In the second, what a group is worth depends on its task and
seed alone, so that any number of ranks gets the same batches.
"""

from __future__ import annotations

import atexit
import json
import os
import random
import sys
from pathlib import Path
from typing import Any

import torch
from fakes.tiny_models import make_test_model, make_test_tokenizer
from unit.trainers.conftest import TASKS, ScriptedRunner, make_group
from unit.trainers.test_dapo import random_row

from masksearch_agent.config.trainers import CurriculumLevel, DAPOSettings, OptimizerSettings
from masksearch_agent.records import SearchTask
from masksearch_agent.trainers.callbacks import MetricsLog, read_metrics
from masksearch_agent.trainers.dapo import DAPOConfig, DAPOTrainer
from masksearch_agent.trainers.rollouts import Group

SETTINGS = DAPOSettings(
    prompts_per_step=4,
    group_size=2,
    row_batch_size=2,
    max_steps=3,
    max_resampling=3,
    curriculum=(CurriculumLevel(max_masks=1, promote_at=0.15, window=3), CurriculumLevel(max_masks=2)),
    optimizer=OptimizerSettings(learning_rate=1e-3, schedule="constant", warmup_ratio=0),
    max_sampler_drift=None,
)


def main(directory: Path) -> None:
    rank = int(os.environ.get("RANK", "0"))

    def tell_what_is_left() -> None:
        left = torch.distributed.is_initialized()
        (directory / f"left-{rank}.txt").write_text("an open group" if left else "nothing")

    # What is registered first runs last.
    atexit.register(tell_what_is_left)
    tokenizer = make_test_tokenizer()
    sampler = make_test_model(tokenizer)

    def make(task: SearchTask, seed: int, is_useful: bool) -> Group:
        rng = random.Random(f"{task.id}:{seed}")
        rows = [random_row(rng, 300, sampler) for _ in range(2)]
        return make_group(task, (0.0, 1.0) if is_useful else (0.5, 0.5), rows)

    def by_rank(task: SearchTask, seed: int) -> Group:
        return make(task, seed, is_useful=rank == 0)

    def by_task(task: SearchTask, seed: int) -> Group:
        return make(task, seed, is_useful=random.Random(f"luck:{task.id}:{seed}").random() < 0.3)

    reports: dict[str, Any] = {}
    for name, luck in (("by_rank", by_rank), ("by_task", by_task)):
        model = make_test_model(tokenizer)
        runner = ScriptedRunner(luck)
        config = DAPOConfig.from_settings(SETTINGS, directory / name)
        callbacks = [MetricsLog(directory / f"{name}.jsonl")]
        trainer = DAPOTrainer(model, config, TASKS, runner, tokenizer, callbacks)  # type: ignore[arg-type]
        trainer.train()
        reports[name] = {
            "ranks": trainer.accelerator.num_processes,
            "asked": runner.asked,
            "written": [entry["step"] for entry in read_metrics(directory / f"{name}.jsonl")],
            "logged": [entry for entry in trainer.state.log_history if "loss" in entry],
            "curriculum": trainer.curriculum.state(),
            "weights": [parameter.detach().double().sum().item() for parameter in model.parameters()],
        }
    (directory / f"rank-{rank}.json").write_text(json.dumps(reports))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
