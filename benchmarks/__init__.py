"""How fast it is: `python -m benchmarks.run` prints a table and writes JSON."""
