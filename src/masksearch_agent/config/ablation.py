"""Settings of the ablations: which comparisons, on which seeds, and what counts as a difference."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Literal, TypeVar, get_args

from pydantic import Field, field_validator

from masksearch_agent.config.base import Settings
from masksearch_agent.config.trainers import SFTSettings

__all__ = ("EXPERIMENTS", "AblationSettings", "Experiment")

Experiment = Literal["table", "tokens", "curriculum", "rewards", "sampling", "leak_guard", "evolution"]
"""The paper's table with the same downstream budget, and with the same total tokens; curriculum against mixed masks;
the answer rewards; dynamic sampling, and the leak guard, on and off; self-evolution."""

EXPERIMENTS: tuple[Experiment, ...] = get_args(Experiment)

_ItemT = TypeVar("_ItemT", bound=Hashable)


class AblationSettings(Settings):
    """What is compared. How each stage trains is `ramp_sft`, `ramp_dapo`, `qa_sft` and `qa_dapo`: every arm of a
    comparison has them in common, but for what it compares."""

    seeds: tuple[int, ...] = Field(default=(0, 1, 2), min_length=1)
    """Each is a closed world, an order of the data and a sampling of its own."""
    only: tuple[Experiment, ...] = Field(default=EXPERIMENTS, min_length=1)
    """Comparisons to make."""
    warm_start: SFTSettings = SFTSettings(max_steps=100)
    """Short SFT before every stage of RL, on that stage's own trajectories: a model that has never seen a search would
    earn no reward to learn from. It counts as part of the stage."""
    evolution_sft: SFTSettings = SFTSettings()
    """How each round of self-evolution trains."""
    smallest_gain: float = Field(default=0.02, gt=0)
    """A gain that matters, in the unit of the score. A claim whose whole interval lies below it is not reproduced."""

    @field_validator("seeds", "only")
    @classmethod
    def _items_are_distinct(cls, items: tuple[_ItemT, ...]) -> tuple[_ItemT, ...]:
        """Counted twice, a seed would make intervals narrower than they are."""
        if len(set(items)) < len(items):
            raise ValueError("the same one stands there twice")
        return items
