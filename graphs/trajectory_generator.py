"""The trajectory generator as a deployable graph, played by the hindsight teacher.

`MASKSEARCH_INDEX` names what it searches: an index folder (default `runs/quickstart/index`), a web search as
`web:wikipedia`, or a server. It is opened when the graph is first asked for, so that a server of agents needs none.
Input: `{"task": {…}}`, a search task as a line of a task file holds it.
"""

import os
from functools import cache
from typing import Any

from masksearch_agent.agent.prompts import FULL_PROMPTS
from masksearch_agent.config.agent import AgentSettings
from masksearch_agent.generator.runner import TrajectoryGenerator
from masksearch_agent.retrieval.adapters import as_search


@cache
def make_graph() -> Any:
    """Return the generator's compiled graph.

    Raises:
        RetrievalError: There is no such index.
    """
    search = as_search(os.environ.get("MASKSEARCH_INDEX", "runs/quickstart/index"))
    return TrajectoryGenerator(search, FULL_PROMPTS, AgentSettings()).graph
