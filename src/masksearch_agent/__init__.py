"""Train, serve and evaluate search agents on your own documents (MaskSearch, arXiv 2505.20285).

The names below are imported on first use, so that importing the package stays fast.
"""

from __future__ import annotations

import importlib
import logging
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from masksearch_agent.agent.runnable import MaskSearchAgent
    from masksearch_agent.config.agent import AgentSettings
    from masksearch_agent.records import CHECKPOINTED, Passage, SearchAnswer, SearchTask, Trajectory
    from masksearch_agent.retrieval.index import build_index
    from masksearch_agent.retrieval.retriever import MaskSearchEmbeddings, MaskSearchRetriever

__all__ = (
    "CHECKPOINTED",
    "AgentSettings",
    "MaskSearchAgent",
    "MaskSearchEmbeddings",
    "MaskSearchRetriever",
    "Passage",
    "SearchAnswer",
    "SearchTask",
    "Trajectory",
    "build_index",
)

__version__ = "0.1.0"

_HOMES = {
    "AgentSettings": "masksearch_agent.config.agent",
    "CHECKPOINTED": "masksearch_agent.records",
    "MaskSearchAgent": "masksearch_agent.agent.runnable",
    "MaskSearchEmbeddings": "masksearch_agent.retrieval.retriever",
    "MaskSearchRetriever": "masksearch_agent.retrieval.retriever",
    "Passage": "masksearch_agent.records",
    "SearchAnswer": "masksearch_agent.records",
    "SearchTask": "masksearch_agent.records",
    "Trajectory": "masksearch_agent.records",
    "build_index": "masksearch_agent.retrieval.index",
}

logging.getLogger(__name__).addHandler(logging.NullHandler())


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)
