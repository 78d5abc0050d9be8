"""What is measured, and what is made of it: see docs/explanation/performance.md and docs/contributing/gpu.md.

- `forms`: the models that are compared.
- `servers`: real servers, and load on them.
- `parts`: a module for each part of `python -m benchmarks`.
- `gpu`: `python -m benchmarks.gpu`, the GPU path without a server.
- `report`: tables, the page in the documentation and its plot.
- `results`: the figures that are kept.
"""
