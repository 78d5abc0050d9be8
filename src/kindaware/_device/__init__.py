"""What happens on the device: streams and copies, staging buffers, CUDA graphs, modules."""
