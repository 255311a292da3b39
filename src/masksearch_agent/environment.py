"""What results depend on (packages, cores), as reports and bundles keep it, and what the processor can do."""

from __future__ import annotations

import importlib.metadata
import os
from contextlib import suppress

__all__ = ("computes_bfloat16", "package_versions", "usable_cores")

_PACKAGES = [
    "masksearch-agent",
    "torch",
    "transformers",
    "trl",
    "langgraph",
    "langchain-core",
    "chromadb",
    "tantivy",
]


def package_versions() -> dict[str, str]:
    """Return the versions of those that are installed."""
    versions = {}
    for name in _PACKAGES:
        with suppress(importlib.metadata.PackageNotFoundError):
            versions[name] = importlib.metadata.version(name)
    return versions


def usable_cores() -> int:
    """Return how many processor cores this process may run on, which can be fewer than the machine has."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def computes_bfloat16(is_on_cpu: bool = False) -> bool:
    """Whether torch computes in bfloat16 here, on the GPU where there is one; other CPUs take fifty times as long.

    What a recipe or a checkpoint holds in bfloat16 is computed in float32 then.

    Args:
        is_on_cpu: Ask of the CPU, GPU or not.
    """
    import torch

    return (torch.cuda.is_available() and not is_on_cpu) or torch.cpu._is_avx512_bf16_supported()
