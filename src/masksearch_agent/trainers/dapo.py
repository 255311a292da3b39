"""DAPO (arXiv 2503.14476) with rollouts through the agent graph, on top of TRL's `GRPOTrainer`.

TRL gives accelerate, PEFT, checkpoints and logging. Ours is what goes into a step, and its loss:

- rollouts run through `MaskSearchAgent`, and training rows come from their traces: the tokens and
  log-probabilities that were sampled, with everything the environment inserted masked out;
- dynamic sampling (section 3.2, `dynamic_sampling`) fills the batch with groups that teach something;
- a filler row, which only keeps the batch rectangular, has no trainable token and never enters the normaliser;
- the loss is `dapo_loss`: per-token ratio, asymmetric clip, one normaliser for all tokens of the batch, no KL term; or
  another one of `loss`, if the settings say so;
- a sampler that differs from the trainer is corrected for, and a run whose sampler drifts too far is stopped
  (`token_metrics`).

The tasks come from the curriculum's stream, whose state is in the checkpoint; TRL's dataset only counts them.
"""

from __future__ import annotations

import math
from collections import defaultdict, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import gather_object
from datasets import Dataset
from transformers import PreTrainedModel, PreTrainedTokenizerBase, PrinterCallback, TrainerCallback
from trl import GRPOConfig, GRPOTrainer

from masksearch_agent.config.trainers import CurriculumLevel, DAPOSettings, OptimizerSettings
from masksearch_agent.environment import process_count
from masksearch_agent.errors import TrainingError
from masksearch_agent.records import SearchTask, TrainingRow
from masksearch_agent.trainers.ahead import RolloutsAhead
from masksearch_agent.trainers.batches import RowOrder, batch_parts, collate_rows, split_batch, trim_padding
from masksearch_agent.trainers.callbacks import CurriculumState, EmptyUpdates
from masksearch_agent.trainers.curriculum import Curriculum
from masksearch_agent.trainers.dynamic_sampling import DynamicSampler
from masksearch_agent.trainers.logprobs import score_completions
from masksearch_agent.trainers.loss import OBJECTIVES, dapo_loss
from masksearch_agent.trainers.monitor import Monitor
from masksearch_agent.trainers.optimization import lora_config, optimizer_arguments, shared_arguments
from masksearch_agent.trainers.ranks import Ranks, leave_group_at_exit, share_evenly
from masksearch_agent.trainers.rollouts import Group, RolloutRunner
from masksearch_agent.trainers.step_loss import RowToTrain, StartPolicy, StepLoss
from masksearch_agent.trainers.token_metrics import TokenMetrics, check_sampler_drift
from masksearch_agent.trainers.weight_sync import SharedWeights, WeightSync, check_ahead

__all__ = ("DAPOConfig", "DAPOTrainer", "dapo_loss")

_NAMES_OF_BOTH = (
    "prompts_per_step", "dynamic_sampling", "max_resampling", "max_sampler_drift", "curriculum", "optimizer",
    "lora_rank", "wrong_answer_kl", "max_staleness",
)  # fmt: skip
"""Settings of a recipe that `DAPOConfig` has under the same name."""


@dataclass
class DAPOConfig(GRPOConfig):  # type: ignore[misc]
    """All settings of a `DAPOTrainer`: TRL's own with DAPO's defaults, and those of what TRL lacks."""

    loss_type: str = "dapo"
    """One of `loss.OBJECTIVES`, whose functions are ours and not TRL's."""
    beta: float = 0.0
    epsilon: float = 0.2
    epsilon_high: float | None = 0.28
    scale_rewards: str = "group"
    shuffle_dataset: bool | None = False
    vllm_importance_sampling_mode: str = "token_truncate"
    """The only one here, whatever engine samples; the correction and its bound are TRL's settings."""
    remove_unused_columns: bool | None = False
    prompts_per_step: int | None = None
    """Groups a batch of rollouts; None: as TRL's batch sizes say."""
    dynamic_sampling: bool = True
    """Leave groups of equal rewards out and draw others."""
    max_resampling: int = 4
    """Groups rolled out at most for a training batch, in sizes of it."""
    max_sampler_drift: float | None = 0.2
    """Mean absolute difference of sampled and recomputed log-probabilities, in nats a token, that stops the run."""
    curriculum: tuple[CurriculumLevel, ...] = ()
    """Levels by mask count, easy to hard; empty draws all tasks at any time."""
    optimizer: OptimizerSettings | None = None
    """One that TRL does not know; None for TRL's `optim`."""
    lora_rank: int = 0
    """Rank of LoRA adapters; 0 trains every weight."""
    max_staleness: int = 0
    """Batches of rollouts by which the weights that sample may be behind: 0 or 1."""
    wrong_answer_kl: float = 0.0
    """What the divergence from the start costs on rollouts whose answer is not wholly right (DGPO)."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.vllm_importance_sampling_mode != "token_truncate":
            raise TrainingError(
                f"vllm_importance_sampling_mode is {self.vllm_importance_sampling_mode!r}; DAPOTrainer corrects by "
                f"'token_truncate' only"
            )
        if self.max_steps <= 0:
            raise TrainingError(
                f"max_steps is {self.max_steps}; tasks are drawn without end, so say how many"
            )
        if self.prompts_per_step is None:
            self.prompts_per_step = self.generation_batch_size // self.num_generations

    @classmethod
    def from_settings(
        cls, settings: DAPOSettings, output_dir: Path, processes: int | None = None, **others: Any
    ) -> DAPOConfig:
        """Translate a recipe's settings, whose batches are those of all processes: where their names meet TRL's.

        Args:
            settings: Of the recipe.
            output_dir: Where the trainer keeps its checkpoints.
            processes: That train together; None for as many as torchrun or accelerate launched.
            others: Of TRL's own, such as `trackers.tracker_arguments`.

        Raises:
            TrainingError: The batch sizes do not divide each other.
        """
        if processes is None:
            processes = process_count()
        rows = settings.prompts_per_step * settings.group_size
        if rows % (settings.row_batch_size * settings.updates_per_rollout * processes):
            raise TrainingError(
                f"prompts_per_step x group_size is {rows} rows; expected a multiple of row_batch_size x "
                f"updates_per_rollout x processes ({settings.row_batch_size} x {settings.updates_per_rollout} x "
                f"{processes})"
            )
        micro_batches = rows // (settings.row_batch_size * processes)
        updates = settings.updates_per_rollout
        objective = OBJECTIVES[settings.loss]
        low, high = objective.epsilons
        return cls(
            per_device_train_batch_size=settings.row_batch_size,
            steps_per_generation=micro_batches,
            gradient_accumulation_steps=micro_batches // updates,
            num_generations=settings.group_size,
            loss_type=settings.loss,
            epsilon=low if settings.epsilon_low is None else settings.epsilon_low,
            epsilon_high=high if settings.epsilon_high is None else settings.epsilon_high,
            scale_rewards="group" if objective.is_scaled else "none",
            temperature=1.0,  # logits are never scaled: recorded log-probabilities are those of temperature 1
            mask_truncated_completions=settings.mask_truncated,
            vllm_importance_sampling_correction=settings.importance_sampling_correction,
            vllm_importance_sampling_clip_max=settings.importance_sampling_clip_max,
            save_steps=-(-settings.save_steps // updates) * updates,
            logging_steps=1,
            **{name: getattr(settings, name) for name in _NAMES_OF_BOTH},
            **(shared_arguments(settings, output_dir) | others),
        )

    @property
    def updates_per_rollout(self) -> int:
        """Optimizer steps on each batch of rollouts."""
        return int(self.steps_per_generation * self.num_iterations // self.gradient_accumulation_steps)

    def to_dict(self) -> dict[str, Any]:
        """Return the settings as JSON holds them, for what tracks experiments."""
        levels = [level.model_dump() for level in self.curriculum]
        optimizer = self.optimizer and self.optimizer.model_dump()
        return {**super().to_dict(), "curriculum": levels, "optimizer": optimizer}


class DAPOTrainer(GRPOTrainer):  # type: ignore[misc]
    """Trains a policy by DAPO.

    Args:
        model: The policy; the rollout agent samples from this very object, or `weight_sync` brings it there.
        tasks: To draw from.
        runner: Runs and scores rollouts.
        processing_class: The tokenizer.
        weight_sync: Brings the weights to what samples, before each batch of rollouts; None where they are shared.
        monitor: Watches the run; None warns of what the log says and no more.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        args: DAPOConfig,
        tasks: Sequence[SearchTask],
        runner: RolloutRunner,
        processing_class: PreTrainedTokenizerBase,
        callbacks: Sequence[TrainerCallback] = (),
        weight_sync: WeightSync | None = None,
        monitor: Monitor | None = None,
    ) -> None:
        monitor = monitor or Monitor()
        rows = args.prompts_per_step * args.num_generations
        if args.generation_batch_size != rows:
            raise TrainingError(
                f"the batch sizes of args make {args.generation_batch_size} rollouts a batch, prompts_per_step "
                f"{rows}; make them by `DAPOConfig.from_settings` in the processes that train ({args.world_size} here)"
            )
        self.weight_sync = weight_sync or SharedWeights(runner.agent.model)
        self.curriculum = Curriculum(tasks, args.curriculum, args.max_steps, args.seed)
        self.ahead = RolloutsAhead(
            self.curriculum,
            lambda step: self.sampler.sample(self.args.prompts_per_step, step),
            lambda step: self.weight_sync.refresh(self, step),
            check_ahead(args.max_staleness, self.weight_sync, args.world_size),
        )
        self.runner = runner
        self.micro_batches: deque[dict[str, torch.Tensor]] = deque()
        """Those of the rollouts in use that are still to be trained on."""
        self.noted: defaultdict[str, list[float]] = defaultdict(list)
        """Metrics since the last log entry."""
        batches = -(-args.max_steps // args.updates_per_rollout)
        self.start = StartPolicy(model, args.lora_rank > 0) if args.wrong_answer_kl else None
        super().__init__(
            model=model,
            reward_funcs=[_rewarded_by_runner],
            args=args,
            train_dataset=Dataset.from_dict({"prompt": [""] * (batches * args.prompts_per_step)}),
            processing_class=processing_class,
            callbacks=[CurriculumState(self.ahead), *callbacks, monitor],
            peft_config=lora_config(args.lora_rank),
        )
        monitor.attach(self)
        limits = getattr(runner.agent, "settings", None)
        epsilons = self.epsilon_low, self.epsilon_high
        self.step_loss = StepLoss(args, epsilons, getattr(limits, "max_sampled_tokens", None))
        self.token_metrics = TokenMetrics(*epsilons, args.vllm_importance_sampling_clip_max)
        self.add_callback(EmptyUpdates(self.token_metrics))
        leave_group_at_exit()
        self.ranks = Ranks(self.accelerator.process_index, self.accelerator.num_processes, gather_object)
        self.sampler = DynamicSampler(
            self.curriculum, runner, self.ranks, args.max_resampling, args.seed, args.dynamic_sampling
        )
        self.remove_callback(PrinterCallback)  # It prints to standard output, which is for results.
        # `GRPOTrainer` takes no optimizer class, and one made before it adds adapters would not hold them.
        if args.optimizer is not None:
            _, self.optimizer_cls_and_kwargs = optimizer_arguments(args.optimizer)

    # The one private method of TRL that is used: nothing public lies between a training loop's batch and its loss.
    def _prepare_inputs(self, generation_batch: Any) -> dict[str, torch.Tensor]:
        """Return the next micro-batch, after a new batch of rollouts where the last one is used up.

        The argument, what TRL's dataset holds, is not read.
        """
        if not self.micro_batches:
            # Where several updates are made of one batch of rollouts, each has to see rows of every length.
            by_use: RowOrder = "by_prompt" if self.accelerator.device.type == "cpu" else "by_length"
            order: RowOrder = by_use if self.args.updates_per_rollout == 1 else "random"
            parts = split_batch(self.roll_out(), self.args.steps_per_generation, order)
            self.micro_batches.extend(parts * self.num_iterations)
        return trim_padding(self.micro_batches.popleft())

    def compute_loss(
        self,
        model: PreTrainedModel,
        inputs: dict[str, torch.Tensor],
        return_outputs: bool = False,
        num_items_in_batch: Any = None,
    ) -> torch.Tensor:
        """Return this micro-batch's share of the step's loss; the shares of all of them add up to the objective."""
        with self.accelerator.autocast():
            logprobs, entropies = score_completions(model, inputs)
        # What is counted is the whole batch of rollouts, cut down to one update and one rank, averaged over ranks.
        scale = self.current_gradient_accumulation_steps / self.args.steps_per_generation
        scored = self.step_loss(logprobs, inputs, scale / self.accelerator.num_processes)
        mask = inputs["completion_mask"] * inputs["tool_mask"]
        self.token_metrics.add(
            scored.log_ratios, scored.sampler_differences, entropies, inputs["advantages"], mask
        )
        if self.accelerator.sync_gradients:
            self._finish_update()
        return scored.share

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Add the means of what was noted since the last entry, of all that is a number."""
        means: dict[str, Any] = {}
        for name, values in self.noted.items():
            numbers = [value for value in values if not math.isnan(value)]
            means[name] = sum(numbers) / len(numbers) if numbers else None
        self.noted.clear()
        super().log({**logs, **means}, start_time)

    def roll_out(self) -> dict[str, torch.Tensor]:
        """Sample a batch of groups with the newest weights, or take what was sampled ahead; return it as tensors."""
        step = self.state.global_step
        following = step + self.args.updates_per_rollout
        sampled = self.ahead.take(step, following if following < self.args.max_steps else None)
        self._note(sampled.metrics)
        return self._batch(self._rows_to_train(sampled.groups))

    def _note(self, metrics: dict[str, float]) -> None:
        for name, value in metrics.items():
            self.noted[name].append(value)

    def _finish_update(self) -> None:
        """Note what an update's tokens say, and stop before its step where the sampler drifted."""
        metrics = self.token_metrics.collect(self.accelerator)
        sampler = str(self.runner.agent.model.model_version)  # type: ignore[attr-defined]
        check_sampler_drift(metrics, self.args.max_sampler_drift, sampler, self.state.global_step)
        self._note(metrics)

    def _rows_to_train(self, groups: Sequence[Group]) -> list[RowToTrain]:
        """Return this rank's rows."""
        is_scaled = self.step_loss.objective.is_scaled
        return [
            RowToTrain(row, advantage, is_wrong=rollout.reward.answer < 1)
            for group in groups
            for rollout, advantage in zip(group.rollouts, group.advantages(is_scaled), strict=True)
            if not (rollout.is_truncated and self.args.mask_truncated_completions)
            for row in rollout.rows
        ]

    def _batch(self, rows: Sequence[tuple[TrainingRow, float] | RowToTrain]) -> dict[str, torch.Tensor]:
        """Collate rows into tensors: as many on each rank, and whole micro-batches of them.

        Each micro-batch ends in collective calls, so all ranks need as many.
        """
        shared, share = share_evenly(rows, self.ranks)
        own = [RowToTrain(*each) for each in shared]
        batch = collate_rows(
            [each.row for each in own],
            [each.advantage for each in own],
            self.processing_class.pad_token_id,
            multiple_of=self.args.steps_per_generation,
            at_least=share,
        )
        is_wrong = torch.tensor([float(each.is_wrong) for each in own])
        batch["is_wrong"] = torch.nn.functional.pad(is_wrong, (0, len(batch["advantages"]) - len(own)))
        batch = {name: tensor.to(self.accelerator.device) for name, tensor in batch.items()}
        if self.args.updates_per_rollout > 1:
            batch["old_per_token_logps"] = self._scored(batch, score_completions)
        if self.start is not None:
            batch["start_per_token_logps"] = self._scored(batch, self.start.score)
        trained = [each.row.trainable_count for each in own]
        read = sum(len(each.row.input_ids) for each in own)
        counts = torch.tensor([[sum(trained), sum(map(bool, trained)), read]], device=self.accelerator.device)
        trained_by_all, rows_by_all, read_by_all = self.accelerator.gather(counts).sum(dim=0)
        batch["num_items_in_batch"], batch["num_rows_in_batch"] = trained_by_all, rows_by_all
        self.state.num_input_tokens_seen += int(read_by_all)
        self._note({"dapo/trained_tokens": float(trained_by_all)})
        self.noted["num_tokens"] = [self.state.num_input_tokens_seen]
        return batch

    def _scored(self, batch: dict[str, torch.Tensor], score: Callable[..., Any]) -> torch.Tensor:
        """Return `(B, C)` log-probabilities of a policy: as it is before several updates change it, or as it was."""
        with torch.no_grad(), self.accelerator.autocast():
            parts = batch_parts(batch, self.args.per_device_train_batch_size)
            return torch.cat([score(self.model, part)[0] for part in parts])


def _rewarded_by_runner(**kwargs: Any) -> list[float]:
    """Stand in for a reward function, which TRL's constructor asks for; the runner scores the rollouts."""
    raise TrainingError("rollouts are scored by the RolloutRunner, not by a reward function")
