"""Muon for the hidden matrices, AdamW for the rest, as one optimizer.

Muon orthogonalises the momentum of a matrix before the step (Jordan et al. 2024, `torch.optim.Muon`). It takes
two-dimensional parameters only and is not meant for embeddings, so the others go to AdamW. For the tiny model
it learns to copy names out of passages several times faster than AdamW alone.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from masksearch_agent.config.trainers import OptimizerSettings

__all__ = ("MuonWithAdamW", "make_muon_with_adamw")


class MuonWithAdamW(torch.optim.Optimizer):
    """Two optimizers behind one interface; learning-rate schedulers see the groups of both."""

    def __init__(
        self,
        matrices: list[nn.Parameter],
        others: list[nn.Parameter],
        muon_learning_rate: float,
        adamw_learning_rate: float,
    ) -> None:
        self.parts: list[torch.optim.Optimizer] = []
        if matrices:
            self.parts.append(torch.optim.Muon(matrices, lr=muon_learning_rate, weight_decay=0.0))
        if others:  # adapters are matrices only
            self.parts.append(
                torch.optim.AdamW(others, lr=adamw_learning_rate, weight_decay=0.0, betas=(0.9, 0.95))
            )
        super().__init__([{"params": matrices + others}], {})
        # The schedulers and accelerate reach the learning rates through these very dictionaries.
        self.param_groups = [group for part in self.parts for group in part.param_groups]

    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Step both parts."""
        loss = closure() if closure is not None else None
        for part in self.parts:
            part.step()
        return loss

    def state_dict(self) -> dict[str, Any]:
        """Return the states of both parts."""
        return {"parts": [part.state_dict() for part in self.parts]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        for part, state in zip(self.parts, state_dict["parts"], strict=True):
            part.load_state_dict(state)
        self.param_groups = [group for part in self.parts for group in part.param_groups]


def make_muon_with_adamw(model: nn.Module, settings: OptimizerSettings) -> MuonWithAdamW:
    """Give a model's hidden matrices to Muon and its embeddings, norms and biases to AdamW."""
    matrices: list[nn.Parameter] = []
    others: list[nn.Parameter] = []
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        is_hidden_matrix = parameter.ndim == 2 and "embed" not in name and "lm_head" not in name
        (matrices if is_hidden_matrix else others).append(parameter)
    return MuonWithAdamW(matrices, others, settings.muon_learning_rate, settings.learning_rate)
