"""DAPO (arXiv 2503.14476) with rollouts through the agent graph, on top of TRL's `GRPOTrainer`.

TRL gives accelerate, PEFT, checkpoints and logging. Ours is what goes into a step, and its loss:

- rollouts run through `MaskSearchAgent`, and training rows come from their traces: the tokens and
  log-probabilities that were sampled, with everything the environment inserted masked out;
- dynamic sampling (section 3.2): groups whose rewards are all equal teach nothing and are replaced by fresh
  groups of the same curriculum until the batch is full or `max_resampling` batches were drawn;
- a filler row, which only keeps the batch rectangular, has no trainable token and never enters the normaliser;
- the loss is `dapo_loss`: per-token ratio, asymmetric clip, one normaliser for all tokens of the batch, no KL term.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from transformers import PreTrainedModel, PreTrainedTokenizerBase, PrinterCallback, TrainerCallback
from trl import GRPOConfig, GRPOTrainer

from masksearch_agent.config.trainers import DAPOSettings
from masksearch_agent.errors import TrainingError
from masksearch_agent.records import SearchTask, TrainingRow
from masksearch_agent.trainers.batches import collate_rows, sort_by_length, trim_padding
from masksearch_agent.trainers.curriculum import Curriculum
from masksearch_agent.trainers.rollouts import Group, RolloutRunner
from masksearch_agent.trainers.sft import lora_config, optimizer_arguments
from masksearch_agent.trainers.weight_sync import SharedWeights, WeightSync

__all__ = ("DAPOConfig", "DAPOTrainer", "dapo_loss")

logger = logging.getLogger(__name__)

_GROUPS_PER_MISSING = 2
"""Fresh groups drawn for each missing one: some of them will be of equal rewards too."""


@dataclass
class DAPOConfig(GRPOConfig):  # type: ignore[misc]
    """`GRPOConfig` with DAPO's defaults and what dynamic sampling needs."""

    loss_type: str = "dapo"
    beta: float = 0.0
    epsilon: float = 0.2
    epsilon_high: float | None = 0.28
    scale_rewards: str = "group"
    shuffle_dataset: bool | None = False
    """The dataset comes in the curriculum's order."""
    remove_unused_columns: bool | None = False
    max_resampling: int = field(
        default=4, metadata={"help": "Rollout batches drawn at most per training batch."}
    )
    drop_truncated: bool = field(
        default=False, metadata={"help": "Leave truncated rollouts out of the loss."}
    )

    @classmethod
    def from_settings(cls, settings: DAPOSettings, output_dir: Path) -> DAPOConfig:
        """Translate our settings into TRL's.

        Raises:
            TrainingError: The batch sizes do not divide each other.
        """
        rows = settings.prompts_per_step * settings.group_size
        if rows % (settings.row_batch_size * settings.updates_per_rollout):
            raise TrainingError(
                f"prompts_per_step x group_size is {rows} rows, which row_batch_size x updates_per_rollout "
                f"({settings.row_batch_size} x {settings.updates_per_rollout}) does not divide"
            )
        arguments, _ = optimizer_arguments(settings.optimizer)
        micro_batches = rows // settings.row_batch_size
        return cls(
            output_dir=str(output_dir),
            per_device_train_batch_size=settings.row_batch_size,
            steps_per_generation=micro_batches,
            gradient_accumulation_steps=micro_batches // settings.updates_per_rollout,
            num_generations=settings.group_size,
            max_steps=settings.max_steps,
            epsilon=settings.epsilon_low,
            epsilon_high=settings.epsilon_high,
            temperature=1.0,  # logits are never scaled: recorded log-probabilities are those of temperature 1
            max_resampling=settings.max_resampling,
            drop_truncated=settings.mask_truncated,
            bf16=settings.bf16,
            gradient_checkpointing=settings.gradient_checkpointing,
            use_cpu=not torch.cuda.is_available(),
            save_steps=settings.save_steps,
            save_total_limit=1,
            logging_steps=1,
            report_to=[],
            disable_tqdm=True,
            seed=settings.seed,
            **arguments,
        )


def dapo_loss(
    logprobs: torch.Tensor,
    old_logprobs: torch.Tensor,
    advantages: torch.Tensor,
    mask: torch.Tensor,
    epsilon_low: float = 0.2,
    epsilon_high: float = 0.28,
) -> torch.Tensor:
    """The objective of DAPO, negated (arXiv 2503.14476, eq. 8 with the ratio of eq. 9).

    Every trained token counts the same, whatever the length of its row (section 3.3), and the ratio may rise further
    than it may fall (clip-higher, section 3.1).

    Args:
        logprobs: `(B, T)` log-probabilities of the sampled tokens under the policy that is trained.
        old_logprobs: `(B, T)` those under the policy that sampled them.
        advantages: `(B,)`, one for all tokens of a row, or `(B, T)`.
        mask: `(B, T)` 1 where a token trains; other positions may hold anything.
        epsilon_low: How far the ratio may fall below 1.
        epsilon_high: How far it may rise above 1.

    Returns:
        A scalar: the mean over all trained tokens, 0 where there is none.
    """
    is_trained = mask.bool()
    ratios = torch.exp((logprobs - old_logprobs).masked_fill(~is_trained, 0.0))
    weights = advantages.unsqueeze(1) if advantages.dim() == 1 else advantages
    clipped = ratios.clamp(1 - epsilon_low, 1 + epsilon_high)
    gains = torch.minimum(ratios * weights, clipped * weights).masked_fill(~is_trained, 0.0)
    return -gains.sum() / is_trained.sum().clamp(min=1)


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
        self.curriculum = Curriculum(tasks, settings.curriculum, settings.max_steps, settings.seed)
        self.runner = runner
        steps = range(0, settings.max_steps, settings.updates_per_rollout)
        count = settings.prompts_per_step * args.world_size
        order = [index for step in steps for index in self.curriculum.draw(step, count)]
        dataset = Dataset.from_dict(
            {"prompt": [tasks[index].question for index in order], "task_index": order}
        )
        super().__init__(
            model=model,
            reward_funcs=[_rewarded_by_runner],
            args=args,
            train_dataset=dataset,
            processing_class=processing_class,
            callbacks=list(callbacks),
            peft_config=lora_config(settings.lora_rank) if settings.lora_rank else None,
        )
        # It prints every metric to standard output, which is for results.
        self.remove_callback(PrinterCallback)
        # `GRPOTrainer` takes no optimizer class, and one made before it adds adapters would not hold them.
        _, self.optimizer_cls_and_kwargs = optimizer_arguments(settings.optimizer)

    def _generate_and_score_completions(self, inputs: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        """Replace TRL's generation: roll out, refill, and return the batch that TRL's loss reads."""
        wanted = [row["task_index"] for row in inputs[:: self.num_generations]]
        step = self.state.global_step
        self.weight_sync.refresh(self, step)
        groups = self._sample_useful_groups(wanted, step)
        rows, advantages = self._rows_to_train(groups)
        return self._batch(rows, advantages)

    def _prepare_inputs(self, generation_batch: Any) -> dict[str, torch.Tensor]:
        """Put rows of like length into one micro-batch and cut the padding that no row of it needs."""
        earlier = self._buffered_inputs
        inputs: dict[str, torch.Tensor] = super()._prepare_inputs(generation_batch)
        # Where several updates are made of one batch of rollouts, each has to see rows of every length.
        is_one_update = self.args.gradient_accumulation_steps == self.args.steps_per_generation
        if self._buffered_inputs is not earlier and is_one_update:
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
        old, advantages = inputs["old_per_token_logps"], inputs["advantages"]
        loss = dapo_loss(logprobs, old, advantages, mask, self.epsilon_low, self.epsilon_high)
        # The tokens of the whole batch of rollouts, cut down to one update and one rank, which averages over ranks.
        tokens = inputs["num_items_in_batch"].clamp(min=1) / self.accelerator.num_processes
        tokens = tokens * self.current_gradient_accumulation_steps / self.args.steps_per_generation
        self._log_tokens(logprobs.detach() - old, entropies.detach(), advantages, mask)
        share: torch.Tensor = loss * mask.sum() / tokens
        return share

    def _log_tokens(
        self, log_ratios: torch.Tensor, entropies: torch.Tensor, advantages: torch.Tensor, mask: torch.Tensor
    ) -> None:
        """Log means over the trained tokens of all ranks."""
        ratios = torch.exp(log_ratios)
        rises = advantages.unsqueeze(1) > 0
        means = {
            "entropy": entropies,
            "ratio/mean": ratios,
            "ratio/kl": ratios
            - 1
            - log_ratios,  # the k3 estimate of how far the policy moved from the sampler
            "clip_ratio/low_mean": (ratios < 1 - self.epsilon_low) & ~rises,
            "clip_ratio/high_mean": (ratios > 1 + self.epsilon_high) & rises,
        }
        is_trained = mask.bool()
        sums = [values.float().masked_fill(~is_trained, 0.0).sum() for values in means.values()]
        totals = self.accelerator.reduce(torch.stack([*sums, mask.sum().float()]), reduction="sum")
        for name, total in zip(means, totals[:-1], strict=True):
            self._metrics["train"][name].append((total / totals[-1].clamp(min=1)).item())

    def _sample_useful_groups(self, wanted: list[int], step: int) -> list[Group]:
        """Roll out until there are as many useful groups as prompts, or the cap is reached."""
        sampled: list[Group] = []
        useful: list[Group] = []
        rank = self.accelerator.process_index
        draw = wanted
        tries = 0
        while True:
            tries += 1
            fresh = self.runner.run(
                [self.curriculum.tasks[index] for index in draw], seed=self._rollout_seed(step, tries)
            )
            sampled += fresh
            useful += [group for group in fresh if group.is_useful]
            missing = self._largest_over_ranks(len(wanted) - len(useful))
            if missing <= 0 or tries >= self.args.max_resampling:
                break
            count = min(len(wanted), _GROUPS_PER_MISSING * missing)
            draw = self.curriculum.draw(step, count, stream=f"refill:{rank}:{tries}")
        if missing > 0:
            logger.info(
                "step %d: %d of %d groups are useful after %d rollout batches (max_resampling)",
                step, len(useful), len(wanted), tries,
            )  # fmt: skip
        self._log_groups(sampled, useful, tries, step)
        return useful[: len(wanted)]

    def _rollout_seed(self, step: int, tries: int) -> int:
        """Return a seed that no other training run, step, try or rank rolls out with."""
        number = self.args.seed * 1_000_000 + step * 1_000 + tries
        return int(number * self.accelerator.num_processes + self.accelerator.process_index)

    def _largest_over_ranks(self, value: int) -> int:
        """Every rank has to roll out equally often, because each step ends in collective calls."""
        local = torch.tensor([value], device=self.accelerator.device)
        return int(self.accelerator.gather(local).max().item())

    def _rows_to_train(self, groups: Sequence[Group]) -> tuple[list[TrainingRow], list[float]]:
        rows: list[TrainingRow] = []
        advantages: list[float] = []
        for group in groups:
            for rollout, advantage in zip(group.rollouts, group.advantages(), strict=True):
                for row in rollout.rows:
                    if row.is_truncated and self.args.drop_truncated:
                        continue
                    rows.append(row)
                    advantages.append(advantage)
        return rows, advantages

    def _batch(self, rows: list[TrainingRow], advantages: list[float]) -> dict[str, torch.Tensor]:
        """Collate rows into TRL's tensors, as many as the other ranks have and whole micro-batches of them."""
        batch = collate_rows(
            rows,
            advantages,
            self.processing_class.pad_token_id,
            multiple_of=self.args.steps_per_generation,
            at_least=self._largest_over_ranks(len(rows)),
        )
        batch = {name: tensor.to(self.accelerator.device) for name, tensor in batch.items()}
        trained = batch["tool_mask"].sum()
        batch["num_items_in_batch"] = self.accelerator.gather(trained.reshape(1)).sum()
        self._metrics["train"]["dapo/trained_tokens"].append(float(batch["num_items_in_batch"]))
        self.state.num_input_tokens_seen += int(batch["prompt_mask"].sum() + batch["completion_mask"].sum())
        self._metrics["train"]["num_tokens"] = [self.state.num_input_tokens_seen]
        return batch

    def _log_groups(self, sampled: Sequence[Group], useful: Sequence[Group], tries: int, step: int) -> None:
        metrics = self._metrics["train"]
        rollouts = [rollout for group in sampled for rollout in group.rollouts]
        kept = [rollout for group in useful for rollout in group.rollouts]
        for part in ("format", "answer", "length", "total"):
            metrics[f"rewards/{part}"].append(_mean([getattr(r.reward, part) for r in rollouts]))
        metrics["rewards/total_after_filter"].append(_mean([r.reward.total for r in kept]))
        metrics["dapo/groups_sampled"].append(len(sampled))
        metrics["dapo/groups_useful"].append(len(useful))
        metrics["dapo/groups_all_right"].append(sum(_is_perfect(group) for group in sampled))
        metrics["dapo/rollout_batches"].append(tries)
        metrics["rollouts/failed"].append(sum(group.failed for group in sampled))
        metrics["rollouts/searches"].append(_mean([len(r.trajectory.queries) for r in rollouts]))
        metrics["rollouts/sampled_tokens"].append(
            _mean([sum(row.trainable_count for row in r.rows) for r in rollouts])
        )
        metrics["traces/forked_rows"].append(sum(len(r.rows) - 1 for r in rollouts))
        max_masks = self.curriculum.max_masks(step)
        if max_masks is not None:
            metrics["curriculum/max_masks"].append(max_masks)


def _rewarded_by_runner(**kwargs: Any) -> list[float]:
    """Stand in for a reward function, which TRL's constructor asks for; the runner scores the rollouts."""
    raise TrainingError("rollouts are scored by the RolloutRunner, not by a reward function")


def _is_perfect(group: Group) -> bool:
    return bool(group.rollouts) and all(rollout.reward.answer >= 1.0 for rollout in group.rollouts)


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else float("nan")
