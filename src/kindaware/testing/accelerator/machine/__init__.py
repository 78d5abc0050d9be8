"""The simulated machine: its streams, memory, processes and GPUs. Knows no subclass of tensor."""
