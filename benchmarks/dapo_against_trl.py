"""A DAPO step of `DAPOTrainer`, against TRL's `GRPOTrainer` with `loss_type="dapo"` and the same rollouts.

    python benchmarks/dapo_against_trl.py --agent runs/quickstart/ramp_sft

Both trainers start from the same weights, train on the same tasks in the same order with the same optimizer and batch
sizes, and sample through the same agent and engine with the same seeds: TRL through its `rollout_func`. The reward is
drawn by each rollout's number, so no group is dead and neither trainer leaves one out; the learning rate is so small
that both sample the same tokens. The bar: a step takes at most 1.15 times as long as TRL's.

    masksearch quickstart --seed 100 --out runs/tuning
    masksearch sft --recipe training/quickstart.yaml --set ramp_sft.epochs=1.02 --agent runs/tuning/base \
        --traces runs/tuning/traces.sqlite --out runs/half_trained
    python benchmarks/dapo_against_trl.py --race --agent runs/half_trained --prompts 32 --steps 30 --evaluate-every 1 \
        --set ramp_dapo.optimizer.warmup_ratio=0

`--race` measures the wall time, evaluation left out, until the recall on held-out RAMP tasks reaches `--target`, from
an agent that is below it. Both sides have the rewards, optimizer, learning rate and its schedule, and the batch of the
quickstart; ours has dynamic sampling and the curriculum too. TRL's side has one and a half times as long as ours took;
where it does not get there, the ratio is to all the time it had, which is the most that it can be. The bar: at most 0.7
of TRL's time, the median of the seeds.
"""

from __future__ import annotations

import argparse
import random
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import torch
from datasets import Dataset
from reporting import finish, make_parser, print_table
from side_by_side import (
    Clock,
    World,
    add_agent_argument,
    add_repeats_argument,
    closed_world,
    opened_agent,
    paired_ratio,
    quickstart_recipe,
)
from transformers import PrinterCallback, TrainerCallback
from trl import GRPOConfig, GRPOTrainer

from masksearch_agent.agent.runnable import MaskSearchAgent
from masksearch_agent.config.evaluation import EvaluationSettings
from masksearch_agent.config.trainers import DAPOSettings, OptimizerSettings
from masksearch_agent.evaluation.runner import evaluate, summarise
from masksearch_agent.records import Sampling, SearchTask, Trajectory
from masksearch_agent.reports.charts import draw_curves, stack
from masksearch_agent.reports.records import Curve
from masksearch_agent.rewards.mix import RewardMix
from masksearch_agent.trainers.curriculum import Curriculum
from masksearch_agent.trainers.dapo import DAPOConfig, DAPOTrainer
from masksearch_agent.trainers.optimization import optimizer_arguments
from masksearch_agent.trainers.rollouts import Group, RolloutRunner

STEP_BAR, RACE_BAR = 1.15, 0.7
TIMES_OURS = 1.5
TRAINERS = ("DAPOTrainer", "GRPOTrainer")


def reward_of_chance(task: SearchTask, trajectory: Trajectory) -> float:
    """Give each rollout of a group another reward, whatever it wrote."""
    return random.Random(trajectory.seed).random()


class TimedRunner(RolloutRunner):
    """Notes what the rollouts of each step take."""

    clock: Clock
    sampled_tokens = 0

    def run(self, tasks: Sequence[SearchTask], seed: int, places: Sequence[int] | None = None) -> list[Group]:
        with self.clock.running():
            groups = super().run(tasks, seed, places)
        rows = [row for group in groups for rollout in group.rollouts for row in rollout.rows]
        self.sampled_tokens += sum(row.trainable_count for row in rows)
        return groups


class StepClock(TrainerCallback):
    """Times each step, its rollouts included."""

    def __init__(self, runner: TimedRunner) -> None:
        self.runner = runner
        self.steps: list[Clock] = []
        self.rollouts: list[Clock] = []

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.step, self.runner.clock = Clock(), Clock()
        self.running = self.step.running()
        self.running.__enter__()

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.running.__exit__(None, None, None)
        self.steps.append(self.step)
        self.rollouts.append(self.runner.clock)


def make_ours(
    runner: RolloutRunner,
    settings: DAPOSettings,
    tasks: list[SearchTask],
    folder: Path,
    callback: TrainerCallback,
) -> GRPOTrainer:
    model = runner.agent.model
    config = DAPOConfig.from_settings(settings, folder)
    return DAPOTrainer(model.model, config, tasks, runner, model.tokenizer, [callback])


def make_trl(
    runner: RolloutRunner,
    settings: DAPOSettings,
    tasks: list[SearchTask],
    folder: Path,
    callback: TrainerCallback,
) -> GRPOTrainer:
    """Return TRL's trainer with our settings, and rollouts of our agent."""
    policy = runner.agent.model
    by_id = {task.id: task for task in tasks}
    # The tasks in the order in which ours draws them.
    curriculum = Curriculum(tasks, (), settings.max_steps, settings.seed)
    drawn = [tasks[place].id for place in curriculum.draw(settings.prompts_per_step * settings.max_steps)]

    def roll_out(prompts: list[str], trainer: GRPOTrainer) -> dict[str, list[Any]]:
        step = trainer.state.global_step
        policy.model_version = f"trl@{step}"
        chosen = [by_id[prompt] for prompt in prompts[:: settings.group_size]]
        groups = runner.run(chosen, seed=settings.seed * 1_000_000_000 + step * 1_000 + 1)
        rollouts = [rollout for group in groups for rollout in group.rollouts]
        assert len(rollouts) == len(prompts), "a rollout failed, for which TRL has no place"
        rows = [rollout.rows[0] for rollout in rollouts]
        return {
            "prompt_ids": [list(row.input_ids[: row.prompt_length]) for row in rows],
            "completion_ids": [list(row.input_ids[row.prompt_length :]) for row in rows],
            "logprobs": [list((row.logprobs or ())[row.prompt_length :]) for row in rows],
            "env_mask": [[int(trained) for trained in row.trainable[row.prompt_length :]] for row in rows],
            "reward": [rollout.reward.total for rollout in rollouts],
        }

    def earned(reward: list[float], **kwargs: Any) -> list[float]:
        return reward

    arguments, optimizer = optimizer_arguments(settings.optimizer)
    micro_batches = settings.prompts_per_step * settings.group_size // settings.row_batch_size
    config = GRPOConfig(
        output_dir=str(folder),
        loss_type="dapo",
        beta=0.0,
        epsilon=0.2 if settings.epsilon_low is None else settings.epsilon_low,
        epsilon_high=0.28 if settings.epsilon_high is None else settings.epsilon_high,
        scale_rewards="group",
        per_device_train_batch_size=settings.row_batch_size,
        steps_per_generation=micro_batches,
        gradient_accumulation_steps=micro_batches,
        num_generations=settings.group_size,
        max_steps=settings.max_steps,
        temperature=1.0,
        shuffle_dataset=False,
        bf16=settings.bf16,
        activation_checkpointing=False,
        use_cpu=not torch.cuda.is_available(),
        save_strategy="no",
        logging_steps=1,
        report_to=[],
        disable_tqdm=True,
        seed=settings.seed,
        **arguments,
    )
    trainer = GRPOTrainer(
        model=policy.model,
        reward_funcs=[earned],
        args=config,
        train_dataset=Dataset.from_dict({"prompt": drawn}),
        processing_class=policy.tokenizer,
        rollout_func=roll_out,
        callbacks=[callback],
    )
    trainer.remove_callback(PrinterCallback)
    trainer.optimizer_cls_and_kwargs = optimizer
    return trainer


MAKERS = {"DAPOTrainer": make_ours, "GRPOTrainer": make_trl}


# --- one step ------------------------------------------------------------------------------------------------


def time_steps(arguments: argparse.Namespace, world: World) -> None:
    settings = quickstart_recipe().ramp_dapo.model_copy(
        update={
            "max_steps": arguments.steps + 1,
            "prompts_per_step": arguments.prompts,
            "row_batch_size": arguments.row_batch_size,
            "save_steps": 1_000_000,
            "curriculum": (),
            "seed": arguments.seed,
            "optimizer": OptimizerSettings(learning_rate=1e-9, schedule="constant"),
        }
    )
    steps: dict[str, list[Clock]] = {name: [] for name in TRAINERS}
    rollouts: dict[str, list[Clock]] = {name: [] for name in TRAINERS}
    tokens: dict[str, list[int]] = {name: [] for name in TRAINERS}
    for _ in range(arguments.repeats):
        for name in TRAINERS:
            with (
                opened_agent(arguments.agent, world.search()) as agent,
                tempfile.TemporaryDirectory() as folder,
            ):
                reward = RewardMix(quickstart_recipe().rewards, reward_of_chance)
                runner = TimedRunner(agent, reward, Sampling(temperature=1.0), settings.group_size)
                clock = StepClock(runner)
                trainer = MAKERS[name](runner, settings, world.train, Path(folder), clock)
                trainer.train()
                history = [entry for entry in trainer.state.log_history if "grad_norm" in entry]
            # The first step warms up and does not count.
            steps[name] += clock.steps[1:]
            rollouts[name] += clock.rollouts[1:]
            tokens[name].append(runner.sampled_tokens)
            if name == "DAPOTrainer":
                assert all(entry["dapo/groups_useful"] == settings.prompts_per_step for entry in history)

    def column(clocks: dict[str, list[Clock]], name: str, kind: str) -> list[float]:
        return [getattr(clock, f"{kind}_s") for clock in clocks[name]]

    ratios = {
        kind: paired_ratio(*(column(steps, name, kind) for name in TRAINERS)) for kind in ("wall", "cpu")
    }
    rows = []
    for kind in ("wall", "cpu"):
        for name in TRAINERS:
            step, rollout = (median(column(clocks, name, kind)) for clocks in (steps, rollouts))
            rows.append((name, f"{kind} time", step, rollout, step - rollout))
    print_table(("trainer", "seconds of", "step", "its rollouts", "the rest"), rows)
    print(f"\nratio (median of pairs): {ratios['wall']:.3g} of wall time, {ratios['cpu']:.3g} of cpu time")
    print(f"tokens sampled in each training: {tokens}")
    result = {
        "seconds": {
            kind: {
                name: {"step": column(steps, name, kind), "rollouts": column(rollouts, name, kind)}
                for name in TRAINERS
            }
            for kind in ("wall", "cpu")
        },
        "sampled_tokens": tokens,
        "ratio": ratios,
        "bar": STEP_BAR,
    }
    reached = {kind: ratio <= STEP_BAR for kind, ratio in ratios.items()}
    finish(arguments, result, f"bar: at most {STEP_BAR}; reached: {reached}")


# --- the race ------------------------------------------------------------------------------------------------


@dataclass
class Race(TrainerCallback):
    """Evaluates now and then, with the clock stopped, and ends the training at the target."""

    agent: MaskSearchAgent
    tasks: list[SearchTask]
    target: float
    every: int
    limit_s: float = float("inf")
    """Training time after which the side has lost."""
    curve: list[tuple[float, float]] = field(default_factory=list)
    """Seconds of training, and the recall after them."""
    seconds: float = 0.0

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._evaluate(control)
        if self.seconds_to_target is not None:
            raise SystemExit(
                f"the agent is at {self.curve[0][1]:.3f} before the start; take one below the target"
            )
        self.since = time.perf_counter()

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.seconds += time.perf_counter() - self.since
        if state.global_step % self.every == 0:
            self._evaluate(control)
        control.should_training_stop |= self.seconds >= self.limit_s
        self.since = time.perf_counter()

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if self.curve[-1][0] < self.seconds:
            self._evaluate(control)

    def _evaluate(self, control: Any) -> None:
        recall = summarise(evaluate(self.agent, self.tasks, EvaluationSettings(concurrency=128))).recall
        self.curve.append((self.seconds, recall))
        print(f"  {self.seconds:7.1f} s  recall {recall:.3f}", flush=True)
        control.should_training_stop |= recall >= self.target

    @property
    def seconds_to_target(self) -> float | None:
        """None where the target was not reached."""
        return next((seconds for seconds, recall in self.curve if recall >= self.target), None)


def race(arguments: argparse.Namespace, world: World) -> None:
    recipe = quickstart_recipe(arguments.set)
    curves: dict[str, dict[int, Race]] = {name: {} for name in arguments.trainers}
    held_out = world.test[: arguments.held_out]
    for seed in arguments.seeds:
        settings = recipe.ramp_dapo.model_copy(
            update={
                "max_steps": arguments.steps,
                "prompts_per_step": arguments.prompts,
                "row_batch_size": arguments.row_batch_size,
                "save_steps": 1_000_000,
                "seed": seed,
            }
        )
        for name in arguments.trainers:
            print(f"{name}, seed {seed}", flush=True)
            with (
                opened_agent(arguments.agent, world.search()) as agent,
                tempfile.TemporaryDirectory() as folder,
            ):
                runner = RolloutRunner(
                    agent, RewardMix(recipe.rewards), Sampling(temperature=1.0), settings.group_size
                )
                runs = Race(agent, held_out, arguments.target, arguments.evaluate_every)
                ours = curves.get("DAPOTrainer", {}).get(seed)
                if ours is not None and ours.seconds_to_target is not None:
                    runs.limit_s = TIMES_OURS * ours.seconds_to_target
                MAKERS[name](runner, settings, world.train, Path(folder), runs).train()
                curves[name][seed] = runs
    times = {
        name: {seed: run.seconds_to_target for seed, run in by_seed.items()}
        for name, by_seed in curves.items()
    }
    print_table(
        ("seed", *(f"{name}, s" for name in times)),
        [(seed, *(times[name][seed] or "not reached" for name in times)) for seed in arguments.seeds],
    )
    drawn = {
        name: {str(seed): run.curve for seed, run in by_seed.items()} for name, by_seed in curves.items()
    }
    if arguments.plot is not None:
        plot(drawn, arguments.plot)
    result = {
        "curves": drawn,
        "seconds_to_target": {
            name: {str(seed): seconds for seed, seconds in by_seed.items()} for name, by_seed in times.items()
        },
        "bar": RACE_BAR,
    }
    finish(arguments, result, verdict_of(curves))


def verdict_of(curves: Mapping[str, Mapping[int, Race]]) -> str:
    """Compare the times of both sides; a side that raced alone won nothing."""
    if set(curves) != set(TRAINERS):
        return "no verdict: one side raced alone"
    ours, theirs = (curves[name] for name in TRAINERS)
    ratios = [
        run.seconds_to_target / (theirs[seed].seconds_to_target or theirs[seed].seconds)
        if run.seconds_to_target is not None
        else float("inf")
        for seed, run in ours.items()
    ]
    shown = ", ".join(f"{ratio:.2f}" for ratio in ratios)
    # A seed that never gets there is no win, whatever the others do.
    reached = max(ratios) < float("inf") and median(ratios) <= RACE_BAR
    return f"ratios {shown}; bar: at most {RACE_BAR}, the median of the seeds; reached: {reached}"


def plot(curves: Mapping[str, Mapping[str, Sequence[tuple[float, float]]]], path: Path) -> None:
    """Draw a chart a seed: recall over seconds of training, by trainer and seed."""
    drawn = [
        Curve(name, f"seed {seed}: held-out RAMP recall", tuple(curve))
        for name, by_seed in curves.items()
        for seed, curve in by_seed.items()
    ]
    path.write_text(stack(draw_curves(drawn, "seconds of training")), encoding="utf-8")


def main() -> None:
    parser = make_parser(__doc__)
    add_repeats_argument(parser, 2)
    add_agent_argument(parser)
    parser.add_argument(
        "--steps", type=int, help="Steps of each training: 3 timed ones, or at most 200 of a race."
    )
    parser.add_argument(
        "--prompts", type=int, default=16, help="Tasks of a step, 8 rollouts each, of both trainers."
    )
    parser.add_argument(
        "--row-batch-size", type=int, default=16, help="Rows of a micro-batch, of both trainers."
    )
    parser.add_argument("--race", action="store_true", help="Measure the time to a recall instead of a step.")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="Of the races.")
    parser.add_argument("--target", type=float, default=0.7, help="Recall that ends a race.")
    parser.add_argument("--evaluate-every", type=int, default=5, help="Steps between evaluations in a race.")
    parser.add_argument("--held-out", type=int, default=300, help="Tasks of an evaluation.")
    parser.add_argument(
        "--trainers", nargs="+", choices=TRAINERS, default=TRAINERS, help="Only these take part in the race."
    )
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        help="Override one setting of the quickstart's recipe in the race.",
    )
    parser.add_argument("--plot", type=Path, help="Draw the learning curves of the race (SVG).")
    arguments = parser.parse_args()
    arguments.steps = arguments.steps or (200 if arguments.race else 3)
    # Tasks enough that a pass over them is never finished in the timed steps.
    with closed_world(arguments.seed, test_entities=200) as world:
        (race if arguments.race else time_steps)(arguments, world)


if __name__ == "__main__":
    main()
