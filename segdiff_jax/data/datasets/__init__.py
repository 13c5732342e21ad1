"""Prepares and loads the data sets by name."""
