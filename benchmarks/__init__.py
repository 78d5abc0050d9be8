"""Benchmarks of kindaware on a real tritonserver; `python -m benchmarks --help` says how to run them."""
