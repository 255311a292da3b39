"""Settings of the engine that generation, masking and evaluation run on."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from masksearch_agent.config.base import Settings

__all__ = ("EngineSettings",)


class EngineSettings(Settings):
    """Where `generate`, `ramp build` and `eval` do their work, and in what portions."""

    name: Literal["local", "ray"] = "local"
    """`local` works in this process, `ray` in the worker processes of a Ray cluster."""
    ray_address: str | None = None
    """Cluster to join, as `host:port` of its head, or `auto` for the one that this machine belongs to. None takes
    `RAY_ADDRESS` from the environment; where that is not set either, a cluster of this machine alone is started,
    which listens on 127.0.0.1 only and ends with the command."""
    workers: int | None = Field(default=None, ge=1)
    """Workers of a cluster that is started here; None for one per core. One that is joined has as many as fit."""
    cpus_per_worker: float = Field(default=1.0, gt=0)
    """Cores that a worker reserves. Workers that mostly wait for a chat model may share a core: 0.1."""
    shard_size: int = Field(default=256, ge=1)
    """Tasks, passages or questions that a worker does in one go: what is done again where it dies."""
