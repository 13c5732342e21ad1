"""The program that writes a trained network for others: a folder, a file, a program of XLA."""
