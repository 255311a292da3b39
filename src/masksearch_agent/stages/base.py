"""The base stage: a model becomes an agent without any search training."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from masksearch_agent.agent.bundle import BundleInfo, save_bundle
from masksearch_agent.agent.prompts import PromptSet
from masksearch_agent.agent.protocol import PROTOCOL_VERSION
from masksearch_agent.config.agent import AgentSettings
from masksearch_agent.environment import package_versions
from masksearch_agent.models.local import load_checkpoint, require_checkpoint
from masksearch_agent.plugins import BASE_MODELS
from masksearch_agent.retrieval.adapters import is_folder
from masksearch_agent.stages.display import Bar
from masksearch_agent.stages.stage import AgentStage, IndexFolder, Site

__all__ = ("BaseAgent", "index_of_bundle", "make_base_bundle")


@dataclass(frozen=True, kw_only=True, eq=False)
class BaseAgent(AgentStage):
    """Wraps a base model as an agent without any search training."""

    kind = "base"

    model: str
    """Checkpoint folder, hub id, or the name of a registered base model."""
    run: str
    """Name of the run, for the model version."""
    prompts: PromptSet
    settings: AgentSettings
    index: IndexFolder | None = None
    """What it searches by default; None for a web search."""
    search_mode: str | None = None

    def check(self) -> None:
        """Raise a ModelError where the model is a folder that is not there."""
        if self.model not in BASE_MODELS.names():
            require_checkpoint(self.model)

    def work(self, folder: Path, site: Site, bar: Bar) -> None:
        """Copy the model into a bundle."""
        index = index_of_bundle(site.where(self.index), folder) if self.index is not None else ""
        make_base_bundle(self.model, self.run, self.prompts, self.settings, folder, index, self.search_mode)


def make_base_bundle(
    model: str,
    run: str,
    prompts: PromptSet,
    settings: AgentSettings,
    directory: Path,
    index: str = "",
    search_mode: str | None = None,
) -> BundleInfo:
    """Wrap a base model as a bundle.

    Args:
        model, run: See `BaseAgent`.
        index: Folder of the index, relative to the bundle.
        search_mode: How the index is searched; None opens it as it was built.
    """
    weights, tokenizer = load_checkpoint(model)
    info = BundleInfo(
        protocol_version=PROTOCOL_VERSION,
        prompts=prompts,
        agent=settings,
        model_version=f"{run}/base",
        index=index,
        search_mode=search_mode,
        provenance={"base_model": model, "versions": package_versions()},
    )
    save_bundle(weights, tokenizer, info, directory)
    return info


def index_of_bundle(index: Path, bundle: Path) -> str:
    """Return where an index is from a bundle's folder, as its description says it; nothing for a search elsewhere."""
    if not is_folder(index):
        return ""
    return os.path.relpath(index.resolve(), bundle.resolve())
