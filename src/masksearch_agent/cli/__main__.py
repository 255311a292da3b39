"""`python -m masksearch_agent.cli`, for launchers that take a module (torchrun, accelerate)."""

from masksearch_agent.cli import main

main()
