"""One rank of a DAPO run in which the second rank finds no useful group; reports to `rank-N.json`."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

from fakes.tiny_models import make_test_model, make_test_tokenizer
from unit.trainers.conftest import TASKS, ScriptedRunner
from unit.trainers.test_dapo import useful, useless

from masksearch_agent.config.trainers import DAPOSettings, OptimizerSettings
from masksearch_agent.trainers.dapo import DAPOConfig, DAPOTrainer


def main(directory: Path) -> None:
    rank = int(os.environ["RANK"])
    tokenizer = make_test_tokenizer()
    model = make_test_model(tokenizer)
    settings = DAPOSettings(
        prompts_per_step=2,
        group_size=2,
        row_batch_size=2,
        max_steps=2,
        max_resampling=2,
        optimizer=OptimizerSettings(learning_rate=1e-3, schedule="constant"),
    )
    runner = ScriptedRunner(useless if rank else useful)
    config = DAPOConfig.from_settings(settings, directory / "trainer")
    trainer = DAPOTrainer(model, config, settings, TASKS, runner, tokenizer)
    trainer.train()
    weights = sum(parameter.detach().double().abs().sum().item() for parameter in model.parameters())
    report = {"asked": runner.asked, "weights": weights, "ranks": trainer.accelerator.num_processes}
    (directory / f"rank-{rank}.json").write_text(json.dumps(report))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
