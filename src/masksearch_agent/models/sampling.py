"""Picks the next token of every row of a batch, each by its own settings and seed."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence

import torch

from masksearch_agent.errors import ModelError
from masksearch_agent.records import Sampling

__all__ = ("RowSampler", "pick_tokens", "require_usable")


class RowSampler:
    """What one sequence is sampled with, and where its chance comes from.

    With a seed, its tokens depend on the seed and the logits only, not on what else is in the batch.
    """

    def __init__(self, sampling: Sampling) -> None:
        self.sampling = sampling
        self._random = random.Random(sampling.seed) if sampling.seed is not None else None

    def draw(self) -> float:
        """Return the next number from [0, 1)."""
        return self._random.random() if self._random is not None else float(torch.rand(()))


def pick_tokens(logits: torch.Tensor, rows: Sequence[RowSampler]) -> tuple[list[int], list[float]]:
    """Sample one token for each of the `B` rows of logits `(B, V)`.

    Returns:
        The `B` tokens and their log-probabilities under the unscaled distribution, whatever the temperature and the
        nucleus, because that is what a trainer recomputes.
    """
    logits = logits.float()
    logprobs = torch.log_softmax(logits, dim=-1)
    tokens = logits.argmax(dim=-1)
    random_rows = [index for index, row in enumerate(rows) if row.sampling.temperature > 0]
    if random_rows:
        settings = [rows[index].sampling for index in random_rows]
        temperatures = logits.new_tensor([[sampling.temperature] for sampling in settings])
        probabilities = torch.softmax(logits[random_rows] / temperatures, dim=-1)
        if any(sampling.top_p < 1 for sampling in settings):
            top_p = logits.new_tensor([[sampling.top_p] for sampling in settings])
            probabilities = _keep_nucleus(probabilities, top_p)
        draws = probabilities.new_tensor([[rows[index].draw()] for index in random_rows])
        tokens[random_rows] = _invert(probabilities, draws)
    chosen = logprobs.gather(1, tokens.unsqueeze(1)).squeeze(1)
    return tokens.tolist(), chosen.tolist()


def require_usable(sampling: Sampling) -> None:
    """Raise a `ModelError` where settings name no distribution."""
    if not (0 <= sampling.temperature < math.inf and 0 < sampling.top_p <= 1):
        raise ModelError(
            f"cannot sample with temperature {sampling.temperature} and top_p {sampling.top_p}; expected a "
            f"temperature of at least 0 and a top_p in (0, 1]"
        )
    if sampling.max_tokens < 1:
        raise ModelError(f"cannot sample {sampling.max_tokens} tokens; expected a max_tokens of at least 1")
    if not all(sampling.stop):
        raise ModelError("a stop string is empty; leave it out")


def _keep_nucleus(probabilities: torch.Tensor, top_p: torch.Tensor) -> torch.Tensor:
    """Zero all but the likeliest tokens whose probabilities reach `top_p` together (Holtzman et al. 2020)."""
    ordered, order = probabilities.sort(dim=-1, descending=True)
    before = ordered.cumsum(dim=-1) - ordered
    # A nucleus of the whole distribution must not lose its tail to rounding.
    ordered = ordered.masked_fill((before >= top_p) & (top_p < 1), 0.0)
    return torch.zeros_like(probabilities).scatter(1, order, ordered)


def _invert(probabilities: torch.Tensor, draws: torch.Tensor) -> torch.Tensor:
    """Return the token at a share of each row's probability: inverse transform sampling."""
    reached = probabilities.double().cumsum(dim=-1)
    tokens = torch.searchsorted(reached, draws.double() * reached[:, -1:], right=True).squeeze(1)
    # A draw that rounds up to the total belongs to the last token that has any probability.
    last = (probabilities > 0).int().cumsum(dim=-1).argmax(dim=-1)
    return torch.minimum(tokens, last)
