"""Describes every field of a config: defaults, allowed values, relations."""

from segdiff_jax.config.schema import SCORING_FIELDS as SCORING_FIELDS
from segdiff_jax.config.schema import default as default
from segdiff_jax.config.schema import flatten as flatten
