"""Recording chat models: local transformers and the tiny model made from scratch."""
