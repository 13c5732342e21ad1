"""Saves and restores a run: checkpoints, their checksums, and its config."""
