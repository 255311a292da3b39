"""Reaching or starting a model server."""
