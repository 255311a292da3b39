"""Settings of an evaluation run."""

from __future__ import annotations

from pydantic import Field

from masksearch_agent.config.base import Settings

__all__ = ("EvaluationSettings",)


class EvaluationSettings(Settings):
    """How an agent is evaluated."""

    concurrency: int = Field(default=64, ge=1)
    """Questions in flight at once."""
    limit: int | None = Field(default=None, ge=1)
    """Questions read of each file; None for all."""
    bootstrap_samples: int = Field(default=2000, ge=100)
    """Resamples behind the confidence intervals."""
    seed: int = 0
