"""Reads and writes PyTorch weight files without PyTorch, and maps the authors' parameter names."""
