"""The baselines: the untrained model, with one search or with as many as it wants, asked in tags or in plain text.

MaskSearch (arXiv 2505.20285, main results): RAG-PE retrieves once and then answers; Agent-PE is the whole search graph.
Both have the model that training started from, with the same limits and search as the trained agent, and its prompts
with worked examples, without which a base model writes no tags. The third
one is not the paper's: `three_shot`, what a practitioner would run with that model and that search.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from masksearch_agent.agent.prompts import add_examples
from masksearch_agent.agent.runnable import MaskSearchAgent
from masksearch_agent.errors import EvaluationError
from masksearch_agent.evaluation.answering import Mode
from masksearch_agent.models.local import LocalChatModel

__all__ = ("BASELINES", "Baseline", "baseline_of")

Baseline = Literal["rag-3shot", "rag-pe", "agent-pe"]
BASELINES: Mapping[Baseline, Mode] = {"rag-3shot": "rag-3shot", "rag-pe": "rag", "agent-pe": "agentic"}
"""How each baseline answers."""


def baseline_of(agent: MaskSearchAgent, base_model: str | Path | None = None) -> MaskSearchAgent:
    """Return the agent with the model that its training started from, and worked examples in its prompts.

    An untrained model writes no tags of itself, and whoever runs one shows it examples (`add_examples` says when not).

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
    prompts, kind = agent.prompts, "untrained"
    if agent.settings.dialect == "tags":
        prompts = add_examples(prompts, agent.settings.answer_form)
        kind = "untrained, few-shot" if prompts.has_examples else kind
    model = LocalChatModel.from_pretrained(
        source, max_tokens=agent.settings.max_step_tokens, model_version=f"{source} ({kind})"
    )
    return agent.replace(model=model, prompts=prompts)
