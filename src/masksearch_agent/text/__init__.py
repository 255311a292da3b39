"""Words of any script, and when two answers are the same."""
