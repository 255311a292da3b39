"""The search agent as a deployable graph.

`MASKSEARCH_AGENT` names an agent bundle (default `runs/quickstart/agent`). What clients may choose by name instead of
its own model and index is listed, with commas, in `MASKSEARCH_MODELS` and `MASKSEARCH_INDEXES`; by default that is
nothing.
"""

import os

from masksearch_agent import MaskSearchAgent
from masksearch_agent.agent.context import Choices

graph = MaskSearchAgent.from_pretrained(
    os.environ.get("MASKSEARCH_AGENT", "runs/quickstart/agent"),
    choices=Choices.listed(os.environ.get("MASKSEARCH_MODELS", ""), os.environ.get("MASKSEARCH_INDEXES", "")),
).graph
