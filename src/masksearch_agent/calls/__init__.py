"""Calls to services that are not ours: patience, strict replies, and what they cost."""
