"""Data types, BYTES arrays, and rows concatenated and split."""
