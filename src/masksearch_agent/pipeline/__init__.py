"""Whole runs: stages in order, each resumable, from a corpus to an evaluated agent."""
