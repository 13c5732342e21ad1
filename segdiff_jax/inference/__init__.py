"""Samples masks: an image -> tiles -> devices -> averaged generations."""
