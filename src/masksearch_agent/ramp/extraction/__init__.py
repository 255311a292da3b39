"""Who finds the spans of a passage (spaCy, GLiNER, a chat model), and the rules that spans have to pass."""
