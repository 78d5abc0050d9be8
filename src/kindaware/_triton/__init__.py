"""The only code that uses Triton's Python API, with one module for each part of it."""
