"""Turns a folder of images into a folder of masks: the parts of `predict`."""
