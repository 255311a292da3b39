"""The objective of DAPO as pure functions over tensors.

Three policies meet in it: the one that is trained, the same one as it was when the batch of rollouts began (old), and
the one that sampled. The clipped ratio is between the first two; the third enters through a weight of its own, so a
sampler that differs from the trainer neither uses up the clip's range nor biases the gradient.
"""

from __future__ import annotations

import torch

__all__ = ("dapo_loss", "importance_weights")


def dapo_loss(
    logprobs: torch.Tensor,
    old_logprobs: torch.Tensor,
    advantages: torch.Tensor,
    mask: torch.Tensor,
    epsilon_low: float = 0.2,
    epsilon_high: float = 0.28,
    *,
    weights: torch.Tensor | None = None,
) -> torch.Tensor:
    """The objective of DAPO, negated (arXiv 2503.14476, eq. 8 with the ratio of eq. 9).

    Every trained token counts the same, whatever the length of its row (section 3.3), and the ratio may rise further
    than it may fall (clip-higher, section 3.1).

    Args:
        logprobs: `(B, T)` log-probabilities of the sampled tokens under the policy that is trained.
        old_logprobs: `(B, T)` those under the policy at the start of the batch of rollouts.
        advantages: `(B,)`, one for all tokens of a row, or `(B, T)`.
        mask: `(B, T)` 1 where a token trains; other positions may hold anything.
        epsilon_low: How far the ratio may fall below 1.
        epsilon_high: How far it may rise above 1.
        weights: `(B, T)` of `importance_weights`; None where the old policy sampled.

    Returns:
        A scalar: the mean over all trained tokens, 0 where there is none.
    """
    is_trained = mask.bool()
    ratios = torch.exp((logprobs - old_logprobs).masked_fill(~is_trained, 0.0))
    scale = advantages.unsqueeze(1) if advantages.dim() == 1 else advantages
    clipped = ratios.clamp(1 - epsilon_low, 1 + epsilon_high)
    gains = torch.minimum(ratios * scale, clipped * scale)
    if weights is not None:
        gains = gains * weights
    return -gains.masked_fill(~is_trained, 0.0).sum() / is_trained.sum().clamp(min=1)


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
