"""The packages that a result depends on, and the cores that it was made on, as they are kept in reports and bundles."""

from __future__ import annotations

import importlib.metadata
import os
from contextlib import suppress

__all__ = ("package_versions", "usable_cores")

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
