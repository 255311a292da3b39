"""Five steps of DAPO on rollouts that are always the same; writes the weights after them. Run by `test_training.py`."""

from __future__ import annotations

import random
import sys
from pathlib import Path

import torch
from fakes.tiny_models import make_test_model, make_test_tokenizer
from safetensors.torch import save_file
from unit.trainers.conftest import TASKS, ScriptedRunner, make_group

from masksearch_agent.config.trainers import DAPOSettings, OptimizerSettings
from masksearch_agent.records import SearchTask, TrainingRow
from masksearch_agent.trainers.dapo import DAPOConfig, DAPOTrainer
from masksearch_agent.trainers.rollouts import Group

SETTINGS = DAPOSettings(
    prompts_per_step=4, group_size=4, row_batch_size=4, max_steps=5, save_steps=100, max_sampler_drift=None,
    optimizer=OptimizerSettings(learning_rate=0.1, schedule="constant", warmup_ratio=0),
)  # fmt: skip


def random_group(task: SearchTask, seed: int) -> Group:
    """Return rows of random tokens, of which about half train, with random rewards; all by the seed and the task."""
    rng = random.Random(f"{task.id} {seed}")
    rows = []
    for _ in range(SETTINGS.group_size):
        trains = [False] * 4 + [rng.random() < 0.5 for _ in range(rng.randrange(5, 60))] + [True]
        ids = tuple(rng.randrange(5, 300) for _ in trains)
        rows.append(TrainingRow(ids, tuple(trains), tuple(-3.0 * trained for trained in trains), task.id))
    return make_group(task, [rng.random() for _ in rows], rows)


def main(folder: Path) -> None:
    folder.mkdir()
    tokenizer = make_test_tokenizer()
    config = DAPOConfig.from_settings(SETTINGS, folder / "trainer")
    # Not Adam, which divides a gradient by its own size: where that is all but nothing, rounding decides a step's sign.
    config.optim = "sgd"
    trainer = DAPOTrainer(make_test_model(tokenizer), config, TASKS, ScriptedRunner(random_group), tokenizer)
    trainer.train()
    weights = {name: one.detach().cpu().contiguous() for name, one in trainer.model.named_parameters()}
    logged = [entry for entry in trainer.state.log_history if "loss" in entry]
    losses = torch.tensor([entry["loss"] for entry in logged])
    save_file({**weights, "losses": losses}, folder / "weights.safetensors")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
