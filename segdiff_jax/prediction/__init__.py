"""Predicts a folder of images: the parts of the program `predict`."""
