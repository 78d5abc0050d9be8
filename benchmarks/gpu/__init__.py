"""The benchmark of the GPU path, without a server: `python -m benchmarks.gpu`."""
