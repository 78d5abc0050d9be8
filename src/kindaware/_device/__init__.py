"""The device of an instance: streams and copies, staging buffers, CUDA graphs, modules, and its health."""
