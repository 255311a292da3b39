"""Settings of the trajectory generator."""

from __future__ import annotations

from pydantic import Field

from masksearch_agent.config.base import Settings

__all__ = ("GeneratorSettings",)


class GeneratorSettings(Settings):
    """How the generator searches and how many tasks it works on at once."""

    max_rounds: int = Field(default=5, ge=1)
    """Search rounds of a trajectory; the paper takes 5."""
    needs_per_round: int = Field(default=1, ge=1)
    """Masks of a RAMP task that the hindsight teacher looks up in one round."""
    attempts_per_need: int = Field(default=2, ge=1)
    """Queries that the hindsight teacher tries before it gives a need up."""
    concurrency: int = Field(default=64, ge=1)
    """Tasks in flight at once."""
    seed: int = 0
