"""Measures speed and memory: `python -m benchmarks.run` prints a table and writes JSON."""
