"""Turns a config into objects; no package below this one sees a config."""
