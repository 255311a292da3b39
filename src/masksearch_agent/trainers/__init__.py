"""SFT, rollouts through the agent graph, DAPO and its curriculum."""
