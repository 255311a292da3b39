"""The command line: each stage of the loop on the files of the one before it, and the whole loop at once.

Heavy packages are imported by the command that needs them, so `--help` is immediate. Results go to standard
output (as JSON with `--json`), progress and messages to standard error.
"""

# The order of the imports is that of `masksearch --help`.
from masksearch_agent.cli import lab, data, training, evaluation, agents, runs  # noqa: F401, I001
from masksearch_agent.cli.application import app, main

__all__ = ("app", "main")
