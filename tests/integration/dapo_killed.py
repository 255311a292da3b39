"""DAPO runs over the real search graph in processes that are killed and started again.

Usage: `dapo_killed.py DIRECTORY`; the exit codes of the processes go to `exits.json`. Each of them is a fork, so that
nothing is imported twice; one that is to be killed sends itself SIGKILL, which no code of the run can notice.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import sys
from pathlib import Path
from typing import Any

import torch
from fakes.overlap_backend import OverlapBackend
from fakes.passages import make_passages
from fakes.tiny_models import LINES, make_test_model, make_test_tokenizer
from transformers import TrainerCallback

from masksearch_agent.agent.prompts import COMPACT_PROMPTS
from masksearch_agent.agent.runnable import MaskSearchAgent
from masksearch_agent.config.agent import AgentSettings
from masksearch_agent.config.rewards import RewardSettings
from masksearch_agent.config.trainers import CurriculumLevel, DAPOSettings, OptimizerSettings
from masksearch_agent.models.local import LocalChatModel
from masksearch_agent.records import MASK, Sampling, SearchTask, Trajectory
from masksearch_agent.retrieval.search import Search
from masksearch_agent.rewards.mix import RewardMix
from masksearch_agent.trainers.callbacks import MetricsLog
from masksearch_agent.trainers.checkpoints import find_last_checkpoint
from masksearch_agent.trainers.dapo import DAPOConfig, DAPOTrainer
from masksearch_agent.trainers.rollouts import Group, RolloutRunner

TASKS = [
    SearchTask(f"{masks}-{number}", "ramp", f"{LINES[number]} {' '.join([MASK] * masks)}", (("x",),) * masks)
    for masks in (1, 2)
    for number in range(7)
]
SETTINGS = DAPOSettings(
    prompts_per_step=2,
    group_size=3,
    row_batch_size=3,
    max_steps=6,
    max_resampling=2,
    save_steps=2,
    seed=1,
    curriculum=(CurriculumLevel(max_masks=1, promote_at=0.05, window=6), CurriculumLevel(max_masks=2)),
    optimizer=OptimizerSettings(learning_rate=1e-3, schedule="linear"),
)


def reward_of_luck(task: SearchTask, trajectory: Trajectory) -> float:
    """Reward even first tokens: some groups are all right or all wrong and have to be refilled."""
    return float(trajectory.turns[0].sampled_ids[0] % 2 == 0)


class KilledRunner(RolloutRunner):
    """Dies in the middle of a step: after the rollouts of its nth call."""

    dies_in_call = -1
    log: Path

    def run(self, tasks: Any, seed: int, places: Any = None) -> list[Group]:
        groups = super().run(tasks, seed, places)
        with self.log.open("a") as file:
            ids = [rollout.trajectory.id for group in groups for rollout in group.rollouts]
            file.write(json.dumps([seed, [task.id for task in tasks], ids]) + "\n")
        self.dies_in_call -= 1
        if self.dies_in_call == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return groups


class KilledAfterSaving(TrainerCallback):  # type: ignore[misc]
    """Dies when the checkpoint of a step is written."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step == self.step:
            os.kill(os.getpid(), signal.SIGKILL)


def train(directory: Path, dies_in_call: int = -1, dies_after_saving: int = -1) -> None:
    torch.manual_seed(0)
    tokenizer = make_test_tokenizer()
    # One sequence a batch: its probabilities do not depend on what happens to be sampled beside it.
    policy = LocalChatModel(
        model=make_test_model(tokenizer), tokenizer=tokenizer, model_version="tiny", max_batch_size=1
    )
    limits = AgentSettings(max_searches=1, passages_per_search=1, max_repairs=1, max_step_tokens=6)
    agent = MaskSearchAgent(policy, Search(OverlapBackend(make_passages(*LINES))), limits, COMPACT_PROMPTS)
    reward = RewardMix(RewardSettings(), reward_of_luck)
    runner = KilledRunner(agent, reward, Sampling(temperature=1.0), SETTINGS.group_size)
    runner.dies_in_call = dies_in_call
    runner.log = directory / "rollouts.jsonl"
    directory.mkdir(exist_ok=True)
    config = DAPOConfig.from_settings(SETTINGS, directory / "trainer")
    callbacks = [MetricsLog(directory / "metrics.jsonl"), KilledAfterSaving(dies_after_saving)]
    trainer = DAPOTrainer(policy.model, config, TASKS, runner, tokenizer, callbacks)
    trainer.train(resume_from_checkpoint=find_last_checkpoint(directory / "trainer"))


def start(directory: Path, **death: int) -> int | None:
    process = multiprocessing.get_context("fork").Process(target=train, args=(directory,), kwargs=death)
    process.start()
    process.join()
    return process.exitcode


def main(directory: Path) -> None:
    exits = [start(directory / "whole")]
    calls = [json.loads(line) for line in (directory / "whole" / "rollouts.jsonl").read_text().splitlines()]
    # The last call of the fourth step (number 3), which comes after the checkpoint of step 2.
    between_saves = max(at for at, (seed, _, _) in enumerate(calls, start=1) if seed // 1_000 % 1_000 == 3)
    cut = directory / "cut"
    exits += [start(cut, dies_in_call=between_saves), start(cut, dies_after_saving=4), start(cut)]
    (directory / "exits.json").write_text(json.dumps(exits))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
