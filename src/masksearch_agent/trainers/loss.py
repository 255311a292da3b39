"""The objectives of RL as pure functions over tensors: DAPO's, and others of the field to choose from.

Three policies meet in each: the one that is trained, the same one as it was when the batch of rollouts began (old), and
the one that sampled. The clipped ratio is between the first two; the third enters through a weight of its own, so a
sampler that differs from the trainer neither uses up the clip's range nor biases the gradient.

All take the same arguments:

    logprobs: `(B, T)` log-probabilities of the sampled tokens under the policy that is trained.
    old_logprobs: `(B, T)` those under the policy at the start of the batch of rollouts.
    advantages: `(B,)`, one for all tokens of a row.
    mask: `(B, T)` 1 where a token trains; other positions may hold anything.
    epsilon_low: How far the ratio may fall below 1.
    epsilon_high: How far it may rise above 1.
    weights: `(B, T)` of `importance_weights`; None where the old policy sampled.
    penalties: `(B, T)` what is taken off each token's gain, such as `start_kl`; None for nothing.

They return a scalar to be minimised, 0 where no token trains. A row is a rollout, but for one that forked.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch

__all__ = (
    "OBJECTIVES",
    "Objective",
    "cispo_loss",
    "dapo_loss",
    "dr_grpo_loss",
    "gspo_loss",
    "importance_weights",
    "start_kl",
)


def dapo_loss(
    logprobs: torch.Tensor,
    old_logprobs: torch.Tensor,
    advantages: torch.Tensor,
    mask: torch.Tensor,
    epsilon_low: float = 0.2,
    epsilon_high: float = 0.28,
    *,
    weights: torch.Tensor | None = None,
    penalties: torch.Tensor | None = None,
) -> torch.Tensor:
    """The objective of DAPO, negated (arXiv 2503.14476, eq. 8 with the ratio of eq. 9).

        - 1/Σ|o_i| Σ_i Σ_t min(r_it A_i, clip(r_it, 1 - ε_low, 1 + ε_high) A_i),   r_it = π(o_it) / π_old(o_it)

    Every trained token counts the same, whatever the length of its row (section 3.3), and the ratio may rise further
    than it may fall (clip-higher, section 3.1). `advantages` may be `(B, T)` too.
    """
    is_trained = mask.bool()
    ratios = _ratios(logprobs, old_logprobs, is_trained)
    gains = _clipped_gains(ratios, _by_token(advantages), epsilon_low, epsilon_high)
    gains = _adjusted(gains, weights, penalties)
    return -gains.masked_fill(~is_trained, 0.0).sum() / is_trained.sum().clamp(min=1)


def gspo_loss(
    logprobs: torch.Tensor,
    old_logprobs: torch.Tensor,
    advantages: torch.Tensor,
    mask: torch.Tensor,
    epsilon_low: float = 3e-4,
    epsilon_high: float = 4e-4,
    *,
    weights: torch.Tensor | None = None,
    penalties: torch.Tensor | None = None,
) -> torch.Tensor:
    """The objective of GSPO, negated (arXiv 2507.18071, eq. 5 with the ratio of eq. 7; epsilons of section 5.1).

        - 1/B Σ_i min(s_i A_i, clip(s_i, 1 - ε_low, 1 + ε_high) A_i),   s_i = (π(o_i) / π_old(o_i))^(1/|o_i|)

    A row is clipped, or not, as a whole, and each one counts the same. Its importance weight is the mean of its
    tokens'.
    """
    is_trained = mask.bool()
    counts = is_trained.sum(dim=1)
    ratios = torch.exp(_row_means(logprobs - old_logprobs, is_trained))
    gains = _clipped_gains(ratios, advantages, epsilon_low, epsilon_high)
    row_weights = None if weights is None else _row_means(weights, is_trained)
    row_penalties = None if penalties is None else _row_means(penalties, is_trained)
    gains = _adjusted(gains, row_weights, row_penalties)
    return -gains.masked_fill(counts == 0, 0.0).sum() / (counts > 0).sum().clamp(min=1)


def cispo_loss(
    logprobs: torch.Tensor,
    old_logprobs: torch.Tensor,
    advantages: torch.Tensor,
    mask: torch.Tensor,
    epsilon_low: float = 1.0,
    epsilon_high: float = 4.0,
    *,
    weights: torch.Tensor | None = None,
    penalties: torch.Tensor | None = None,
) -> torch.Tensor:
    """The objective of CISPO, negated (MiniMax-M1, arXiv 2506.13585, eq. 4 and 5).

        - 1/Σ|o_i| Σ_i Σ_t sg(clip(r_it, 1 - ε_low, 1 + ε_high)) A_i log π(o_it)

    The ratio is a weight without a gradient, so that no token loses its gradient by being clipped. The paper has no
    lower bound, as here (`epsilon_low` 1); it does not tell the upper one, which is that of ScaleRL (arXiv 2510.13786).
    """
    is_trained = mask.bool()
    ratios = _ratios(logprobs, old_logprobs, is_trained).detach()
    clipped = ratios.clamp(1 - epsilon_low, 1 + epsilon_high)
    gains = clipped * _by_token(advantages) * logprobs.masked_fill(~is_trained, 0.0)
    gains = _adjusted(gains, weights, penalties)
    return -gains.masked_fill(~is_trained, 0.0).sum() / is_trained.sum().clamp(min=1)


def dr_grpo_loss(
    logprobs: torch.Tensor,
    old_logprobs: torch.Tensor,
    advantages: torch.Tensor,
    mask: torch.Tensor,
    epsilon_low: float = 0.2,
    epsilon_high: float = 0.2,
    *,
    weights: torch.Tensor | None = None,
    penalties: torch.Tensor | None = None,
    max_tokens: int = 1,
) -> torch.Tensor:
    """The objective of Dr. GRPO, negated (arXiv 2503.20783, section 3.2 and listing 1).

        - 1/(B L) Σ_i Σ_t min(r_it A_i, clip(r_it, 1 - ε_low, 1 + ε_high) A_i),   A_i = R_i - mean(R)

    The normaliser does not depend on the lengths: `max_tokens`, L, is what a rollout may sample at most. The advantages
    it is given must not be divided by a standard deviation.
    """
    is_trained = mask.bool()
    ratios = _ratios(logprobs, old_logprobs, is_trained)
    gains = _clipped_gains(ratios, _by_token(advantages), epsilon_low, epsilon_high)
    gains = _adjusted(gains, weights, penalties).masked_fill(~is_trained, 0.0)
    return -gains.sum() / (is_trained.any(dim=1).sum().clamp(min=1) * max_tokens)


def start_kl(logprobs: torch.Tensor, start_logprobs: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Return `(B, T)` estimates of the policy's divergence from what it was at the start, 0 where nothing trains.

        π_start(o)/π(o) - log(π_start(o)/π(o)) - 1

    The k3 estimate that GRPO takes (arXiv 2402.03300, eq. 4). DGPO (arXiv 2508.20324) takes a divergence off the gain
    of wrong answers alone: a right answer may go where it will.
    """
    differences = (start_logprobs - logprobs).masked_fill(~mask.bool(), 0.0)
    return torch.exp(differences) - differences - 1


def importance_weights(
    old_logprobs: torch.Tensor, sampling_logprobs: torch.Tensor, mask: torch.Tensor, clip_max: float
) -> torch.Tensor:
    """Return each token's truncated importance weight, `min(p_old / p_sampler, clip_max)`.

    Truncation bounds the variance that a few tokens would cause (Ionides 2008; for LLM samplers Yao et al. 2025, "Your
    Efficient RL Framework Secretly Brings You Off-Policy RL Training"). The same as TRL's `token_truncate` of
    `vllm_importance_sampling_mode`.

    All are `(B, T)`: log-probabilities under the policy at the start of the batch of rollouts, those recorded while
    sampling, a mask that is 1 where a token trains, and the weights, 1 where none does and without a gradient.
    """
    differences = (old_logprobs - sampling_logprobs).detach().masked_fill(~mask.bool(), 0.0)
    return torch.exp(differences).clamp(max=clip_max)


@dataclass(frozen=True, slots=True)
class Objective:
    """A loss, and what a trainer has to know to use it."""

    loss: Callable[..., torch.Tensor]
    mean_over: Literal["tokens", "rows"]
    """What its normaliser counts, so that the shares of micro-batches add up."""
    epsilons: tuple[float, float]
    """Of the ratio's clip, low and high, as its paper has them."""
    is_scaled: bool = True
    """Whether advantages are divided by their group's standard deviation."""
    ratio: Literal["token", "row"] = "token"
    """What is clipped."""


OBJECTIVES = {
    "dapo": Objective(dapo_loss, "tokens", (0.2, 0.28)),
    "gspo": Objective(gspo_loss, "rows", (3e-4, 4e-4), ratio="row"),
    "cispo": Objective(cispo_loss, "tokens", (1.0, 4.0)),
    "dr_grpo": Objective(dr_grpo_loss, "rows", (0.2, 0.2), is_scaled=False),
}
"""By their names in a recipe."""


def _ratios(logprobs: torch.Tensor, old_logprobs: torch.Tensor, is_trained: torch.Tensor) -> torch.Tensor:
    return torch.exp((logprobs - old_logprobs).masked_fill(~is_trained, 0.0))


def _by_token(advantages: torch.Tensor) -> torch.Tensor:
    return advantages.unsqueeze(1) if advantages.dim() == 1 else advantages


def _clipped_gains(
    ratios: torch.Tensor, advantages: torch.Tensor, epsilon_low: float, epsilon_high: float
) -> torch.Tensor:
    clipped = ratios.clamp(1 - epsilon_low, 1 + epsilon_high)
    return torch.minimum(ratios * advantages, clipped * advantages)


def _adjusted(
    gains: torch.Tensor, weights: torch.Tensor | None, penalties: torch.Tensor | None
) -> torch.Tensor:
    gains = gains if weights is None else gains * weights
    return gains if penalties is None else gains - penalties


def _row_means(values: torch.Tensor, is_trained: torch.Tensor) -> torch.Tensor:
    """Return `(B,)` means over each row's trained tokens, 0 where it has none."""
    return values.masked_fill(~is_trained, 0.0).sum(dim=1) / is_trained.sum(dim=1).clamp(min=1)
