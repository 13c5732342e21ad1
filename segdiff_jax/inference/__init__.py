"""Samples masks: from an image through tiles and devices to averaged generations."""
