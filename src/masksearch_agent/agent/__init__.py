"""The protocol, the prompts, the search graph, `MaskSearchAgent` and the agent bundle."""
