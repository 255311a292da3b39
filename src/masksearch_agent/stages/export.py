"""The export stage: the agent that a run serves stands on its own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from masksearch_agent.agent.bundle import read_bundle_info, save_bundle
from masksearch_agent.agent.prompts import PromptSet
from masksearch_agent.models.local import load_checkpoint
from masksearch_agent.stages.base import index_of_bundle
from masksearch_agent.stages.display import Bar
from masksearch_agent.stages.stage import AgentFolder, Site, Stage

__all__ = ("Export", "copy_bundle")


@dataclass(frozen=True, kw_only=True, eq=False)
class Export(Stage):
    """Copies an agent into a folder of its own."""

    kind = "export"

    agent: AgentFolder

    def work(self, folder: Path, site: Site, bar: Bar) -> None:
        """Copy it."""
        copy_bundle(site.where(self.agent), folder)


def copy_bundle(
    source: Path,
    folder: Path,
    prompts: PromptSet | None = None,
    provenance: Mapping[str, Any] | None = None,
) -> None:
    """Copy a bundle's weights and say where its index is from the new folder.

    Args:
        source: The bundle.
        folder: Where the copy goes.
        prompts: Take the place of its own.
        provenance: Added to its own.
    """
    info = read_bundle_info(source)
    index = index_of_bundle(source / info.index, folder) if info.index else ""
    changes = {
        "prompts": prompts or info.prompts,
        "index": index,
        "provenance": {**info.provenance, **(provenance or {})},
    }
    model, tokenizer = load_checkpoint(source)
    save_bundle(model, tokenizer, info.model_copy(update=changes), folder)
