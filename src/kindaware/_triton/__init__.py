"""What speaks to Triton's Python API, one module for each of its surfaces."""
