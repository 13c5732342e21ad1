"""Scores a split and writes its report."""
