"""Describes every field of a config: defaults, allowed values, relations."""

from segdiff_jax.config.schema import default as default
from segdiff_jax.config.schema import flatten as flatten
