"""The export stage: the agent that a run serves stands on its own."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from masksearch_agent.agent.bundle import read_bundle_info, save_bundle
from masksearch_agent.models.local import load_checkpoint
from masksearch_agent.stages.base import index_of_bundle
from masksearch_agent.stages.display import Bar
from masksearch_agent.stages.stage import AgentFolder, Site, Stage

__all__ = ("Export",)


@dataclass(frozen=True, kw_only=True, eq=False)
class Export(Stage):
    """Copies an agent into a folder of its own."""

    kind = "export"

    agent: AgentFolder

    def work(self, folder: Path, site: Site, bar: Bar) -> None:
        """Copy the weights and say where its index is from here."""
        source = site.where(self.agent)
        info = read_bundle_info(source)
        index = index_of_bundle(source / info.index, folder) if info.index else ""
        model, tokenizer = load_checkpoint(source)
        save_bundle(model, tokenizer, info.model_copy(update={"index": index}), folder)
