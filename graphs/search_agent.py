"""The search agent as a deployable graph.

`MASKSEARCH_AGENT` names an agent bundle (default `runs/quickstart/agent`).
"""

import os

from masksearch_agent import MaskSearchAgent

graph = MaskSearchAgent.from_pretrained(os.environ.get("MASKSEARCH_AGENT", "runs/quickstart/agent")).graph
