"""The paper's experiments: a grid of runs, and its tables and figures beside ours."""
