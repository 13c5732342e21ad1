"""Computes the layers of the networks: pure functions without flax, each beside its reference.

`switch.reference_ops()` or SEGDIFF_REFERENCE_OPS=1 turns every fast form off at once.
"""
