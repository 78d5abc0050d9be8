"""The data that flows through a batch: Triton's data types, BYTES arrays, rows concatenated and split."""
