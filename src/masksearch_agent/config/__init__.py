"""Typed settings, one module a room; a recipe is one YAML file of them."""
