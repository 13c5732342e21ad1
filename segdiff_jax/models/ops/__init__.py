"""Computes what networks are made of: pure functions without flax, each beside its reference."""
