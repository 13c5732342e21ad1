"""Reads and writes image files exactly, or names the file and why not."""
