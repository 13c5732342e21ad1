"""Describes every field of a config: defaults, allowed values, relations."""

from segdiff_jax.config.defaults import default as default
from segdiff_jax.config.defaults import flatten as flatten
