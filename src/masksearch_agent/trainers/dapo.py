"""DAPO (arXiv 2503.14476) with rollouts through the agent graph, on top of TRL's `GRPOTrainer`.

TRL gives accelerate, PEFT, checkpoints and logging. Ours is what goes into a step, and its loss:

- rollouts run through `MaskSearchAgent`, and training rows come from their traces: the tokens and
  log-probabilities that were sampled, with everything the environment inserted masked out;
- dynamic sampling (section 3.2, `dynamic_sampling`) fills the batch with groups that teach something;
- a filler row, which only keeps the batch rectangular, has no trainable token and never enters the normaliser;
- the loss is `dapo_loss`: per-token ratio, asymmetric clip, one normaliser for all tokens of the batch, no KL term;
- a sampler that differs from the trainer is corrected for, and a run whose sampler drifts too far is stopped
  (`token_metrics`).

The tasks come from the curriculum's stream, whose state is in the checkpoint; TRL's dataset only counts them.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import gather_object
from datasets import Dataset
from transformers import PreTrainedModel, PreTrainedTokenizerBase, PrinterCallback, TrainerCallback
from trl import GRPOConfig, GRPOTrainer

from masksearch_agent.config.trainers import DAPOSettings
from masksearch_agent.errors import TrainingError
from masksearch_agent.records import SearchTask, TrainingRow
from masksearch_agent.trainers.batches import collate_rows, sort_by_length, trim_padding
from masksearch_agent.trainers.callbacks import CurriculumState
from masksearch_agent.trainers.curriculum import Curriculum
from masksearch_agent.trainers.dynamic_sampling import DynamicSampler
from masksearch_agent.trainers.loss import dapo_loss, importance_weights
from masksearch_agent.trainers.ranks import Ranks, leave_group_at_exit, share_evenly
from masksearch_agent.trainers.rollouts import Group, RolloutRunner
from masksearch_agent.trainers.sft import lora_config, optimizer_arguments
from masksearch_agent.trainers.token_metrics import TokenMetrics, check_sampler_drift
from masksearch_agent.trainers.weight_sync import SharedWeights, WeightSync

__all__ = ("DAPOConfig", "DAPOTrainer", "dapo_loss")


@dataclass
class DAPOConfig(GRPOConfig):  # type: ignore[misc]
    """`GRPOConfig` with DAPO's defaults and what dynamic sampling needs."""

    loss_type: str = "dapo"
    beta: float = 0.0
    epsilon: float = 0.2
    epsilon_high: float | None = 0.28
    scale_rewards: str = "group"
    shuffle_dataset: bool | None = False
    vllm_importance_sampling_mode: str = "token_truncate"
    """The only one here, whatever engine samples; the correction and its bound are TRL's settings."""
    remove_unused_columns: bool | None = False
    dynamic_sampling: bool = field(
        default=True, metadata={"help": "Leave groups of equal rewards out and draw others."}
    )
    max_resampling: int = field(
        default=4, metadata={"help": "Rollout batches drawn at most per training batch."}
    )
    drop_truncated: bool = field(
        default=False, metadata={"help": "Leave truncated rollouts out of the loss."}
    )
    max_sampler_drift: float | None = field(
        default=0.2,
        metadata={
            "help": "Mean absolute difference between sampled and recomputed log-probabilities, in nats a token, at "
            "which the run stops."
        },
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.vllm_importance_sampling_mode != "token_truncate":
            raise TrainingError(
                f"vllm_importance_sampling_mode is {self.vllm_importance_sampling_mode!r}; DAPOTrainer corrects by "
                f"'token_truncate' only"
            )

    @classmethod
    def from_settings(
        cls, settings: DAPOSettings, output_dir: Path, processes: int | None = None
    ) -> DAPOConfig:
        """Translate our settings into TRL's.

        Args:
            settings: Ours; batches are those of all processes together.
            output_dir: Where the trainer keeps its checkpoints.
            processes: That train together; None for as many as torchrun or accelerate launched.

        Raises:
            TrainingError: The batch sizes do not divide each other.
        """
        if processes is None:
            processes = int(os.environ.get("WORLD_SIZE", "1"))
        rows = settings.prompts_per_step * settings.group_size
        if rows % (settings.row_batch_size * settings.updates_per_rollout * processes):
            raise TrainingError(
                f"prompts_per_step x group_size is {rows} rows, which row_batch_size x updates_per_rollout x processes "
                f"({settings.row_batch_size} x {settings.updates_per_rollout} x {processes}) does not divide"
            )
        arguments, _ = optimizer_arguments(settings.optimizer)
        micro_batches = rows // (settings.row_batch_size * processes)
        updates = settings.updates_per_rollout
        return cls(
            output_dir=str(output_dir),
            per_device_train_batch_size=settings.row_batch_size,
            steps_per_generation=micro_batches,
            gradient_accumulation_steps=micro_batches // updates,
            num_generations=settings.group_size,
            max_steps=settings.max_steps,
            epsilon=settings.epsilon_low,
            epsilon_high=settings.epsilon_high,
            temperature=1.0,  # logits are never scaled: recorded log-probabilities are those of temperature 1
            dynamic_sampling=settings.dynamic_sampling,
            max_resampling=settings.max_resampling,
            drop_truncated=settings.mask_truncated,
            vllm_importance_sampling_correction=settings.importance_sampling_correction,
            vllm_importance_sampling_clip_max=settings.importance_sampling_clip_max,
            max_sampler_drift=settings.max_sampler_drift,
            bf16=settings.bf16,
            activation_checkpointing=settings.gradient_checkpointing,
            use_cpu=not torch.cuda.is_available(),
            save_steps=-(-settings.save_steps // updates) * updates,
            save_total_limit=1,
            logging_steps=1,
            report_to=[],
            disable_tqdm=True,
            seed=settings.seed,
            **arguments,
        )


class DAPOTrainer(GRPOTrainer):  # type: ignore[misc]
    """Trains a policy by DAPO.

    Args:
        model: The policy; the rollout agent samples from this very object, or `weight_sync` brings it there.
        args: See `DAPOConfig`.
        settings: What `args` was made from.
        tasks: Tasks to draw from.
        runner: Runs and scores rollouts.
        processing_class: The tokenizer.
        callbacks: Progress display and the like.
        weight_sync: Brings the weights to what samples, before each batch of rollouts; None where they are shared.
    """

    _buffered_inputs: Any
    """Micro-batches of the rollouts in use; an attribute of `GRPOTrainer`."""

    def __init__(
        self,
        model: PreTrainedModel,
        args: DAPOConfig,
        settings: DAPOSettings,
        tasks: Sequence[SearchTask],
        runner: RolloutRunner,
        processing_class: PreTrainedTokenizerBase,
        callbacks: Sequence[TrainerCallback] = (),
        weight_sync: WeightSync | None = None,
    ) -> None:
        self.weight_sync = weight_sync or SharedWeights(runner.agent.model)
        rows = settings.prompts_per_step * settings.group_size
        if args.generation_batch_size != rows:
            raise TrainingError(
                f"args are for {args.generation_batch_size} rollouts a batch, the settings for {rows}; make them by "
                f"`DAPOConfig.from_settings` in the processes that train ({args.world_size} here)"
            )
        self.prompts_per_step = settings.prompts_per_step
        self.curriculum = Curriculum(tasks, settings.curriculum, settings.max_steps, settings.seed)
        self.runner = runner
        self._token_metrics = TokenMetrics(
            settings.epsilon_low, settings.epsilon_high, args.vllm_importance_sampling_clip_max
        )
        batches = -(-settings.max_steps // settings.updates_per_rollout)
        super().__init__(
            model=model,
            reward_funcs=[_rewarded_by_runner],
            args=args,
            train_dataset=Dataset.from_dict({"prompt": [""] * (batches * settings.prompts_per_step)}),
            processing_class=processing_class,
            callbacks=[CurriculumState(self.curriculum), *callbacks],
            peft_config=lora_config(settings.lora_rank) if settings.lora_rank else None,
        )
        leave_group_at_exit()
        self.ranks = Ranks(self.accelerator.process_index, self.accelerator.num_processes, gather_object)
        self.sampler = DynamicSampler(
            self.curriculum, runner, self.ranks, args.max_resampling, args.seed, args.dynamic_sampling
        )
        # It prints every metric to standard output, which is for results.
        self.remove_callback(PrinterCallback)
        # `GRPOTrainer` takes no optimizer class, and one made before it adds adapters would not hold them.
        _, self.optimizer_cls_and_kwargs = optimizer_arguments(settings.optimizer)

    def _generate_and_score_completions(self, inputs: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        """Replace TRL's generation: roll out, refill, and return the batch that the loss reads."""
        step = self.state.global_step
        self.weight_sync.refresh(self, step)
        sampled = self.sampler.sample(self.prompts_per_step, step)
        for name, value in sampled.metrics.items():
            self._metrics["train"][name].append(value)
        return self._batch(self._rows_to_train(sampled.groups))

    def _prepare_inputs(self, generation_batch: Any) -> dict[str, torch.Tensor]:
        """Put rows of like length into one micro-batch and cut the padding that no row of it needs."""
        earlier = self._buffered_inputs
        inputs: dict[str, torch.Tensor] = super()._prepare_inputs(generation_batch)
        # Where several updates are made of one batch of rollouts, each has to see rows of every length.
        if self._buffered_inputs is not earlier and self._is_one_update:
            self._buffered_inputs = sort_by_length(self._buffered_inputs)
            inputs = self._buffered_inputs[self._step % self.args.steps_per_generation]
        return trim_padding(inputs)

    def _compute_loss(self, model: PreTrainedModel, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
        """Return this micro-batch's share of the step's loss; the shares of all of them add up to `dapo_loss`."""
        mask = inputs["completion_mask"] * inputs["tool_mask"]
        logprobs, entropies, _ = self._get_per_token_logps_and_entropies(
            model,
            torch.cat([inputs["prompt_ids"], inputs["completion_ids"]], dim=1),
            torch.cat([inputs["prompt_mask"], inputs["completion_mask"]], dim=1),
            logits_to_keep=mask.shape[1],
            compute_entropy=True,
        )
        sampling, advantages = inputs["sampling_per_token_logps"], inputs["advantages"]
        # Where the batch is one update, the policy is still the one that it began with.
        old = inputs.get("old_per_token_logps", logprobs.detach())
        is_corrected = self.args.vllm_importance_sampling_correction
        clip_max = self.args.vllm_importance_sampling_clip_max
        weights = importance_weights(old, sampling, mask, clip_max) if is_corrected else None
        loss = dapo_loss(
            logprobs, old, advantages, mask, self.epsilon_low, self.epsilon_high, weights=weights
        )
        self._token_metrics.add(logprobs - old, old - sampling, entropies, advantages, mask)
        if (self._step + 1) % self.current_gradient_accumulation_steps == 0:
            self._finish_token_metrics()
        # The tokens of the whole batch of rollouts, cut down to one update and one rank, which averages over ranks.
        tokens = inputs["num_items_in_batch"].clamp(min=1) / self.accelerator.num_processes
        tokens = tokens * self.current_gradient_accumulation_steps / self.args.steps_per_generation
        share: torch.Tensor = loss * mask.sum() / tokens
        return share

    @property
    def _is_one_update(self) -> bool:
        return bool(self.args.gradient_accumulation_steps == self.args.steps_per_generation)

    def _finish_token_metrics(self) -> None:
        """Log what an update's tokens say, and stop before its step where the sampler drifted."""
        metrics = self._token_metrics.collect(self.accelerator)
        sampler = str(self.runner.agent.model.model_version)  # type: ignore[attr-defined]
        check_sampler_drift(metrics, self.args.max_sampler_drift, sampler, self.state.global_step)
        for name, value in metrics.items():
            self._metrics["train"][name].append(value)

    def _rows_to_train(self, groups: Sequence[Group]) -> list[tuple[TrainingRow, float]]:
        """Return this rank's rows with their advantages."""
        return [
            (row, advantage)
            for group in groups
            for rollout, advantage in zip(group.rollouts, group.advantages(), strict=True)
            if not (rollout.is_truncated and self.args.drop_truncated)
            for row in rollout.rows
        ]

    def _batch(self, rows: Sequence[tuple[TrainingRow, float]]) -> dict[str, torch.Tensor]:
        """Collate rows into TRL's tensors: as many on each rank, and whole micro-batches of them.

        Each micro-batch ends in collective calls, so all ranks need as many.
        """
        rows, share = share_evenly(rows, self.ranks)
        batch = collate_rows(
            [row for row, _ in rows],
            [advantage for _, advantage in rows],
            self.processing_class.pad_token_id,
            multiple_of=self.args.steps_per_generation,
            at_least=share,
        )
        batch = {name: tensor.to(self.accelerator.device) for name, tensor in batch.items()}
        if not self._is_one_update:
            batch["old_per_token_logps"] = self._recompute_logprobs(batch)
        trained = sum(row.trainable_count for row, _ in rows)
        read = sum(len(row.input_ids) for row, _ in rows)
        counts = torch.tensor([[trained, read]], device=self.accelerator.device)
        trained_by_all, read_by_all = self.accelerator.gather(counts).sum(dim=0)
        batch["num_items_in_batch"] = trained_by_all
        self._metrics["train"]["dapo/trained_tokens"].append(float(trained_by_all))
        self.state.num_input_tokens_seen += int(read_by_all)
        self._metrics["train"]["num_tokens"] = [self.state.num_input_tokens_seen]
        return batch

    def _recompute_logprobs(self, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        """Return `(B, C)` log-probabilities of the policy as it is now, before several updates change it."""
        with torch.no_grad():
            logprobs, _, _ = self._get_per_token_logps_and_entropies(
                self.model,
                torch.cat([batch["prompt_ids"], batch["completion_ids"]], dim=1),
                torch.cat([batch["prompt_mask"], batch["completion_mask"]], dim=1),
                logits_to_keep=batch["completion_ids"].shape[1],
                batch_size=self.args.per_device_train_batch_size,
            )
        return torch.as_tensor(logprobs)


def _rewarded_by_runner(**kwargs: Any) -> list[float]:
    """Stand in for a reward function, which TRL's constructor asks for; the runner scores the rollouts."""
    raise TrainingError("rollouts are scored by the RolloutRunner, not by a reward function")
