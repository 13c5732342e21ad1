"""Handles processes, devices, signals, locks and files; knows nothing of segmentation."""
