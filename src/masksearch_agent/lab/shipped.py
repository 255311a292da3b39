"""The recipes that the package ships, one for each run that needs no documents of yours."""

from __future__ import annotations

from pathlib import Path

__all__ = ("shipped_recipe",)


def shipped_recipe(name: str) -> Path:
    """Return the file of a shipped recipe: `quickstart`, `evolve` or `ablate`."""
    return Path(__file__).with_name(f"{name}.yaml")
