"""The search agent as a deployable graph.

Either `MASKSEARCH_AGENT` names an agent bundle (default `runs/quickstart/agent`), or `MASKSEARCH_MODEL` any chat model,
as `openai:gpt-5-mini`, and `MASKSEARCH_INDEX` what it searches, an index folder or a web search as `web:wikipedia`; the
latter needs neither torch nor transformers. What clients may choose by name instead is listed, with commas, in
`MASKSEARCH_MODELS` and `MASKSEARCH_INDEXES`; by default that is nothing.
"""

import os

from masksearch_agent import MaskSearchAgent
from masksearch_agent.agent.context import Choices
from masksearch_agent.errors import ConfigError


def make_agent() -> MaskSearchAgent:
    """Return the agent that the environment names."""
    choices = Choices.listed(
        os.environ.get("MASKSEARCH_MODELS", ""), os.environ.get("MASKSEARCH_INDEXES", "")
    )
    model, index = os.environ.get("MASKSEARCH_MODEL"), os.environ.get("MASKSEARCH_INDEX")
    if model is None:
        bundle = os.environ.get("MASKSEARCH_AGENT", "runs/quickstart/agent")
        return MaskSearchAgent.from_pretrained(bundle, search=index, choices=choices)
    if index is None:
        raise ConfigError(
            f"MASKSEARCH_MODEL is {model!r}, but MASKSEARCH_INDEX, which says what it searches, is not set; set it to "
            "an index folder or to a web search, as `web:wikipedia`"
        )
    return MaskSearchAgent(model, index, choices=choices)


graph = make_agent().graph
