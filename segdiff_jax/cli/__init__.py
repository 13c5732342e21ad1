"""Parses command lines; nothing in this package imports jax."""
