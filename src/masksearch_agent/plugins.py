"""What can be added without touching this package: benchmarks, rewards, retriever modes, base models, optimizers.

Each kind is a registry. What comes with the package is one module each in the kind's own folder, found by its file
name; another package brings more as entry points, and an application adds one with `register`:

    [project.entry-points."masksearch_agent.rewards"]
    politeness = "my_package.rewards:politeness"

A module is imported when its name is asked for, so a list of names costs nothing.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Mapping
from functools import cached_property
from importlib.metadata import EntryPoint, entry_points
from importlib.util import find_spec
from typing import Any

from masksearch_agent.errors import ConfigError

__all__ = ("BASE_MODELS", "BENCHMARKS", "OPTIMIZERS", "RETRIEVER_MODES", "REWARDS", "Registry")


class Registry:
    """The plugins of one kind, by name.

    Args:
        kind: What one is, in words, for messages.
        group: Name of the entry points.
        folder: Package whose modules are plugins too; empty where there is none.
        attribute: What such a module defines.
        aliases: Names that a module cannot have, each with that of its module.
    """

    def __init__(
        self,
        kind: str,
        group: str,
        folder: str = "",
        attribute: str = "",
        aliases: Mapping[str, str] | None = None,
    ) -> None:
        self.kind = kind
        self.group = group
        self.folder = folder
        self.attribute = attribute
        self.aliases = aliases or {}
        self._registered: dict[str, Any] = {}

    def register(self, name: str, plugin: Any) -> None:
        """Add a plugin in this process; it takes the place of another one of this name."""
        self._registered[name] = plugin
        self.__dict__.pop("_all", None)

    def names(self) -> tuple[str, ...]:
        """Return the names of all that can be asked for, sorted."""
        return tuple(sorted({*self._registered, *self._entry_points, *self._modules}))

    def plugins(self) -> tuple[Any, ...]:
        """Return all of them, in the order of their names; the first call imports them."""
        return self._all

    def check(self, name: str) -> str:
        """Return the name.

        Raises:
            ConfigError: No plugin has this name.
        """
        if name not in self.names() and name not in self.aliases:
            raise ConfigError(
                f"there is no {self.kind} called {name!r}; expected one of {', '.join(self.names())}, or install the "
                f"package that brings it (entry points {self.group!r})"
            )
        return name

    def get(self, name: str) -> Any:
        """Return a plugin.

        Raises:
            ConfigError: No plugin has this name.
        """
        name = self.aliases.get(name, name)
        if name in self._registered:
            return self._registered[name]
        if name in self._entry_points:
            return self._entry_points[name].load()
        if name in self._modules:
            return getattr(importlib.import_module(f"{self.folder}.{name}"), self.attribute)
        return self.check(name)

    @cached_property
    def _all(self) -> tuple[Any, ...]:
        return tuple(self.get(name) for name in self.names())

    @cached_property
    def _entry_points(self) -> dict[str, EntryPoint]:
        return {found.name: found for found in entry_points(group=self.group)}

    @cached_property
    def _modules(self) -> frozenset[str]:
        """The modules of the folder; one whose name begins with `_` is no plugin."""
        spec = find_spec(self.folder) if self.folder else None
        places = spec.submodule_search_locations if spec is not None else None
        return frozenset(m.name for m in pkgutil.iter_modules(places or ()) if not m.name.startswith("_"))


BENCHMARKS = Registry(
    "benchmark",
    "masksearch_agent.benchmarks",
    "masksearch_agent.benchmarks",
    "BENCHMARK",
    {"2wikimultihopqa": "twowikimultihopqa"},
)
"""A benchmark: its format, gold passages and metric (`benchmarks`)."""

REWARDS = Registry("reward", "masksearch_agent.rewards", "masksearch_agent.rewards.answers", "REWARD")
"""An answer reward (`rewards.answers`)."""

RETRIEVER_MODES = Registry(
    "retriever mode", "masksearch_agent.retriever_modes", "masksearch_agent.retrieval.modes", "MODE"
)
"""A way to build and search an index (`retrieval.modes`)."""

BASE_MODELS = Registry("base model", "masksearch_agent.base_models")
"""A function that returns the folder of a checkpoint, for recipes that name it as their model."""

OPTIMIZERS = Registry("optimizer", "masksearch_agent.optimizers")
"""A function that makes an optimizer of a model and `OptimizerSettings`; `adamw` is the trainer's own."""
