"""The programs that calibrate a run, and that rate masks with it."""
