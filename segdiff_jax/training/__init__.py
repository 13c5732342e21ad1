"""Trains: objectives, the training step and its metrics, as pure functions without a config."""
