"""The baselines of the paper's table: the untrained model, with one search or with as many as it wants.

MaskSearch (arXiv 2505.20285, main results): RAG-PE retrieves once and then answers; Agent-PE is the whole search graph.
Both have the model that training started from, with the same prompts, limits and search as the trained agent.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from masksearch_agent.agent.runnable import MaskSearchAgent
from masksearch_agent.errors import EvaluationError
from masksearch_agent.evaluation.answering import Mode
from masksearch_agent.models.local import LocalChatModel

__all__ = ("BASELINES", "Baseline", "baseline_of")

Baseline = Literal["rag-pe", "agent-pe"]
BASELINES: Mapping[Baseline, Mode] = {"rag-pe": "rag", "agent-pe": "agentic"}
"""How each baseline answers."""


def baseline_of(agent: MaskSearchAgent, base_model: str | Path | None = None) -> MaskSearchAgent:
    """Return the agent with the model that its training started from.

    Args:
        agent: A trained agent; one over a model that was not trained here is its own baseline.
        base_model: Checkpoint folder or hub id, where the one that the bundle names is not to be had any more.

    Raises:
        EvaluationError: The bundle does not say what it was trained from.
    """
    if agent.bundle is None and base_model is None:
        return agent
    source = base_model or (agent.bundle.provenance.get("base_model") if agent.bundle else None)
    if not source:
        raise EvaluationError(
            "the bundle does not say which model it was trained from; name it (`--base-model`)"
        )
    model = LocalChatModel.from_pretrained(
        source, max_tokens=agent.settings.max_step_tokens, model_version=f"{source} (untrained)"
    )
    return agent.replace(model=model)
