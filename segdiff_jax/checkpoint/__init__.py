"""Saves and restores the state and the config of a run, and checks both."""
