"""The trajectory generator as a deployable graph, played by the hindsight teacher.

`MASKSEARCH_INDEX` names an index folder (default `runs/quickstart/index`). Input: `{"task": {…}}`, a search task
as a line of a task file holds it.
"""

import os

from masksearch_agent.agent.prompts import FULL_PROMPTS
from masksearch_agent.config.agent import AgentSettings
from masksearch_agent.generator.runner import TrajectoryGenerator
from masksearch_agent.retrieval.adapters import as_search

graph = TrajectoryGenerator(
    as_search(os.environ.get("MASKSEARCH_INDEX", "runs/quickstart/index")), FULL_PROMPTS, AgentSettings()
).graph
