"""The packages that a result depends on, as it is kept in reports and bundles."""

from __future__ import annotations

import importlib.metadata

__all__ = ("package_versions",)

_PACKAGES = (
    *("masksearch-agent", "torch", "transformers", "trl", "langgraph", "langchain-core"),
    *("chromadb", "bm25s"),
)


def package_versions() -> dict[str, str]:
    """Return the versions of those that are installed."""
    versions = {}
    for name in _PACKAGES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions
