"""The share of a step's loss that a micro-batch has.

The shares of all micro-batches and ranks add up to the objective over the whole batch of rollouts.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from trl.trainer.utils import add_fused_lm_head

from masksearch_agent.errors import TrainingError
from masksearch_agent.records import TrainingRow
from masksearch_agent.trainers.logprobs import score_completions
from masksearch_agent.trainers.loss import OBJECTIVES, importance_weights, start_kl

__all__ = ("RowToTrain", "Scored", "StartPolicy", "StepLoss", "trained_rows")


class RowToTrain(NamedTuple):
    """A row, and what is to come of it."""

    row: TrainingRow
    advantage: float
    is_wrong: bool = False
    """Whether its rollout's answer is not wholly right."""


@dataclass(frozen=True, slots=True)
class Scored:
    """What a micro-batch came to."""

    share: torch.Tensor
    """Scalar; of one rank, as it is averaged over ranks and summed over the micro-batches of an update."""
    log_ratios: torch.Tensor
    """`(B, T)` of what is clipped: tokens, or whole rows."""
    sampler_differences: torch.Tensor
    """`(B, T)` log-probabilities when the batch of rollouts began, minus those recorded while sampling."""


class StepLoss:
    """Computes shares.

    Args:
        args: A `DAPOConfig`.
        epsilons: Of the clip, low and high.
        max_tokens: What a rollout may sample at most; None where nothing says so.

    Raises:
        TrainingError: There is no such objective, or it needs to know `max_tokens`.
    """

    def __init__(self, args: Any, epsilons: tuple[float, float], max_tokens: int | None) -> None:
        if args.loss_type not in OBJECTIVES:
            raise TrainingError(f"loss_type is {args.loss_type!r}; expected one of {', '.join(OBJECTIVES)}")
        self.objective = OBJECTIVES[args.loss_type]
        self.epsilons = epsilons
        self.is_corrected = args.vllm_importance_sampling_correction
        self.clip_max = args.vllm_importance_sampling_clip_max
        self.wrong_answer_kl = args.wrong_answer_kl
        self.options: dict[str, Any] = {}
        if args.loss_type == "dr_grpo":
            if max_tokens is None:
                raise TrainingError(
                    "dr_grpo divides by the tokens that a rollout may sample, which no agent told"
                )
            self.options["max_tokens"] = max_tokens

    def __call__(self, logprobs: torch.Tensor, inputs: Mapping[str, torch.Tensor], scale: float) -> Scored:
        """Score a micro-batch.

        Args:
            logprobs: `(B, T)` of the policy that is trained.
            inputs: As `DAPOTrainer` makes them.
            scale: Micro-batches of all ranks together that one update has, over those of the batch of rollouts.
        """
        mask = inputs["completion_mask"] * inputs["tool_mask"]
        sampling, advantages = inputs["sampling_per_token_logps"], inputs["advantages"]
        # Where the batch is one update, the policy is still the one that it began with.
        old = inputs.get("old_per_token_logps", logprobs.detach())
        weights = importance_weights(old, sampling, mask, self.clip_max) if self.is_corrected else None
        penalties = None
        if self.wrong_answer_kl:
            divergence = start_kl(logprobs, inputs["start_per_token_logps"], mask)
            penalties = self.wrong_answer_kl * divergence * inputs["is_wrong"].unsqueeze(1)
        loss = self.objective.loss(
            logprobs, old, advantages, mask, *self.epsilons,
            weights=weights, penalties=penalties, **self.options,
        )  # fmt: skip
        if self.objective.mean_over == "tokens":
            counted, counted_by_all = mask.sum(), inputs["num_items_in_batch"]
        else:
            counted, counted_by_all = trained_rows(mask), inputs["num_rows_in_batch"]
        log_ratios = logprobs - old
        if self.objective.ratio == "row":
            means = (log_ratios * mask).sum(dim=1) / mask.sum(dim=1).clamp(min=1)
            log_ratios = means.unsqueeze(1).expand_as(mask)
        share = loss * counted / (counted_by_all.clamp(min=1) * scale)
        return Scored(share, log_ratios, old - sampling)


class StartPolicy:
    """The policy as it was before training, for what is measured against it: a copy, or the model without adapters."""

    def __init__(self, model: Any, has_adapters: bool) -> None:
        self._copy = None if has_adapters else copy.deepcopy(model).requires_grad_(False).eval()
        if self._copy is not None:
            # Not copied with the model: there the head would still be the model's own.
            add_fused_lm_head(self._copy, outputs=("log_probs", "entropy"))

    def score(self, model: Any, batch: Mapping[str, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
        """Return what `score_completions` does, of the start; `model` is the one in training."""
        scored = model if self._copy is None else self._copy.to(batch["prompt_ids"].device)
        with model.disable_adapter() if self._copy is None else nullcontext():
            return score_completions(scored, batch)


def trained_rows(mask: torch.Tensor) -> torch.Tensor:
    """Return how many rows of a mask `(B, T)` have a token that trains."""
    return mask.bool().any(dim=1).sum()
