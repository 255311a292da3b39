"""Benchmark adapters, metrics, the runner and the report."""
