"""TFDS builders, one data set a file; they share the features of `common`."""
