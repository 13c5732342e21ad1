"""Turns predictions into what a user reads, with a fit: quality, intervals, objects, ratings."""
