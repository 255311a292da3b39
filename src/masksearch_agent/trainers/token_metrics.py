"""What the trained tokens of an update say about it: entropy, ratio, clipping, and how far the sampler drifted."""

from __future__ import annotations

from typing import Any

import torch

from masksearch_agent.errors import SamplerDriftError

__all__ = ("TokenMetrics", "check_sampler_drift")

_DRIFT = "sampling/sampling_logp_difference/mean"


class TokenMetrics:
    """Collects micro-batches; `collect` reduces them once an update, over all ranks.

    The epsilons are those of the ratio's clip, and `clip_max` is the largest importance weight.
    """

    def __init__(self, epsilon_low: float, epsilon_high: float, clip_max: float) -> None:
        self.epsilon_low = epsilon_low
        self.epsilon_high = epsilon_high
        self.clip_max = clip_max
        self.collected_tokens = 0  # trained in the last update, by all ranks
        self._sums: dict[str, torch.Tensor] = {}
        self._maxima: dict[str, torch.Tensor] = {}

    def add(
        self,
        log_ratios: torch.Tensor,
        sampler_differences: torch.Tensor,
        entropies: torch.Tensor,
        advantages: torch.Tensor,
        mask: torch.Tensor,
    ) -> None:
        """Add a micro-batch.

        Args:
            log_ratios: `(B, T)` how much the policy's log-probabilities rose since the batch of rollouts began.
            sampler_differences: `(B, T)` those at its beginning minus those recorded while sampling.
            entropies: `(B, T)` of the policy's distributions.
            advantages: `(B,)`.
            mask: `(B, T)` 1 where a token trains.
        """
        is_trained = mask.bool()
        log_ratios, differences, entropies = (
            values.detach().float()[is_trained] for values in (log_ratios, sampler_differences, entropies)
        )
        rises = advantages.unsqueeze(1).expand_as(mask)[is_trained] > 0
        ratios = torch.exp(log_ratios)
        weights = torch.exp(differences)
        truncated = weights.clamp(max=self.clip_max)
        sums = {
            "tokens": torch.ones_like(ratios),
            "entropy": entropies,
            "ratio/mean": ratios,
            "ratio/kl": ratios - 1 - log_ratios,  # the k3 estimate of how far the policy moved
            "clip_ratio/low_mean": (ratios < 1 - self.epsilon_low) & ~rises,
            "clip_ratio/high_mean": (ratios > 1 + self.epsilon_high) & rises,
            # These two have the names and meaning of TRL's.
            _DRIFT: differences.abs(),
            "sampling/importance_sampling_ratio/mean": truncated,
            "sampling/importance_sampling_ratio/truncated": weights > self.clip_max,
        }
        maxima = {
            "sampling/sampling_logp_difference/max": differences.abs(),
            "sampling/importance_sampling_ratio/max": truncated,
        }
        for name, values in sums.items():
            self._sums[name] = self._sums.get(name, 0.0) + values.float().sum()
        for name, values in maxima.items():
            largest = values.max() if values.numel() else values.new_zeros(())
            self._maxima[name] = torch.maximum(self._maxima.get(name, largest), largest)

    def collect(self, accelerator: Any) -> dict[str, float]:
        """Return the means and maxima over what all ranks added since the last call; every rank has to call it."""
        sums = accelerator.reduce(torch.stack(list(self._sums.values())), reduction="sum")
        maxima = accelerator.gather(torch.stack(list(self._maxima.values())).unsqueeze(0)).amax(dim=0)
        tokens = sums[0].clamp(min=1)
        means = dict(zip(self._sums, (sums / tokens).tolist(), strict=True))
        del means["tokens"]
        self.collected_tokens = int(sums[0])
        largest = dict(zip(self._maxima, maxima.tolist(), strict=True))
        self._sums, self._maxima = {}, {}
        return means | largest


def check_sampler_drift(metrics: dict[str, float], limit: float | None, sampler: str, step: int) -> None:
    """Stop a run whose sampler is no longer the policy that is trained.

    Args:
        metrics: Of `TokenMetrics.collect`, equal on all ranks, so that all of them stop.
        limit: Mean absolute difference of log-probabilities in nats a token; None allows any.
        sampler: Version of the model that sampled.

    Raises:
        SamplerDriftError: The limit is passed, or the difference is not a number.
    """
    drift = metrics[_DRIFT]
    if limit is None or drift <= limit:
        return
    raise SamplerDriftError(
        f"step {step}: the log-probabilities that the sampler ({sampler}) recorded and those that the trainer computes "
        f"for the same tokens differ by {drift:.3g} nats a token on average (at most "
        f"{metrics['sampling/sampling_logp_difference/max']:.3g}); max_sampler_drift allows {limit:g}. The rollouts no "
        f"longer come from the policy that is trained. Check that the sampler serves this model, with this tokenizer, "
        f"and is given its new weights after each step; sample in a higher precision; or, if the sampler is meant to "
        f"differ, raise max_sampler_drift"
    )
